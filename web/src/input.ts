import { newKey } from './key'

// What is typed during a run. The server counts a writer's bytes, so that a message repeated after a reconnect is
// dropped there; one message is on its way at a time, so a refused one leaves no gap. What is typed meanwhile goes
// together into the next.
//
// Each page is a writer of its own. A page that is loaded again first sends what was typed before and perhaps not
// taken, as the page before it would have. So it does no harm when both do: a tab that is duplicated is two pages.

/** What one writer has typed. */
export interface Typed {
  writer: string
  /** Bytes that the server has taken. */
  offset: number
  /** What it has perhaps not taken. */
  waiting: string[]
}

export interface Message {
  data: string
  writer: string
  offset: number
}

export interface Input {
  /** Of pages before this one, as far as something waits. */
  earlier: Typed[]
  own: Typed
  sent: Message | null
}

/** A message of so many characters gets no more. */
const longest = 16_384
const parts = /[^]{1,8192}/gu
const mostWaiting = 1_048_576

const encoder = new TextEncoder()
const decoder = new TextDecoder('utf-8', { ignoreBOM: true })

const newTyped = (waiting: string[] = []): Typed => ({ writer: newKey(), offset: 0, waiting })

/** `typed` in pages before this one. */
export function newInput(typed: readonly Typed[] = []): Input {
  const earlier = typed.filter(({ waiting }) => waiting.length > 0).map((each) => ({ ...each, waiting: [...each.waiting] }))
  return { earlier, own: newTyped(), sent: null }
}

/** All that was typed, first what goes first. */
const all = ({ earlier, own }: Input) => [...earlier, own]

/** What a page loaded again has to send. */
export const unsent = (input: Input): Typed[] => all(input).filter(({ waiting }) => waiting.length > 0)

/** False when so much waits already that this is left out. */
export function add(input: Input, data: string): boolean {
  // Half a character, which no keyboard types, has no bytes of its own.
  const text = decoder.decode(encoder.encode(data))
  const waits = all(input).flatMap(({ waiting }) => waiting)
  if (text.length + waits.reduce((sum, each) => sum + each.length, 0) > mostWaiting) return false
  const { waiting, writer } = input.own
  for (const part of text.match(parts) ?? []) {
    const last = waiting.length - 1
    const joins = last >= (input.sent?.writer === writer ? 1 : 0) && (waiting[last] ?? '').length < longest
    if (joins) waiting[last] += part
    else waiting.push(part)
  }
  return true
}

/** The message to send now, if any: nothing while one is on its way. */
export function next(input: Input): Message | null {
  const [first] = unsent(input)
  const data = first?.waiting[0]
  if (input.sent !== null || first === undefined || data === undefined) return null
  input.sent = { data, writer: first.writer, offset: first.offset }
  return input.sent
}

export function taken(input: Input): void {
  const [first] = unsent(input)
  if (input.sent === null || first === undefined) return
  first.offset += encoder.encode(input.sent.data).length
  first.waiting.shift()
  input.sent = null
}

/** The message was refused for now, or the connection went: it is still the first to send. */
export function again(input: Input): void {
  input.sent = null
}

/** The server has forgotten what it had: what waits comes from somebody new. */
export function anew(input: Input): void {
  input.own = newTyped(unsent(input).flatMap(({ waiting }) => waiting))
  input.earlier = []
  input.sent = null
}
