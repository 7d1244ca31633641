// Standard input typed during a run. The server counts bytes, so that a message repeated after a
// reconnect is dropped there; one message is on its way at a time, so a refused one leaves no gap.

export interface Message {
  data: string
  offset: number
  eof: boolean
}

export interface Input {
  waiting: { data: string; eof: boolean }[]
  /** Bytes that the server has taken. */
  offset: number
  sent: Message | null
  ended: boolean
}

const encoder = new TextEncoder()

export function newInput(offset = 0): Input {
  return { waiting: [], offset, sent: null, ended: false }
}

export function add(input: Input, data: string, eof: boolean): void {
  if (input.ended) return
  input.waiting.push({ data, eof })
  input.ended = eof
}

/** The message to send now, if any: nothing while one is on its way. */
export function next(input: Input): Message | null {
  const head = input.waiting[0]
  if (input.sent !== null || head === undefined) return null
  input.sent = { ...head, offset: input.offset }
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
