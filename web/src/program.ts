import type { Data, Language, SentFile, Submission } from './messages'
import { has, isList, isText, isYesOrNo, orNothing, orNull, parsed } from './parsed'

// A language's program: its files and its input. Kept as text, because drafts, versions and other tabs
// compare texts: the bare source where the program is no more than that, else JSON behind a mark.

export interface File {
  name: string
  content: Data
  executable?: boolean
}

export interface Program {
  files: File[]
  /** Null while the user has not touched it: then it is the example's, as long as the example is there. */
  stdin: string | null
}

/** What the program's files are called in a language, and what it begins with. */
export type Dialect = Pick<Language, 'file_name' | 'suffixes' | 'example' | 'hello' | 'example_stdin'>

const mark = 'occd program 1\n'

/** The text of the example, as an editor has it. */
export const exampleOf = (dialect: Dialect): string => unixLines(dialect.example || dialect.hello || '')

export const example = (dialect: Dialect): Program => ({ files: [{ name: dialect.file_name, content: exampleOf(dialect) }], stdin: null })

export function write({ files, stdin }: Program, dialect: Dialect): string {
  const [only] = files
  const bare = files.length === 1 && stdin === null && only?.name === dialect.file_name && only.executable !== true
  if (bare && typeof only?.content === 'string' && !only.content.startsWith(mark)) return only.content
  return mark + JSON.stringify({ files, stdin })
}

export function read(text: string, dialect: Dialect): Program {
  const bare = { files: [{ name: dialect.file_name, content: text }], stdin: null }
  if (!text.startsWith(mark)) return bare
  const program = parsed(text.slice(mark.length), isProgram)
  return program === null || program.files.length === 0 ? bare : { files: program.files, stdin: program.stdin }
}

const isBase64 = (value: unknown) => isText(value) && value.length % 4 === 0 && /^[A-Za-z0-9+/]*={0,2}$/.test(value)
const isContent = (value: unknown) => isText(value) || has<{ base64: string }>({ base64: isBase64 })(value)
const isProgram = has<Program>({ files: isList(has<File>({ name: isText, content: isContent, executable: orNothing(isYesOrNo) })), stdin: orNull(isText) })

/** The file that runs, by the server's rule: the one with the usual name, else the first with a suffix of
 * the language, else the only one. */
export function mainOf(files: readonly File[], { file_name, suffixes }: Dialect): string | null {
  const names = files.map(({ name }) => name)
  if (names.includes(file_name)) return file_name
  return names.find((name) => isSource(name, suffixes)) ?? (names.length === 1 ? (names[0] ?? null) : null)
}

export const isSource = (name: string, suffixes: readonly string[]): boolean => suffixes.some((suffix) => name.endsWith(suffix))

/** What the program reads: the user's input, else the example's while half of the example's lines are there. */
export function stdinOf(program: Program, dialect: Dialect): string {
  if (program.stdin !== null) return program.stdin
  const main = mainOf(program.files, dialect)
  const text = program.files.find(({ name }) => name === main)?.content
  return typeof text === 'string' && isStill(text, exampleOf(dialect)) ? unixLines(dialect.example_stdin ?? '') : ''
}

const looked = 50
/** The lines of a longer text would keep the page from all else. */
const longest = 500_000

/** Half of the lines of a text are still in what became of it. Of a long text only some are looked for. */
export function isStill(text: string, of: string): boolean {
  if (of.length > longest) return text.length * 2 >= of.length
  const lines = of.split('\n').map((line) => line.trim())
  const telling = lines.filter((line) => line.length > 2)
  const some = telling.filter((_, n) => n % Math.ceil(telling.length / looked) === 0)
  return some.filter((line) => text.includes(line)).length * 2 >= some.length
}

/** The fields of a submission that carry the files. `source` lets the server name the file of a Java class. */
export function sent({ files }: Program, { file_name }: Dialect): Pick<Submission, 'source' | 'files'> {
  const [only] = files
  if (files.length === 1 && only?.name === file_name && only.executable !== true) return { source: only.content }
  return { files: files.map(({ name, content, executable }): SentFile => (executable === true ? { name, content, executable } : { name, content })) }
}

export const bytesOf = (content: Data): number => (typeof content === 'string' ? utf8(content) : base64Bytes(content.base64))

export const sizeOf = (files: readonly File[]): number => files.reduce((sum, { content }) => sum + bytesOf(content), 0)

function base64Bytes(text: string): number {
  return (text.length / 4) * 3 - (text.endsWith('==') ? 2 : text.endsWith('=') ? 1 : 0)
}

const utf8 = (text: string): number => new TextEncoder().encode(text).length

export const unixLines = (text: string): string => text.replace(/\r\n?/g, '\n')

/** The content after an edit: an editor has only `\n`, and a file from Windows keeps its line ends. */
export function edited(before: Data, text: string): Data {
  if (typeof before !== 'string' || !before.includes('\r')) return text
  if (unixLines(before) === text) return before
  return /(^|[^\r])\n|\r(?!\n)/.test(before) ? text : text.replace(/\n/g, '\r\n')
}

export function same(a: File | undefined, b: File | undefined): boolean {
  if (a === undefined || b === undefined) return a === b
  if (a.executable !== b.executable) return false
  if (typeof a.content === 'string' || typeof b.content === 'string') return a.content === b.content
  return a.content.base64 === b.content.base64
}

export type Side = 'mine' | 'theirs'

/** What two tabs made of one program, together. Null when both changed the same file, unless `prefer` says
 * whose counts then. */
export function merge(base: Program, mine: Program, theirs: Program, prefer?: Side): Program | null {
  const file = ({ files }: Program, name: string) => files.find((each) => each.name === name)
  const names = new Set([...theirs.files, ...mine.files].map(({ name }) => name))
  const files: File[] = []
  let open = false

  function pick<T>(was: T, my: T, their: T, equal: (a: T, b: T) => boolean): T {
    if (equal(my, was) || equal(my, their)) return their
    if (!equal(their, was) && prefer === undefined) open = true
    return equal(their, was) || prefer !== 'theirs' ? my : their
  }

  for (const name of names) {
    const picked = pick(file(base, name), file(mine, name), file(theirs, name), same)
    if (picked !== undefined) files.push(picked)
  }
  const stdin = pick(base.stdin, mine.stdin, theirs.stdin, (a, b) => a === b)
  return open ? null : { files, stdin }
}
