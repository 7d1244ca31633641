import { chunk } from './chunk'
import { asBytes } from './content'
import { withInput } from './inputfile'
import { mainOf, stdinOf } from './program'
import type { Dialect, File, Program } from './program'

/** Gives a file to the browser to save. */
export function download(content: Blob, name: string): void {
  const link = document.createElement('a')
  link.href = URL.createObjectURL(content)
  link.download = name
  link.click()
  // A browser may read it only after the click.
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000)
}

export function downloadFile({ name, content }: File): void {
  download(new Blob([asBytes(content)]), name.split('/').pop() ?? name)
}

/** One file that reads nothing as itself; else a zip, with the input beside the files. */
export async function downloadProgram(program: Program, dialect: Dialect): Promise<void> {
  const all = withInput(program.files, stdinOf(program, dialect))
  const [first] = all
  if (first !== undefined && all.length === 1) return downloadFile(first)
  const { zip } = await chunk(import('./zip'))
  const main = mainOf(program.files, dialect) ?? first?.name ?? dialect.file_name
  download(await zip(all), `${(main.split('/').pop() ?? main).replace(/\.[^.]+$/, '')}.zip`)
}
