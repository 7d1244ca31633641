import { newDraft } from './drafts'
import type { Draft, Places } from './drafts'
import type { Language } from './messages'
import { wrongBeside } from './names'
import { edited, example, isStill, mainOf, merge, read, stdinOf, unixLines, write } from './program'
import type { File, Program, Side } from './program'
import { newVersions } from './versions'
import type { Version } from './versions'

/** One language's program in this tab: its files, its input, and which file is shown. */
export interface Workspace {
  readonly language: Language
  readonly program: Program
  /** The name of the file that runs. */
  readonly main: string | null
  /** The file that is shown. */
  readonly active: File
  /** What the program reads: nothing in some languages, whatever was written for it. */
  readonly stdin: string
  /** The whole, as drafts and fingerprints have it. */
  readonly text: string
  /** Nothing is there but the example. */
  readonly untouched: boolean
  readonly contested: boolean
  readonly unkept: boolean
  show(name: string): void
  /** A file, as an editor has it now. */
  edit(name: string, text: string): void
  feed(stdin: string): void
  /** Other files, or another input. The given function takes this back, and keeps what was changed since. */
  change(program: Program, show?: string): () => void
  /** As `change`; the file keeps what is written in it, also when this is taken back. */
  rename(old: string, name: string): () => void
  toExample(): () => void
  toVersion(version: Version): () => void
  earlier(): Version[]
  keepVersion(): void
  look(): void
  save(): void
  choose(side: Side): void
  leave(): void
}

export function newWorkspace(language: Language, places: Omit<Places, 'versions'>): Workspace {
  const parse = (text: string) => read(text, language)
  const starter = write(example(language), language)
  const versions = newVersions(places.store, `versions:${language.id}`, starter)
  const draft: Draft = newDraft({ ...places, versions }, `draft:${language.id}`, starter, (base, mine, theirs, prefer) => {
    const both = merge(parse(base), parse(mine), parse(theirs), prefer)
    return both === null ? null : write(both, language)
  })
  const shownKey = `file:${language.id}`
  let written = draft.text
  let program = parse(written)
  let shown = places.tab.get(shownKey)

  function put(next: Program): void {
    program = next
    written = write(program, language)
    draft.edit(written)
  }

  /** Another tab's changes have come into the draft. */
  function follow(): void {
    if (draft.text === written) return
    written = draft.text
    program = parse(written)
  }

  function active(): File {
    const name = shown ?? mainOf(program.files, language)
    const found = program.files.find((file) => file.name === name) ?? program.files.find((file) => file.name === mainOf(program.files, language))
    return found ?? program.files[0] ?? { name: language.file_name, content: '' }
  }

  function show(name: string): void {
    shown = name
    places.tab.set(shownKey, name)
  }

  function change(next: Program, name?: string): () => void {
    const before = program
    const shownBefore = active().name
    versions.keep(draft.text)
    put(next)
    if (name !== undefined) show(name)
    return () => {
      versions.keep(draft.text)
      put(merge(next, program, before, 'theirs') ?? before)
      show(shownBefore)
    }
  }

  function rename(old: string, name: string): () => void {
    const named = (from: string, to: string) => ({ ...program, files: program.files.map((file) => (file.name === from ? { ...file, name: to } : file)) })
    const others = () => program.files.map((file) => file.name).filter((each) => each !== name)
    change(named(old, name), name)
    return () => {
      // Another tab may have taken the name meanwhile.
      if (wrongBeside(old, others()) !== null) return
      put(named(name, old))
      show(old)
    }
  }

  return {
    language,
    get program() {
      return program
    },
    get main() {
      return mainOf(program.files, language)
    },
    get active() {
      return active()
    },
    get stdin() {
      return language.flags.reads_stdin ? stdinOf(program, language) : ''
    },
    get text() {
      return draft.text
    },
    get untouched() {
      return draft.text === starter
    },
    get contested() {
      return draft.contested
    },
    get unkept() {
      return draft.unkept
    },
    show,
    edit(name, text) {
      const file = program.files.find((each) => each.name === name)
      if (typeof file?.content !== 'string' || unixLines(file.content) === text) return
      // What is written over at once, as by a paste, can be wanted back when the editor's history has gone.
      if (!isStill(text, file.content)) versions.keep(draft.text)
      const now = { ...file, content: edited(file.content, text) }
      put({ ...program, files: program.files.map((each) => (each === file ? now : each)) })
    },
    feed: (stdin) => put({ ...program, stdin }),
    change,
    rename,
    toExample: () => change(example(language), language.file_name),
    toVersion: ({ text }) => change(parse(text)),
    earlier: () => versions.list().filter((version) => version.text !== draft.text),
    keepVersion: () => versions.keep(draft.text),
    look() {
      draft.look()
      follow()
    },
    save() {
      draft.save()
      follow()
    },
    choose(side) {
      draft.choose(side)
      follow()
    },
    leave: () => draft.leave(),
  }
}
