import { chunk } from './chunk'
import { setText } from './elements'
import type { Language } from './messages'
import { page } from './page'
import type { Store } from './store'

export interface Choice {
  language: Language
  /** Undefined where there is nothing to choose: the server's newest. */
  version: string | undefined
}

export interface Picker {
  /** `gone` are those that the server does not have, and in which a program is kept. */
  fill(languages: Language[], gone: Language[]): void
  /** The one that `fill` shows. */
  first(languages: Language[], gone: Language[]): Language | null
  choose(language: Language): void
  /** Shows the list of languages. */
  open(): void
  /** The language that is shown, if programs of it can be run. */
  choice(): Choice | null
}

const mostRecent = 5

/** The button with the language's name, which opens a list of all, and the choice of a version beside it. `whole`:
 * when each language has its example, without which none can be chosen. */
export function newPicker(store: Store, whole: () => Promise<void>, picked: (language: Language) => void, failed: () => void): Picker {
  let known: Language[] = []
  let missing: Language[] = []
  let current: Language | null = null

  const recent = () => store.get('recent')?.split(' ') ?? []

  function show(language: Language): void {
    current = language
    page.language.value = language.id
    setText(page.languageName, label(language))
    page.versionField.hidden = language.versions.length < 2
    page.version.replaceChildren(...language.versions.map((version) => new Option(version)))
    const before = store.get(`version:${language.id}`)
    if (before !== null && language.versions.includes(before)) page.version.value = before
    picked(language)
  }

  function choose(language: Language): void {
    const last = [language.id, ...(current === null ? [] : [current.id]), ...recent()]
    store.set('recent', [...new Set(last)].slice(0, mostRecent).join(' '))
    store.set('language', language.id)
    // To be shown before the languages are there.
    store.set('language-name', label(language))
    show(language)
  }

  async function open(): Promise<void> {
    const came = await chunk(import('./palette')).catch(() => null)
    if (came === null) return failed()
    await whole()
    // Something else may have been opened while this came.
    if (document.querySelector('dialog[open]') !== null) return
    came.openLanguages({ languages: known, gone: missing, recent: recent(), current: page.language.value, choose })
  }

  function first(languages: Language[], gone: Language[]): Language | null {
    const before = store.get('language')
    const fallback = languages.find((language) => language.id === 'python') ?? languages[0]
    return [...languages, ...gone].find((language) => language.id === before) ?? fallback ?? gone[0] ?? null
  }

  page.language.addEventListener('click', () => void open())
  page.language.addEventListener('keydown', (key) => {
    if (key.key !== 'ArrowDown' && key.key !== 'ArrowUp') return
    key.preventDefault()
    void open()
  })
  page.version.addEventListener('change', () => {
    store.set(`version:${page.language.value}`, page.version.value)
  })

  return {
    fill(languages, gone) {
      known = languages
      missing = gone
      current = first(languages, gone)
      page.language.disabled = current === null
      if (current !== null) show(current)
    },
    first,
    choose,
    open: () => void open(),
    choice() {
      if (current === null || missing.includes(current)) return null
      return { language: current, version: current.versions.length > 1 ? page.version.value : undefined }
    },
  }
}

function label({ name, versions }: Language): string {
  return versions.length === 1 ? `${name} ${versions[0]}` : name
}
