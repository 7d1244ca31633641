import type { Language } from './messages'
import { say } from './say'
import type { Store } from './store'

export interface Choice {
  language: Language
  /** Undefined where there is nothing to choose: the server's newest. */
  version: string | undefined
}

export interface Picker {
  /** `gone` are those that the server does not have, and in which a program is kept. */
  fill(languages: Language[], gone: Language[]): void
  choose(language: Language): void
  /** The language that is shown, if programs of it can be run. */
  choice(): Choice | null
}

export function newPicker(
  languageSelect: HTMLSelectElement,
  versionSelect: HTMLSelectElement,
  versionField: HTMLElement,
  store: Store,
  picked: (language: Language) => void,
): Picker {
  let known: Language[] = []
  let missing: Language[] = []

  const current = () => [...known, ...missing].find((language) => language.id === languageSelect.value) ?? null

  function show(): void {
    const language = current()
    if (language === null) return
    versionField.hidden = language.versions.length < 2
    versionSelect.replaceChildren(...language.versions.map((version) => new Option(version)))
    const before = store.get(`version:${language.id}`)
    if (before !== null && language.versions.includes(before)) versionSelect.value = before
    picked(language)
  }

  /** With its name, to be shown before the languages are there. */
  function keep(): void {
    const language = current()
    if (language === null) return
    store.set('language', language.id)
    store.set('language-name', label(language))
  }

  languageSelect.addEventListener('change', () => {
    keep()
    show()
  })
  versionSelect.addEventListener('change', () => {
    store.set(`version:${languageSelect.value}`, versionSelect.value)
  })

  return {
    fill(languages, gone) {
      known = languages
      missing = gone
      const options = (of: Language[]) => of.map((language) => new Option(label(language), language.id))
      const group = document.createElement('optgroup')
      group.label = say('gone_group')
      group.append(...options(gone))
      languageSelect.replaceChildren(...options(languages), ...(gone.length > 0 ? [group] : []))
      const before = store.get('language')
      const fallback = languages.find((language) => language.id === 'python') ?? languages[0]
      const chosen = [...languages, ...gone].find((language) => language.id === before) ?? fallback ?? gone[0]
      if (chosen !== undefined) languageSelect.value = chosen.id
      languageSelect.disabled = chosen === undefined
      show()
    },
    choose({ id }) {
      languageSelect.value = id
      keep()
      show()
    },
    choice() {
      const language = current()
      if (language === null || missing.includes(language)) return null
      return { language, version: language.versions.length > 1 ? versionSelect.value : undefined }
    },
  }
}

function label({ name, versions }: Language): string {
  return versions.length === 1 ? `${name} ${versions[0]}` : name
}
