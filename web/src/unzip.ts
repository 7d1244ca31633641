import { Inflate } from 'fflate'
import { breath } from './breath'
import { asContent } from './content'
import { crc32 } from './crc32'
import { isJunk } from './junk'
import { mostFiles, wrongBeside, wrongName } from './names'
import type { File as Named } from './program'

// A zip comes from a stranger. Its directory is read first, and refused by what it says of itself; then each
// entry is unpacked in small steps, up to the size that it claimed. So the work is bounded by the most that a
// program may have, whatever the zip's own size is. The layout is that of PKWARE's APPNOTE 6.3.10.

export type ZipFault = 'zip_damaged' | 'zip_password' | 'zip_many' | 'zip_empty' | 'zip_large'
export type LeftOut = 'path' | 'link' | 'twice' | 'password' | 'packing' | 'name'

export class ZipError extends Error {
  constructor(
    readonly fault: ZipFault,
    readonly n = 0,
  ) {
    super(fault)
  }
}

export interface Unzipped {
  files: Named[]
  leftOut: { name: string; why: LeftOut }[]
}

interface Entry {
  name: string
  executable: boolean
  method: number
  crc: number
  packed: number
  size: number
  at: number
}

const mostEntries = 20_000
/** Of the directory. Beyond its entries it may have comments. */
const mostDirectory = 4 * 2 ** 20
/** Packed bytes for a step: they become at most a thousand times as many. */
const step = 4096
const deflate = 8
const stored = 0

const damaged = (): ZipError => new ZipError('zip_damaged')

/** The files of a zip. `mostBytes` is for all of them together. Raises ZipError. */
export async function unzip(zip: Blob, mostBytes: number): Promise<Unzipped> {
  const { entries, leftOut } = await directory(zip)
  const size = entries.reduce((sum, entry) => sum + entry.size, 0)
  if (size > mostBytes) throw new ZipError('zip_large', size)
  if (entries.length === 0) throw new ZipError(leftOut.some(({ why }) => why === 'password') ? 'zip_password' : 'zip_empty')
  const files: Named[] = []
  for (const entry of entries) {
    const content = await asContent(await unpack(zip, entry))
    files.push(entry.executable ? { name: entry.name, content, executable: true } : { name: entry.name, content })
  }
  return { files, leftOut }
}

async function bytes(zip: Blob, from: number, size: number): Promise<DataView> {
  if (from < 0 || from + size > zip.size) throw damaged()
  return new DataView(await zip.slice(from, from + size).arrayBuffer())
}

/** A number of eight bytes. Beyond what a file can have, it is no place in one. */
function long(view: DataView, at: number): number {
  return view.getUint32(at, true) + view.getUint32(at + 4, true) * 2 ** 32
}

async function directory(zip: Blob): Promise<{ entries: Entry[]; leftOut: Unzipped['leftOut'] }> {
  const { count, size, at } = await end(zip)
  if (count > mostEntries) throw new ZipError('zip_many', count)
  if (size > mostDirectory) throw damaged()
  const view = await bytes(zip, at, size)
  const entries: Entry[] = []
  const leftOut: Unzipped['leftOut'] = []
  const taken = new Map<string, Entry>()
  let from = 0
  for (let n = 0; n < count; n++) {
    if (n % 256 === 0) await breath()
    if (from + 46 > size || view.getUint32(from, true) !== 0x02014b50) throw damaged()
    const lengths = [28, 30, 32].map((field) => view.getUint16(from + field, true))
    const [nameLength = 0, extraLength = 0, commentLength = 0] = lengths
    const next = from + 46 + nameLength + extraLength + commentLength
    if (next > size) throw damaged()
    const { entry, why } = one(view, from, nameLength, extraLength)
    from = next
    if (entry === null || isJunk(entry.name)) continue
    if (why !== null) leftOut.push({ name: entry.name, why })
    else if (taken.has(entry.name)) leftOut.push({ name: entry.name, why: 'twice' })
    else taken.set(entry.name, entry)
  }
  // One more: the input lies beside the files.
  if (taken.size > mostFiles + 1) throw new ZipError('zip_many', taken.size)
  for (const entry of taken.values()) {
    const others = entries.map(({ name }) => name)
    if (wrongBeside(entry.name, others) === null) entries.push(entry)
    else leftOut.push({ name: entry.name, why: 'twice' })
  }
  return { entries, leftOut }
}

/** Where the directory is, and how many entries it has. */
async function end(zip: Blob): Promise<{ count: number; size: number; at: number }> {
  const tail = Math.min(zip.size, 65_557)
  const view = await bytes(zip, zip.size - tail, tail)
  let found = tail - 22
  while (found >= 0 && view.getUint32(found, true) !== 0x06054b50) found--
  if (found < 0) throw damaged()
  const short = { count: view.getUint16(found + 10, true), size: view.getUint32(found + 12, true), at: view.getUint32(found + 16, true) }
  if (found < 20 || view.getUint32(found - 20, true) !== 0x07064b50) return short
  const large = await bytes(zip, long(view, found - 12), 56)
  if (large.getUint32(0, true) !== 0x06064b50) throw damaged()
  return { count: long(large, 32), size: long(large, 40), at: long(large, 48) }
}

function one(view: DataView, at: number, nameLength: number, extraLength: number): { entry: Entry | null; why: LeftOut | null } {
  const host = view.getUint8(at + 5)
  const flags = view.getUint16(at + 8, true)
  const method = view.getUint16(at + 10, true)
  const mode = host === 3 || host === 19 ? view.getUint32(at + 38, true) >>> 16 : 0
  const raw = new Uint8Array(view.buffer, at + 46, nameLength)
  const name = path(text(raw))
  if (name.endsWith('/') || (mode & 0o170000) === 0o040000) return { entry: null, why: null }
  const entry: Entry = {
    name,
    executable: (mode & 0o111) !== 0,
    method,
    crc: view.getUint32(at + 16, true),
    packed: view.getUint32(at + 20, true),
    size: view.getUint32(at + 24, true),
    at: view.getUint32(at + 42, true),
  }
  enlarge(entry, view, at + 46 + nameLength, extraLength)
  const wrong = wrongName(name)
  if (wrong === 'path') return { entry, why: 'path' }
  if (/^[A-Za-z]:/.test(name)) return { entry, why: 'path' }
  if (wrong !== null) return { entry, why: 'name' }
  if ((mode & 0o170000) === 0o120000) return { entry, why: 'link' }
  if ((flags & 1) !== 0) return { entry, why: 'password' }
  if (method !== stored && method !== deflate) return { entry, why: 'packing' }
  return { entry, why: null }
}

/** Zip64: numbers that are too large for four bytes follow in an extra field. */
function enlarge(entry: Entry, view: DataView, from: number, length: number): void {
  for (let at = from; at + 4 <= from + length; ) {
    const size = view.getUint16(at + 2, true)
    if (at + 4 + size > from + length) return
    if (view.getUint16(at, true) === 1) {
      let field = at + 4
      for (const key of ['size', 'packed', 'at'] as const) {
        if (entry[key] !== 0xffffffff) continue
        if (field + 8 > at + 4 + size) throw damaged()
        entry[key] = long(view, field)
        field += 8
      }
    }
    at += 4 + size
  }
}

const strict = new TextDecoder('utf-8', { fatal: true })
/** What MS-DOS had above 127, and zips have where nothing else is said. */
const dos =
  'ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\xa0'

/** Many tools write UTF-8 without saying so; what is none is of old. */
function text(raw: Uint8Array): string {
  try {
    return strict.decode(raw)
  } catch {
    return Array.from(raw, (byte) => (byte < 128 ? String.fromCharCode(byte) : (dos[byte - 128] ?? ''))).join('')
  }
}

/** Some tools on Windows write backslashes. */
const path = (name: string): string => (name.includes('/') ? name : name.replaceAll('\\', '/'))

async function unpack(zip: Blob, { at, packed, size, method, crc }: Entry): Promise<Uint8Array> {
  const head = await bytes(zip, at, 30)
  if (head.getUint32(0, true) !== 0x04034b50) throw damaged()
  // No packing makes anything much larger.
  if (packed > 2 * size + 4096) throw damaged()
  const from = at + 30 + head.getUint16(26, true) + head.getUint16(28, true)
  const source = new Uint8Array((await bytes(zip, from, packed)).buffer)
  const content = method === stored ? source : await inflated(source, size)
  if (content.length !== size || crc32(content) !== crc) throw damaged()
  return content
}

async function inflated(source: Uint8Array, size: number): Promise<Uint8Array> {
  const content = new Uint8Array(size)
  let filled = 0
  const inflate = new Inflate((part) => {
    if (filled + part.length > size) throw damaged()
    content.set(part, filled)
    filled += part.length
  })
  for (let at = 0; at < source.length; at += step) {
    try {
      inflate.push(source.subarray(at, at + step), at + step >= source.length)
    } catch {
      throw damaged()
    }
    await breath()
  }
  return content.subarray(0, filled)
}
