import { isSource } from './program'
import type { Dialect, File } from './program'

// The server's rules for names (docs/api.md, "A submission"). What is wrong with one is told where it is
// typed, not when the program is sent.

export const mostFiles = 200
const mostBytes = 255
const mostParts = 16

export type NameFault = 'empty' | 'long' | 'deep' | 'path' | 'dash' | 'letters' | 'taken' | 'folder' | 'no_main'

const encoder = new TextEncoder()

/** What is wrong with a name by itself. */
export function wrongName(name: string): NameFault | null {
  const parts = name.split('/')
  if (name.trim() === '') return 'empty'
  if (encoder.encode(name).length > mostBytes) return 'long'
  if (parts.length > mostParts) return 'deep'
  if (parts.some((part) => part === '' || part === '.' || part === '..')) return 'path'
  if (parts.some((part) => part.startsWith('-'))) return 'dash'
  if (/[\0-\x1f\x7f\\]|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/.test(name)) return 'letters'
  return null
}

/** What is wrong with a name beside others. */
export function wrongBeside(name: string, others: readonly string[]): NameFault | null {
  const wrong = wrongName(name)
  if (wrong !== null) return wrong
  if (others.includes(name)) return 'taken'
  if (others.some((other) => other.startsWith(`${name}/`) || name.startsWith(`${other}/`))) return 'folder'
  return null
}

/** True when none of these files is a source of the language. */
export const lacksMain = (files: readonly File[], { file_name, suffixes }: Dialect): boolean =>
  suffixes.length > 0 && !files.some(({ name }) => name === file_name || isSource(name, suffixes))

/** A name like this one that no other file has: `util 2.py`. */
export function freeName(name: string, others: readonly string[]): string {
  const folder = name.slice(0, name.lastIndexOf('/') + 1)
  const file = name.slice(folder.length)
  const dot = file.lastIndexOf('.')
  const [stem, suffix] = dot > 0 ? [file.slice(0, dot), file.slice(dot)] : [file, '']
  for (let n = 2; ; n++) {
    const free = `${folder}${stem}_${n}${suffix}`
    if (wrongBeside(free, others) === null) return free
  }
}
