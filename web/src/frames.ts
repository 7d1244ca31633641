import type { ServerFrame } from './messages'
import { has, isList, isNumber, isText, orNothing, orNull, parsed } from './parsed'

// A frame may have been made, or changed, on the way. Only what the page reads is looked at: another version of the server
// may tell more, and may have kinds of frames and of events that the page does not know.

const isData = (value: unknown): boolean => isText(value) || has<{ base64: string }>({ base64: isText })(value)
const isObject = has<object>({})

const isCount = has({ call: isText, count: isNumber, failed: isNumber, refused: isNumber, seconds: isNumber })

const isResult = has({
  id: isText,
  verdict: isText,
  message: orNull(isText),
  language: orNull(has({ id: isText })),
  compile: orNull(isObject),
  run: orNull(isObject),
  artifacts: orNothing(isList(has({ name: isText, bytes: isNumber, type: isText }))),
  trace: orNothing(orNull(has({ ended: isText, calls: isNumber, counts: isList(isCount) }))),
  attempts: isNumber,
})

const events = new Map<string, (value: unknown) => boolean>([
  ['queued', has({ position: orNull(isNumber), estimate_s: orNull(isNumber) })],
  ['started', has({ attempt: isNumber, wall_time: orNull(isNumber), idle: orNull(isNumber) })],
  ['stage', has({ stage: isText, phase: isText })],
  ['output', has({ stage: isText, stream: isText, data: isData })],
  ['finished', has({ result: isResult })],
])

const isNamed = has<{ name: string }>({ name: isText })
const isEvent = (value: unknown): boolean => isNamed(value) && events.get(value.name)?.(value) !== false

const frames = new Map<string, (value: unknown) => boolean>([
  ['accepted', has({ ref: isText, id: isText })],
  ['done', has({ ref: orNothing(isText) })],
  ['error', has({ ref: orNothing(isText), problem: has({ type: isText, title: isText, status: isNumber }) })],
  ['event', has({ id: isText, seq: isNumber, event: isEvent })],
])

const isTyped = has<{ type: string }>({ type: isText })

/** Null for what no server of ours has sent. */
export function readFrame(data: unknown): ServerFrame | null {
  const isFrame = (value: unknown): value is ServerFrame => isTyped(value) && frames.get(value.type)?.(value) !== false
  return parsed(isText(data) ? data : null, isFrame)
}
