import { keepDrawer, keptDrawer } from './arrangement'
import type { DrawerState } from './arrangement'
import { page } from './page'
import { say } from './say'
import { newTablist } from './tablist'

export type Panel = 'problems' | 'input'

/** What lies below the editor: it can be closed to its line of tabs. */
export interface Drawer {
  show(panel: Panel): void
  /** As it was left, or else open for a program that has input. */
  suit(hasInput: boolean): void
}

export function newDrawer(): Drawer {
  const root = document.documentElement
  const panels = { problems: page.problems, input: page.inputPanel }
  const tabs = { problems: page.problemsTab, input: page.inputTab }
  const list = newTablist(page.drawer, (tab) => {
    const panel = tab === page.inputTab ? 'input' : 'problems'
    if (isOpen() && !panels[panel].hidden) return turn('closed')
    choose(panel)
    turn('open')
  })
  const isOpen = () => root.dataset['drawer'] === 'open'

  function choose(panel: Panel): void {
    list.select(tabs[panel])
    for (const name of ['problems', 'input'] as const) panels[name].hidden = name !== panel
  }

  function set(state: DrawerState): void {
    const label = say(state === 'open' ? 'drawer_close' : 'drawer_open')
    root.dataset['drawer'] = state
    page.drawerToggle.setAttribute('aria-expanded', String(state === 'open'))
    page.drawerToggle.setAttribute('aria-label', label)
    page.drawerToggle.title = label
  }

  /** By its user, who will find it so again. */
  function turn(state: DrawerState): void {
    set(state)
    keepDrawer(state)
  }

  page.drawerToggle.addEventListener('click', () => turn(isOpen() ? 'closed' : 'open'))
  set(isOpen() ? 'open' : 'closed')
  return {
    show(panel) {
      choose(panel)
      set('open')
    },
    suit(hasInput) {
      set(keptDrawer() ?? (hasInput ? 'open' : 'closed'))
    },
  }
}
