/** What a formatter says of a program that it cannot read, in one line. */
export interface Complaint {
  line: number | null
  text: string
}

const longest = 200
const looked = 4000

/** The forms: `main.go:3:19: expected …`, `error: … main.py: Cannot parse: 1:6: …`, `error: …` and then
 * ` --> <stdin>:1:15`, `[error] main.js: SyntaxError: … (1:5)`. */
export function complaint(stderr: string): Complaint {
  const said = stderr.slice(0, looked)
  const place = /\b(\d{1,7}):\d/.exec(said) ?? /:(\d{1,7}):/.exec(said)
  const first = said.split('\n').find((line) => line.trim() !== '') ?? ''
  const text = first
    .replace(/^(\[?error\]?:? )?(cannot format )?/i, '')
    .replace(/^[^\s:]+:(\d+:)*\s*/, '')
    .replace(/\s*\(\d+:\d+\)$/, '')
    .replace(/^Cannot parse[^:]*: \d+:\d+: /, '')
    .trim()
  return { line: place?.[1] === undefined ? null : Number(place[1]), text: text.length > longest ? `${text.slice(0, longest)}…` : text }
}
