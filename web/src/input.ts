// What is typed during a run. The server counts bytes, so that a message repeated after a reconnect is
// dropped there; one message is on its way at a time, so a refused one leaves no gap. What is typed
// meanwhile goes together into the next.

export interface Message {
  data: string
  offset: number
}

export interface Input {
  waiting: string[]
  /** Bytes that the server has taken. */
  offset: number
  sent: Message | null
}

/** A message of so many characters gets no more. */
const longest = 16_384
const parts = /[^]{1,8192}/gu
const mostWaiting = 1_048_576

const encoder = new TextEncoder()
const decoder = new TextDecoder('utf-8', { ignoreBOM: true })

export function newInput(waiting: string[] = [], offset = 0): Input {
  return { waiting: [...waiting], offset, sent: null }
}

/** False when so much waits already that this is left out. */
export function add(input: Input, data: string): boolean {
  // Half a character, which no keyboard types, has no bytes of its own.
  const text = decoder.decode(encoder.encode(data))
  if (text.length + input.waiting.reduce((sum, each) => sum + each.length, 0) > mostWaiting) return false
  for (const part of text.match(parts) ?? []) {
    const last = input.waiting.length - 1
    const joins = last >= (input.sent === null ? 0 : 1) && (input.waiting[last] ?? '').length < longest
    if (joins) input.waiting[last] += part
    else input.waiting.push(part)
  }
  return true
}

/** The message to send now, if any: nothing while one is on its way. */
export function next(input: Input): Message | null {
  const data = input.waiting[0]
  if (input.sent !== null || data === undefined) return null
  input.sent = { data, offset: input.offset }
  return input.sent
}

export function taken(input: Input): void {
  if (input.sent === null) return
  input.offset += encoder.encode(input.sent.data).length
  input.waiting.shift()
  input.sent = null
}

/** The message was refused for now, or the connection went: it is still the first to send. */
export function again(input: Input): void {
  input.sent = null
}
