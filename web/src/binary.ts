import { fromBase64 } from './content'
import type { Data } from './messages'

/** Bytes that are kept as they came: of more than that, only the text is. */
const mostKept = 4 * 1024 ** 2
/** Of characters that stand for bytes which are none. */
const mostBroken = 0.05

/** Sees whether what a program writes is text at all, and keeps its bytes. */
export interface Binary {
  add(data: Data): void
  clear(): void
  /** So much of it is not text that nobody wants to read it. */
  readonly isBinary: boolean
  /** In bytes. */
  readonly size: number
  /** From the beginning, as far as they are kept. */
  bytes(): Uint8Array<ArrayBuffer>
}

const encoder = new TextEncoder()

export function newBinary(): Binary {
  let pieces: Data[] = []
  let decoder = new TextDecoder()
  let size = 0
  let characters = 0
  let broken = 0

  return {
    add(data) {
      if (typeof data === 'string') {
        size += encoder.encode(data).length
        characters += data.length
      } else {
        const bytes = fromBase64(data.base64)
        const text = decoder.decode(bytes, { stream: true })
        size += bytes.length
        characters += text.length
        broken += text.match(/\ufffd/g)?.length ?? 0
      }
      if (size <= mostKept) pieces.push(data)
    },
    clear() {
      pieces = []
      decoder = new TextDecoder()
      size = characters = broken = 0
    },
    get isBinary() {
      return broken > mostBroken * characters
    },
    get size() {
      return size
    },
    bytes() {
      const all = pieces.map((piece) => (typeof piece === 'string' ? encoder.encode(piece) : fromBase64(piece.base64)))
      const whole = new Uint8Array(all.reduce((sum, each) => sum + each.length, 0))
      let at = 0
      for (const each of all) {
        whole.set(each, at)
        at += each.length
      }
      return whole
    },
  }
}

const perLine = 16

/** Addresses, bytes, and the characters that can be shown. */
export function hex(bytes: Uint8Array): string {
  const lines: string[] = []
  for (let at = 0; at < bytes.length; at += perLine) {
    const part = [...bytes.subarray(at, at + perLine)]
    const codes = part.map((byte) => byte.toString(16).padStart(2, '0')).join(' ')
    const shown = part.map((byte) => (byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : '·')).join('')
    lines.push(`${at.toString(16).padStart(6, '0')}  ${codes.padEnd(3 * perLine - 1)}  ${shown}`)
  }
  return lines.join('\n')
}
