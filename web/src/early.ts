// Runs before the browser draws the page for the first time, so that nothing moves or changes colour afterwards.
import { applyAppearance } from './appearance'
import { applyShares, keptDrawer } from './arrangement'
import { compare } from './chunk'
import { store } from './store'

applyAppearance()
applyShares()
document.documentElement.dataset['pane'] = 'code'
document.documentElement.dataset['drawer'] = keptDrawer() ?? (store.get('input') === 'none' ? 'closed' : 'open')

// The rest of the page could not be had.
addEventListener('error', ({ target }) => target instanceof HTMLScriptElement && void compare(), { capture: true })

const name = document.getElementById('language-name')
if (name !== null) name.textContent = store.get('language-name') ?? ''
