import { chunk } from './chunk'
import { asContent } from './content'
import { isJunk } from './junk'
import { mostFiles } from './names'
import type { Arrival } from './opening'
import type { File as Named } from './program'
import type { Unzipped, ZipError } from './unzip'

// Files that a person drops, chooses or pastes. Their sizes and their number are looked at before any of them
// is read, because a folder or a file of any size can be dropped by mistake.

export interface Item {
  path: string
  file: Blob
}

export type IncomingFault = { why: 'many' } | { why: 'large'; over: number } | { why: 'unreadable'; name: string } | { why: 'nothing' } | { why: 'zip'; error: ZipError }

export interface Incoming extends Arrival {
  /** What they are called together: the zip, the folder or the only file. */
  title: string
  leftOut: Unzipped['leftOut']
}

const mostLookedAt = 5_000

/** What was dropped: files, or the entries of folders. */
export async function listed(entries: readonly (FileSystemEntry | null)[], files: readonly File[]): Promise<{ items: Item[]; folder: string | null }> {
  const folders = entries.some((entry) => entry?.isDirectory === true)
  if (!folders) return { items: files.map((file) => ({ path: file.name, file })), folder: null }
  const folder = entries.length === 1 ? (entries[0]?.name ?? null) : null
  return { items: await walk(entries.filter((entry) => entry !== null)), folder }
}

async function walk(roots: FileSystemEntry[]): Promise<Item[]> {
  const items: Item[] = []
  const waiting = [...roots]
  for (let looked = 0; waiting.length > 0 && items.length <= mostFiles + 1 && looked < mostLookedAt; looked++) {
    const entry = waiting.shift()
    if (entry === undefined || isJunk(`${entry.fullPath.slice(1)}${entry.isDirectory ? '/' : ''}`)) continue
    if (entry.isDirectory) waiting.push(...(await children(entry as FileSystemDirectoryEntry)))
    else items.push({ path: entry.fullPath.slice(1), file: await fileOf(entry as FileSystemFileEntry) })
  }
  return items
}

/** A browser tells of a hundred at a time. */
async function children(folder: FileSystemDirectoryEntry): Promise<FileSystemEntry[]> {
  const reader = folder.createReader()
  const all: FileSystemEntry[] = []
  for (;;) {
    const some = await new Promise<FileSystemEntry[]>((resolve, reject) => reader.readEntries(resolve, reject))
    all.push(...some)
    if (some.length === 0 || all.length > mostLookedAt) return all
  }
}

const fileOf = (entry: FileSystemFileEntry): Promise<File> => new Promise((resolve, reject) => entry.file(resolve, reject))

/** Reads what came. A zip that came alone is unpacked. */
export async function incoming(items: readonly Item[], folder: string | null, mostBytes: number): Promise<Incoming | IncomingFault> {
  const [first] = items
  if (first === undefined) return { why: 'nothing' }
  const name = first.path.split('/').pop() ?? ''
  if (items.length === 1 && /\.zip$/i.test(name)) return unzipped(first.file, name, mostBytes)
  // One more: the input lies beside the files.
  if (items.length > mostFiles + 1) return { why: 'many' }
  const over = items.reduce((sum, { file }) => sum + file.size, 0) - mostBytes
  if (over > 0) return { why: 'large', over }
  const files: Named[] = []
  for (const { path, file } of items) {
    try {
      files.push({ name: path.replaceAll('\\', '/'), content: await asContent(new Uint8Array(await file.arrayBuffer())) })
    } catch {
      return { why: 'unreadable', name: path }
    }
  }
  return { files, folder, title: folder ?? name, leftOut: [] }
}

async function unzipped(zip: Blob, name: string, mostBytes: number): Promise<Incoming | IncomingFault> {
  const { ZipError, unzip } = await chunk(import('./unzip'))
  try {
    // The input may be as large as the files are together.
    return { ...(await unzip(zip, 2 * mostBytes)), folder: name.replace(/\.zip$/i, ''), title: name }
  } catch (error) {
    if (error instanceof ZipError) return { why: 'zip', error }
    return { why: 'unreadable', name }
  }
}
