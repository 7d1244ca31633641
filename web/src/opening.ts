import { withoutInput } from './inputfile'
import { freeName, mostFiles, wrongBeside } from './names'
import type { NameFault } from './names'
import { isSource, sizeOf } from './program'
import type { Dialect, File, Program } from './program'

// What becomes of files that come in: dropped, chosen or pasted. A zip or a folder with a source is a program
// and takes the place of the one that is there, and so does a source where only the example is. Everything
// else joins the program. Files of another language than the one that is shown choose their language.

/** Files that came together. */
export interface Arrival {
  files: File[]
  /** They are all of a zip or a folder of this name. */
  folder: string | null
}

export interface Place<L extends Dialect = Dialect> {
  language: L
  program: Program
  /** Nothing is there but the example. */
  untouched: boolean
}

export interface Opened<L extends Dialect> {
  language: L
  program: Program
  /** The program that was there is not there any more. */
  instead: boolean
  /** The files that were there and are other ones now. */
  replaced: string[]
  /** It came with what it reads. */
  input: boolean
  /** The file to show. */
  show: string | null
}

export type OpeningFault = { why: NameFault; name: string } | { why: 'many'; n: number } | { why: 'large'; over: number }

export function opening<L extends Dialect & { id: string }>(
  { files, folder }: Arrival,
  here: Place<L>,
  languages: readonly L[],
  mostBytes: number,
): Opened<L> | OpeningFault {
  const together = folder === null ? renamed(files, here.program.files) : withoutFolder(files, folder)
  const language = languageOf(together, here.language, languages)
  const isProgram = together.some(({ name }) => isSource(name, language.suffixes))
  const instead = isProgram && (folder !== null || here.untouched || language.id !== here.language.id)
  const { files: arrived, stdin } = instead && folder !== null ? withoutInput(together) : { files: together, stdin: null }
  const before = instead ? [] : here.program.files
  const result = new Map(before.map((file) => [file.name, file]))
  const replaced: string[] = []
  for (const file of arrived) {
    const others = [...result.keys()].filter((name) => name !== file.name)
    const wrong = wrongBeside(file.name, others)
    if (wrong !== null) return { why: wrong, name: file.name }
    if (result.has(file.name)) replaced.push(file.name)
    result.set(file.name, file)
  }
  const all = [...result.values()]
  if (all.length > mostFiles) return { why: 'many', n: all.length }
  const over = sizeOf(all) - mostBytes
  if (over > 0) return { why: 'large', over }
  const show = instead ? null : (arrived[0]?.name ?? null)
  return { language, program: { files: all, stdin: instead ? stdin : here.program.stdin }, instead, replaced, input: stdin !== null, show }
}

/** Two that were pasted may have one name, such as that of every picture. */
function renamed(files: readonly File[], beside: readonly File[]): File[] {
  const names = [...files, ...beside].map(({ name }) => name)
  return files.map((file, at) => {
    if (!names.slice(0, at).includes(file.name)) return file
    names[at] = freeName(file.name, names)
    return { ...file, name: names[at] }
  })
}

/** A zip of a folder has the folder's name, and all its files are in the folder. */
function withoutFolder(files: readonly File[], folder: string): File[] {
  const inside = `${files[0]?.name.split('/')[0] ?? ''}/`
  const own = folder.replace(/ ?\(\d+\)$/, '')
  if (!own.startsWith(inside.slice(0, -1)) || !files.every(({ name }) => name.startsWith(inside))) return [...files]
  return files.map((file) => ({ ...file, name: file.name.slice(inside.length) }))
}

/** The language that is shown, if it has a source among the files; else the one that has most. */
function languageOf<L extends Dialect>(files: readonly File[], shown: L, languages: readonly L[]): L {
  const count = ({ suffixes }: L) => files.filter(({ name }) => isSource(name, suffixes)).length
  if (count(shown) > 0) return shown
  return languages.reduce((best, each) => (count(each) > count(best) ? each : best), shown)
}
