import { unixLines } from './program'
import type { File } from './program'

// A program that is taken away has its input beside its files, in stdin.txt. Where the program has something of this
// name, the input is in stdin_2.txt, and so on: the last of these names is always the input's, so that no file of the
// program is ever taken for it.

const nth = (n: number) => (n === 1 ? 'stdin.txt' : `stdin_${n}.txt`)

/** The last of the names that a file or a folder has, as a number; 0 where none has one. */
function last(files: readonly File[]): number {
  const tops = files.map(({ name }) => name.split('/')[0] ?? '')
  const numbers = tops.map((top) => Number(/^stdin_(\d{1,9})\.txt$/.exec(top)?.[1] ?? 1))
  return Math.max(0, ...numbers.filter((n, at) => nth(n) === tops[at]))
}

/** The files and the input. A program that reads nothing has no such file, unless another would be taken for it. */
export function withInput(files: readonly File[], stdin: string): File[] {
  const taken = last(files)
  return taken === 0 && stdin === '' ? [...files] : [...files, { name: nth(taken + 1), content: stdin }]
}

/** The files without the input, and the input, or null where there is none. */
export function withoutInput(files: readonly File[]): { files: File[]; stdin: string | null } {
  const taken = last(files)
  const name = nth(taken)
  const content = taken === 0 ? undefined : files.find((file) => file.name === name)?.content
  if (typeof content !== 'string') return { files: [...files], stdin: null }
  return { files: files.filter((file) => file.name !== name), stdin: unixLines(content) }
}
