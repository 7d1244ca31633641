import { asBytes } from './content'
import { mainOf } from './program'
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

/** One file as itself, several as a zip. */
export async function downloadProgram({ files }: Program, dialect: Dialect): Promise<void> {
  const [first] = files
  if (first !== undefined && files.length === 1) return downloadFile(first)
  const { zip } = await import('./zip')
  const main = mainOf(files, dialect) ?? first?.name ?? dialect.file_name
  download(await zip(files), `${(main.split('/').pop() ?? main).replace(/\.[^.]+$/, '')}.zip`)
}
