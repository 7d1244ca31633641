import type { Language } from './messages'
import type { Store } from './store'

// A draft is kept only where it differs from the example, so that a better example reaches those
// who never touched the old one.

export const starter = (language: Language): string => language.example || language.hello || ''

export function draft(store: Store, language: Language): string {
  return store.get(`draft:${language.id}`) ?? starter(language)
}

export function keepDraft(store: Store, language: Language, text: string): void {
  store.set(`draft:${language.id}`, text === starter(language) ? null : text)
}

/** The input to show for `language`: the user's own if there is one, else what its example reads. */
export function input(store: Store, language: Language): string {
  return store.get('stdin') ?? language.example_stdin ?? ''
}

export function keepInput(store: Store, language: Language, text: string): void {
  store.set('stdin', text === (language.example_stdin ?? '') ? null : text)
}
