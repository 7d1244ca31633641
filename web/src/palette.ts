// Seldom wanted parts in one chunk: the palette of commands, the table of keys, and the list of languages.
import type { Does, More } from './commands'
import { make } from './elements'
import { commands, keyName } from './keys'
import { say } from './say'
import { openDialog, openSearch } from './searchlist'
import type { Entry } from './searchlist'

export { openLanguages } from './languagelist'

/** A list of what can be done, narrowed by what is written. Enter does it. */
export function openPalette(does: Does, more: readonly More[]): void {
  const entry = (id: string, label: string, keys: string, act: () => void): Entry => ({
    id,
    shown: [make('span', {}, label), make('kbd', {}, keyName(keys))],
    names: [label, keyName(keys)].map((name) => name.toLowerCase()),
    act,
  })
  const entries = [
    ...commands.flatMap(({ id, keys }) => {
      const act = does[id]
      return id === 'palette' || act === undefined ? [] : [entry(id, say(`command_${id}`), keys, act)]
    }),
    ...more.map(({ label, do: act }, n) => entry(`more-${n}`, label, '', act)),
  ]
  openSearch({ className: 'palette', title: say('palette'), filter: say('palette_filter'), groups: [{ heading: '', entries }] })
}

/** All keys, the way to the palette for who has none, and what this is. */
export function openKeys(palette: () => void): void {
  const dialog = openDialog('keys-table', say('keys_title'))
  const table = make('table')
  for (const { id, keys } of commands) {
    if (keys === '') continue
    const row = table.insertRow()
    row.append(make('th', { scope: 'row' }, make('kbd', {}, keyName(keys))), make('td', {}, say(`command_${id}`)))
  }
  const all = make('button', { type: 'button' }, say('palette'))
  all.addEventListener('click', () => {
    dialog.close()
    palette()
  })
  const close = make('button', { type: 'button' }, say('close'))
  close.addEventListener('click', () => dialog.close())
  const version = document.querySelector<HTMLMetaElement>('meta[name="version"]')?.content ?? ''
  const about = make('p', {}, say('about', { version }), ' ', make('a', { href: 'status' }, say('server_status')))
  dialog.append(make('h2', {}, say('keys_title')), table, all, ' ', close, about)
  dialog.showModal()
}
