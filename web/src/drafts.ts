import { has, isText, orNull, parsed } from './parsed'
import type { Side } from './program'
import type { Store } from './store'
import type { Versions } from './versions'

// Tabs of one browser share what they keep. A tab therefore saves only a text that was edited in it, and
// only over the text that it has seen. What is kept differs from the example, so that a better example
// reaches those who never touched the old one.

export interface Draft {
  /** What this tab shows. */
  readonly text: string
  /** Another tab has changed it, and so has this one: one of the two must be chosen. */
  readonly contested: boolean
  /** What was edited here is not in the browser's storage. */
  readonly unkept: boolean
  /** The user has changed it in this tab. */
  edit(text: string): void
  /** Sees what other tabs have kept. True when there is another text to show. */
  look(): boolean
  save(): void
  /** Of what both have changed, one side's is taken. */
  choose(side: Side): void
  /** The page goes: what cannot be saved over another tab's text becomes a version, and is here again when
   * this very tab comes back. */
  leave(): void
}

/** What two made of `base`, or null when they do not go together and no side is preferred. */
export type Join = (base: string, mine: string, theirs: string, prefer?: Side) => string | null

export interface Places {
  /** What all tabs share. */
  store: Store
  /** What only this tab has. */
  tab: Store
  versions: Versions
}

interface Left {
  text: string
  /** Null: what is kept when the tab comes back. */
  origin: string | null
}

const isLeft = has<Left>({ text: isText, origin: orNull(isText) })

export function newDraft({ store, tab, versions }: Places, key: string, starter: string, join: Join): Draft {
  const kept = () => store.get(key) ?? starter
  const left = parsed(tab.get(key), isLeft)
  let text = left?.text ?? kept()
  /** What is kept, as this tab knows it. */
  let seen = left?.origin ?? kept()
  /** What it was before this tab changed it. */
  let origin = seen
  let edited = left !== null
  let contested = false
  let unkept = left !== null && left.origin === null

  function look(): boolean {
    const theirs = kept()
    contested = false
    if (theirs === seen) return false
    const both = edited ? join(origin, text, theirs) : theirs
    contested = both === null
    if (both === null) return false
    // What this tab did not change is from now on as the other made it.
    origin = edited ? (join(text, origin, theirs, 'mine') ?? origin) : theirs
    seen = theirs
    if (both === text) return false
    text = both
    return true
  }

  function save(): void {
    look()
    if (!edited || contested || (text === seen && !unkept)) return
    unkept = !store.set(key, text === starter ? null : text)
    seen = text
    if (!unkept) tab.set(key, null)
  }

  return {
    get text() {
      return text
    },
    get contested() {
      return contested
    },
    get unkept() {
      return unkept
    },
    look,
    save,
    edit(now) {
      if (now === text) return
      if (!edited) versions.keep(text)
      edited = true
      text = now
    },
    choose(side) {
      versions.keep(side === 'mine' ? kept() : text)
      text = join(origin, text, kept(), side) ?? text
      seen = kept()
      edited = text !== seen
      if (!edited) origin = seen
      contested = false
      save()
    },
    leave() {
      save()
      if (contested) versions.keep(text)
      const here: Left | null = contested || unkept ? { text, origin: unkept ? null : origin } : null
      tab.set(key, here === null ? null : JSON.stringify(here))
    },
  }
}
