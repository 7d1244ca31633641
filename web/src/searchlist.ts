import { make } from './elements'
import { say } from './say'

/** A line of a list that can be searched. */
export interface Entry {
  /** Entries of the same id are one thing: it may stand in several groups, and is found once. */
  id: string
  shown: (Node | string)[]
  /** What it is found by, in lower case. */
  names: readonly string[]
  /** The entry stands under the one before it. */
  under?: boolean
  act(): void
}

export interface Group {
  /** Empty: the entries alone. */
  heading: string
  entries: readonly Entry[]
}

export interface Search {
  className: string
  title: string
  /** What is written into the empty field, and said of it. */
  filter: string
  groups: readonly Group[]
  /** The entry that is in use now, where there is such a thing. */
  current?: string
  /** The keys go to the list at first, and to the field with the first letter: by touch a keyboard would come up. */
  quiet?: boolean
}

export function openDialog(className: string, title: string): HTMLDialogElement {
  const dialog = make('dialog', { class: className, 'aria-label': title })
  dialog.addEventListener('close', () => dialog.remove())
  // A click beside it.
  dialog.addEventListener('click', ({ target }) => {
    if (target === dialog) dialog.close()
  })
  document.body.append(dialog)
  return dialog
}

/** How well an entry fits to what is looked for: 0 is best, Infinity not at all. */
function misfit(names: readonly string[], words: readonly string[]): number {
  const each = (name: string, word: string) =>
    name === word ? 0 : name.startsWith(word) ? 1 : ` ${name.replace(/[^\p{L}\p{N}+#]+/gu, ' ')}`.includes(` ${word}`) ? 2 : name.includes(word) ? 3 : Infinity
  return words.reduce((sum, word) => sum + Math.min(...names.map((name) => each(name, word))), 0)
}

/** A dialog with a list that is narrowed by what is written, the best first. Enter does what is chosen. */
export function openSearch({ className, title, filter, groups, current, quiet = false }: Search): HTMLDialogElement {
  const dialog = openDialog(className, title)
  const list = make('div', { id: 'search-list', role: 'listbox', 'aria-label': title, tabindex: '-1' })
  const field = make('input', {
    role: 'combobox',
    'aria-controls': list.id,
    'aria-autocomplete': 'list',
    'aria-label': filter,
    placeholder: filter,
    autocomplete: 'off',
    autocapitalize: 'off',
    spellcheck: 'false',
  })
  const none = make('p', { class: 'none', role: 'status' })
  const rows = groups.flatMap((group, g) =>
    group.entries.map((entry, n) => {
      const item = make('div', { id: `found-${g}-${n}`, role: 'option', 'data-id': entry.id }, ...entry.shown)
      item.classList.toggle('under', entry.under === true)
      if (entry.id === current) item.setAttribute('aria-current', 'true')
      return { group, entry, item }
    }),
  )
  let found: typeof rows = []
  let at = 0

  function look(): void {
    const words = field.value.toLowerCase().match(/\S+/g) ?? []
    const ids = new Set<string>()
    const fitting = rows.map((row) => ({ row, by: misfit(row.entry.names, words) })).filter(({ by }) => by < Infinity)
    found = words.length === 0 ? rows : fitting.sort((a, b) => a.by - b.by).flatMap(({ row }) => (ids.has(row.entry.id) ? [] : (ids.add(row.entry.id), [row])))
    list.replaceChildren(...(words.length > 0 ? found.map(({ item }) => item) : groups.flatMap(whole)))
    list.hidden = found.length === 0
    none.textContent = found.length === 0 ? say('found_none') : ''
    field.setAttribute('aria-expanded', String(found.length > 0))
  }

  function whole(group: Group, g: number): HTMLElement[] {
    const items = rows.flatMap((row) => (row.group === group ? [row.item] : []))
    if (group.heading === '') return items
    const heading = make('div', { id: `found-${g}`, role: 'presentation', class: 'heading' }, group.heading)
    return [make('div', { role: 'group', 'aria-labelledby': heading.id }, heading, ...items)]
  }

  function mark(to: number): void {
    at = Math.max(0, Math.min(found.length - 1, to))
    for (const [i, { item }] of found.entries()) item.setAttribute('aria-selected', String(i === at))
    const item = found[at]?.item
    for (const each of [field, list]) each.setAttribute('aria-activedescendant', item?.id ?? '')
    // The first has its heading above it.
    if (at === 0) list.scrollTop = 0
    else item?.scrollIntoView({ block: 'nearest' })
  }

  function choose(row: (typeof rows)[number] | undefined): void {
    if (row === undefined) return
    dialog.close()
    row.entry.act()
  }

  field.addEventListener('input', () => {
    look()
    mark(0)
  })
  dialog.addEventListener('keydown', (key) => {
    const steps: Record<string, number> = { ArrowDown: 1, ArrowUp: -1, PageDown: 8, PageUp: -8 }
    const step = steps[key.key]
    if (key.isComposing) return
    if (key.key === 'Enter') choose(found[at])
    else if (step !== undefined) mark(at + step)
    else {
      if (key.key.length === 1 && !key.ctrlKey && !key.metaKey) field.focus()
      return
    }
    key.preventDefault()
  })
  list.addEventListener('click', ({ target }) => choose(found.find(({ item }) => item.contains(target as Node))))
  dialog.append(field, list, none)
  if (quiet) list.autofocus = true
  look()
  dialog.showModal()
  mark(Math.max(0, rows.findIndex(({ entry }) => entry.id === current)))
  return dialog
}
