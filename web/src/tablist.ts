/** Tabs of which one is chosen: by a click, and by the arrow keys, which go over those that are there. */
export interface Tablist {
  select(tab: HTMLElement): void
}

export function newTablist(list: HTMLElement, chosen: (tab: HTMLElement) => void): Tablist {
  const tabs = () => [...list.querySelectorAll<HTMLElement>('[role=tab]:not([hidden])')]

  function select(tab: HTMLElement): void {
    for (const each of list.querySelectorAll<HTMLElement>('[role=tab]')) {
      each.setAttribute('aria-selected', String(each === tab))
      each.tabIndex = each === tab ? 0 : -1
    }
  }

  list.addEventListener('click', ({ target }) => {
    const tab = (target as Element).closest<HTMLElement>('[role=tab]')
    if (tab !== null) chosen(tab)
  })
  list.addEventListener('keydown', (key) => {
    const all = tabs()
    const at = all.indexOf(key.target as HTMLElement)
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: all.length - 1 }[key.key]
    const tab = to === undefined ? undefined : all.at(to % all.length)
    if (at === -1 || tab === undefined || tab === key.target) return
    key.preventDefault()
    tab.focus()
    chosen(tab)
  })
  return { select }
}
