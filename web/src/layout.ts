import { newDrawer } from './drawer'
import type { Drawer } from './drawer'
import { page } from './page'
import { newSplit } from './split'
import { newTablist } from './tablist'

export type Pane = 'code' | 'output' | 'input' | 'problems'

/** Where the parts of the page stand. Wide: two columns. Middle: one. Narrow: one part at a time. */
export interface Layout {
  readonly drawer: Drawer
  readonly narrow: boolean
  /** Brings a part into sight. */
  show(pane: Pane): void
}

// The same widths as in css/.
const wide = matchMedia('(min-width: 1000px)')
const narrow = matchMedia('(max-width: 719.98px)')

export function newLayout(): Layout {
  const drawer = newDrawer()
  const switches = newTablist(page.switch, (tab) => show(tab.dataset['pane'] as Pane))

  function show(pane: Pane): void {
    document.documentElement.dataset['pane'] = pane
    const tab = page.switch.querySelector<HTMLElement>(`[data-pane="${pane}"]`)
    if (tab !== null) switches.select(tab)
    if (!narrow.matches && (pane === 'input' || pane === 'problems')) drawer.show(pane)
  }

  function turn(): void {
    page.split.setAttribute('aria-orientation', wide.matches ? 'vertical' : 'horizontal')
  }

  newSplit(page.split, page.main, { vertical: 'columns', horizontal: 'rows' })
  newSplit(page.drawerSplit, page.code, { horizontal: 'drawer-share' }, 'behind')
  wide.addEventListener('change', turn)
  turn()
  fillWhatIsSeen()
  return {
    drawer,
    get narrow() {
      return narrow.matches
    },
    show,
  }
}

/** A touched keyboard covers the page's lower half in browsers that do not make the page smaller for it. */
function fillWhatIsSeen(): void {
  const seen = window.visualViewport
  seen?.addEventListener('resize', () => {
    // Zoomed in, less is seen for another reason.
    if (seen.scale > 1.01) return
    document.documentElement.style.setProperty('--seen-height', `${seen.height}px`)
    scrollTo(0, 0)
  })
}
