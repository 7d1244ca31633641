import { breath } from './breath'
import type { Data } from './messages'

const strict = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/** Text where the bytes are text, else base64. */
export async function asContent(bytes: Uint8Array): Promise<Data> {
  if (!bytes.includes(0)) {
    try {
      return strict.decode(bytes)
    } catch {
      // It is none.
    }
  }
  return { base64: await base64(bytes) }
}

export function asBytes(content: Data): Uint8Array<ArrayBuffer> {
  return typeof content === 'string' ? new TextEncoder().encode(content) : fromBase64(content.base64)
}

export function fromBase64(base64: string): Uint8Array<ArrayBuffer> {
  const text = atob(base64)
  const bytes = new Uint8Array(text.length)
  for (let at = 0; at < text.length; at++) bytes[at] = text.charCodeAt(at)
  return bytes
}

/** In bytes: whole groups of three. */
const part = 3 * 0x2000

async function base64(bytes: Uint8Array): Promise<string> {
  const parts: string[] = []
  for (let at = 0; at < bytes.length; at += part) {
    parts.push(btoa(String.fromCharCode(...bytes.subarray(at, at + part))))
    await breath()
  }
  return parts.join('')
}
