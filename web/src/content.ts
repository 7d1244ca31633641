import type { Data } from './messages'

const strict = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/** Text where the bytes are text, else base64. */
export function asContent(bytes: Uint8Array): Data {
  if (!bytes.includes(0)) {
    try {
      return strict.decode(bytes)
    } catch {
      // It is none.
    }
  }
  return { base64: base64(bytes) }
}

export function asBytes(content: Data): Uint8Array<ArrayBuffer> {
  if (typeof content === 'string') return new TextEncoder().encode(content)
  return Uint8Array.from(atob(content.base64), (char) => char.charCodeAt(0))
}

function base64(bytes: Uint8Array): string {
  let text = ''
  for (let at = 0; at < bytes.length; at += 0x8000) text += String.fromCharCode(...bytes.subarray(at, at + 0x8000))
  return btoa(text)
}
