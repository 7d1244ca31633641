import type { File } from './program'
import { say } from './say'
import { newTablist } from './tablist'
import { visible } from './visible'

export interface FileTabs {
  show(files: readonly File[], active: string, main: string | null): void
}

export interface FileTabEvents {
  chosen(name: string): void
  remove(name: string): void
  rename(name: string): void
}

/** A tab for each file, over the panel that shows the chosen one. */
export function newFileTabs(list: HTMLElement, panel: HTMLElement, on: FileTabEvents): FileTabs {
  const nameOf = (tab: Element | null) => tab?.getAttribute('data-name') ?? null
  const tablist = newTablist(list, (tab) => on.chosen(nameOf(tab) ?? ''))
  let count = 0

  // The cross is for pointers; keys have Delete, and both have the menu.
  list.addEventListener(
    'click',
    (click) => {
      const cross = (click.target as Element).closest('.cross')
      const name = nameOf(cross?.closest('[role=tab]') ?? null)
      if (name === null) return
      click.stopPropagation()
      on.remove(name)
    },
    { capture: true },
  )
  list.addEventListener('keydown', (key) => {
    const name = nameOf(key.target as Element)
    const act = { Delete: on.remove, F2: on.rename }[key.key]
    if (name === null || act === undefined) return
    key.preventDefault()
    act(name)
  })
  list.addEventListener('dblclick', ({ target }) => {
    const name = nameOf((target as Element).closest('[role=tab]'))
    if (name !== null) on.rename(name)
  })

  // What stands beside the tabs comes and goes.
  new ResizeObserver(() => show(list.querySelector('[aria-selected=true]'))).observe(list)

  function show(tab: Element | null): void {
    tab?.scrollIntoView({ block: 'nearest', inline: 'nearest' })
  }

  function newTab(): HTMLElement {
    const tab = document.createElement('button')
    tab.type = 'button'
    tab.id = `file-${++count}`
    tab.className = 'file'
    tab.setAttribute('role', 'tab')
    tab.setAttribute('aria-controls', panel.id)
    return tab
  }

  /** Elements stay, so that the focus does. */
  function fill(tab: HTMLElement, name: string, runs: boolean, alone: boolean): void {
    if (nameOf(tab) === name && tab.dataset['runs'] === String(runs) && tab.dataset['alone'] === String(alone)) return
    tab.dataset['name'] = name
    tab.dataset['runs'] = String(runs)
    tab.dataset['alone'] = String(alone)
    tab.title = runs && !alone ? say('file_runs_title', { name }) : visible(name)
    const text = document.createElement('span')
    text.className = 'label'
    text.textContent = visible(name)
    tab.replaceChildren(text)
    if (alone) return
    const cross = document.createElement('span')
    cross.className = 'cross'
    cross.setAttribute('aria-hidden', 'true')
    cross.textContent = '×'
    if (runs) {
      const heard = document.createElement('span')
      heard.className = 'hidden'
      heard.textContent = say('file_runs')
      tab.append(' ', heard)
    }
    tab.append(cross)
  }

  return {
    show(files, active, main) {
      const tabs = [...list.querySelectorAll<HTMLElement>('[role=tab]')]
      const held = tabs.some((tab) => tab === document.activeElement)
      while (tabs.length > files.length) tabs.pop()?.remove()
      while (tabs.length < files.length) {
        const tab = newTab()
        list.append(tab)
        tabs.push(tab)
      }
      files.forEach(({ name }, at) => {
        const tab = tabs[at]
        if (tab !== undefined) fill(tab, name, name === main, files.length === 1)
      })
      const chosen = tabs.find((tab) => nameOf(tab) === active)
      if (chosen === undefined) return
      const moved = chosen.getAttribute('aria-selected') !== 'true'
      tablist.select(chosen)
      panel.setAttribute('aria-labelledby', chosen.id)
      if (held) chosen.focus()
      if (moved) show(chosen)
    },
  }
}
