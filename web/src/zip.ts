import { Zip, ZipDeflate } from 'fflate'
import { breath } from './breath'
import { asBytes } from './content'
import type { File as Named } from './program'

const step = 65_536

/** A zip of files, made in steps. */
export async function zip(files: readonly Named[]): Promise<Blob> {
  const parts: Uint8Array<ArrayBuffer>[] = []
  const out = new Zip((error, part) => {
    if (error !== null) throw error
    parts.push(part as Uint8Array<ArrayBuffer>)
  })
  for (const { name, content, executable } of files) {
    const entry = new ZipDeflate(name)
    entry.os = 3 // Unix, whose modes are in `attrs`
    entry.attrs = (executable === true ? 0o100755 : 0o100644) * 65536
    out.add(entry)
    const bytes = asBytes(content)
    for (let at = 0; at === 0 || at < bytes.length; at += step) {
      entry.push(bytes.subarray(at, at + step), at + step >= bytes.length)
      await breath()
    }
  }
  out.end()
  return new Blob(parts, { type: 'application/zip' })
}
