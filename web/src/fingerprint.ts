/** In characters: a longer text takes its time, and is asked for again and again. */
const long = 100_000
let last = { text: '', print: '' }

/** A short name of a text: two texts that differ have different ones, but for chance. */
export function fingerprint(text: string): string {
  if (text.length < long) return made(text)
  if (text !== last.text) last = { text, print: made(text) }
  return last.print
}

function made(text: string): string {
  let a = 0xdeadbeef
  let b = 0x41c6ce57
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i)
    a = Math.imul(a ^ unit, 2654435761)
    b = Math.imul(b ^ unit, 1597334677)
  }
  return `${(a >>> 0).toString(36)}.${(b >>> 0).toString(36)}.${text.length}`
}
