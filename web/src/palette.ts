// The palette of commands and the table of keys: seldom wanted, so a chunk of their own.
import type { Does, More } from './commands'
import { commands, keyName } from './keys'
import { say } from './say'

function opened(className: string, title: string): HTMLDialogElement {
  const dialog = document.createElement('dialog')
  dialog.className = className
  dialog.setAttribute('aria-label', title)
  dialog.addEventListener('close', () => dialog.remove())
  // A click beside it.
  dialog.addEventListener('click', ({ target }) => {
    if (target === dialog) dialog.close()
  })
  document.body.append(dialog)
  return dialog
}

function element<K extends keyof HTMLElementTagNameMap>(name: K, text = ''): HTMLElementTagNameMap[K] {
  const made = document.createElement(name)
  made.textContent = text
  return made
}

/** A list of what can be done, narrowed by what is written. Enter does it. */
export function openPalette(does: Does, more: readonly More[]): void {
  const dialog = opened('palette', say('palette'))
  const filter = element('input')
  const list = element('ul')
  list.id = 'palette-list'
  list.setAttribute('role', 'listbox')
  list.setAttribute('aria-label', say('palette'))
  for (const [name, value] of [
    ['role', 'combobox'],
    ['aria-controls', list.id],
    ['aria-expanded', 'true'],
    ['aria-autocomplete', 'list'],
    ['autocomplete', 'off'],
    ['spellcheck', 'false'],
  ] as const)
    filter.setAttribute(name, value)
  filter.placeholder = say('palette_filter')
  filter.setAttribute('aria-label', say('palette_filter'))

  function newItem(id: string, label: string, keys: string, act: () => void) {
    const item = element('li')
    item.id = `do-${id}`
    item.setAttribute('role', 'option')
    item.append(element('span', label), element('kbd', keyName(keys)))
    return { item, act }
  }

  const items = [
    ...commands.flatMap(({ id, keys }) => {
      const act = does[id]
      return id === 'palette' || act === undefined ? [] : [newItem(id, say(`command_${id}`), keys, act)]
    }),
    ...more.map(({ label, do: act }, n) => newItem(`more-${n}`, label, '', act)),
  ]
  let at = 0

  function found(): typeof items {
    const words = filter.value.toLowerCase().split(/\s+/)
    return items.filter(({ item }) => words.every((word) => item.textContent?.toLowerCase().includes(word)))
  }

  function show(to: number): void {
    const now = found()
    at = Math.max(0, Math.min(now.length - 1, to))
    list.replaceChildren(...now.map(({ item }) => item))
    for (const [i, { item }] of now.entries()) item.setAttribute('aria-selected', String(i === at))
    filter.setAttribute('aria-activedescendant', now[at]?.item.id ?? '')
    now[at]?.item.scrollIntoView({ block: 'nearest' })
  }

  function choose(index: number): void {
    const chosen = found()[index]
    if (chosen === undefined) return
    dialog.close()
    chosen.act()
  }

  filter.addEventListener('input', () => show(0))
  filter.addEventListener('keydown', (key) => {
    const steps: Record<string, number> = { ArrowDown: 1, ArrowUp: -1, PageDown: 8, PageUp: -8 }
    const step = steps[key.key]
    if (key.key === 'Enter') choose(at)
    else if (step !== undefined) show(at + step)
    else return
    key.preventDefault()
  })
  list.addEventListener('click', ({ target }) => {
    choose(found().findIndex(({ item }) => item.contains(target as Node)))
  })
  dialog.append(filter, list)
  show(0)
  dialog.showModal()
}

/** All keys, the way to the palette for who has none, and what this is. */
export function openKeys(palette: () => void): void {
  const dialog = opened('keys-table', say('keys_title'))
  const table = element('table')
  for (const { id, keys } of commands) {
    if (keys === '') continue
    const row = table.insertRow()
    const key = element('th')
    key.scope = 'row'
    key.append(element('kbd', keyName(keys)))
    row.append(key, element('td', say(`command_${id}`)))
  }
  const all = element('button', say('palette'))
  all.type = 'button'
  all.addEventListener('click', () => {
    dialog.close()
    palette()
  })
  const close = element('button', say('close'))
  close.type = 'button'
  close.addEventListener('click', () => dialog.close())
  const version = document.querySelector<HTMLMetaElement>('meta[name="version"]')?.content ?? ''
  const status = element('a', say('server_status'))
  status.href = 'status'
  const about = element('p', say('about', { version }))
  about.append(' ', status)
  dialog.append(element('h2', say('keys_title')), table, all, ' ', close, about)
  dialog.showModal()
}
