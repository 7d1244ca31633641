import { store } from './store'

// How its user has arranged the page. Each part's share is in percent: a variable of the style, remembered under the
// same name.

const names = ['columns', 'rows', 'drawer-share'] as const
export type Share = (typeof names)[number]

const root = document.documentElement

export function setShare(name: Share, percent: number | null): void {
  store.set(name, percent === null ? null : String(percent))
  apply(name, percent)
}

function apply(name: Share, percent: number | null): void {
  if (percent === null) root.style.removeProperty(`--${name}`)
  else root.style.setProperty(`--${name}`, `${percent}%`)
}

/** As they were when the page was used last. */
export function applyShares(): void {
  for (const name of names) apply(name, Number(store.get(name)) || null)
}

export type DrawerState = 'open' | 'closed'

/** As its user has left it, or null. */
export function keptDrawer(): DrawerState | null {
  const kept = store.get('drawer')
  return kept === 'open' || kept === 'closed' ? kept : null
}

export function keepDrawer(state: DrawerState): void {
  store.set('drawer', state)
}
