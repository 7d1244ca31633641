import type { Language } from './messages'
import type { Store } from './store'
import type { Versions } from './versions'

// Tabs of one browser share what they keep. A tab therefore saves only a text that was edited in it, and
// only over the text that it has seen. What is kept differs from the example, so that a better example
// reaches those who never touched the old one.

export interface Draft {
  /** What this tab shows. */
  readonly text: string
  readonly starter: string
  /** Another tab has changed it, and so has this one: one of the two must be chosen. */
  readonly contested: boolean
  /** The user has changed it in this tab. */
  edit(text: string): void
  /** Sees what other tabs have kept. True when there is another text to show. */
  look(): boolean
  save(): void
  keepMine(): void
  takeTheirs(): void
  /** The page goes: what cannot be saved over another tab's text becomes a version. */
  leave(): void
}

export const starter = (language: Language): string => language.example || language.hello || ''

export function newDraft(store: Store, versions: Versions, key: string, example: string): Draft {
  const starter = example.replace(/\r\n?/g, '\n') // as the editor has it
  const kept = () => store.get(key) ?? starter
  let text = kept()
  let seen = text
  let edited = false
  let contested = false

  function look(): boolean {
    const theirs = kept()
    contested = edited && theirs !== seen && theirs !== text
    if (contested || theirs === seen) return false
    seen = theirs
    if (theirs === text) return false
    text = theirs
    return true
  }

  function save(): void {
    look()
    if (!edited || contested || text === seen) return
    store.set(key, text === starter ? null : text)
    seen = text
  }

  return {
    get text() {
      return text
    },
    get contested() {
      return contested
    },
    starter,
    look,
    save,
    edit(now) {
      if (now === text) return
      if (!edited) versions.keep(text)
      edited = true
      text = now
    },
    keepMine() {
      versions.keep(kept())
      seen = kept()
      save()
    },
    takeTheirs() {
      versions.keep(text)
      edited = false
      text = seen = kept()
      contested = false
    },
    leave() {
      save()
      if (contested) versions.keep(text)
    },
  }
}
