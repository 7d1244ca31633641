import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { ClientFrame, Event, ServerFrame } from '../src/messages'
import { newRunner } from '../src/run'
import type { RunView } from '../src/run'

const submission = { language: 'python', source: 'print(1)', stdin: '', interactive: true }
const finished = { id: 'x', verdict: 'ok', message: null, compile: null, run: null, attempts: 1 }

function begin() {
  const sent: ClientFrame[] = []
  const seen: string[] = []
  const line = { up: true }
  const view: RunView = {
    clear: () => seen.push('clear'),
    sending: () => seen.push('sending'),
    queued: (position) => seen.push(`queued ${position}`),
    started: (attempt) => seen.push(`started ${attempt}`),
    stage: (stage) => seen.push(stage),
    output: (_stage, _stream, data) => seen.push(String(data)),
    finished: (result) => seen.push(result.verdict),
    refused: (problem) => seen.push(`refused ${problem.status}`),
    lost: (problem) => seen.push(`lost ${problem.status}`),
  }
  const runner = newRunner((frame) => line.up && sent.push(frame) > 0, view)
  const take = () => sent.splice(0)
  const saw = () => seen.splice(0)
  const event = (seq: number, event: Event): void => runner.frame({ type: 'event', id: 'x', seq, time: '', event })
  const output = (seq: number, data: string) => event(seq, { name: 'output', stage: 'run', stream: 'stdout', data })
  const problem = (ref: string, type: string, status: number): ServerFrame => ({
    type: 'error',
    ref,
    problem: { type, title: type, status },
  })
  /** Submits and lets the server accept. */
  const accepted = () => {
    runner.submit(submission)
    const [submit] = take()
    assert.equal(submit?.type, 'submit')
    runner.frame({ type: 'accepted', ref: submit.ref, id: 'x' })
    saw()
  }
  const drop = (code = 1006) => {
    line.up = false
    runner.closed(code)
  }
  const back = () => {
    line.up = true
    runner.opened()
  }
  return { runner, take, saw, event, output, problem, accepted, drop, back }
}

test('after a reconnect it goes on where it was, and drops what it has seen', () => {
  const t = begin()
  t.accepted()
  t.output(1, 'a')
  t.output(2, 'b')
  t.drop()
  t.back()
  assert.deepEqual(t.take().map((f) => f.type === 'subscribe' && f.after), [2])
  t.output(2, 'b')
  t.output(3, 'c')
  assert.deepEqual(t.saw(), ['a', 'b', 'c'])
})

test('a second attempt clears what the first one showed', () => {
  const t = begin()
  t.accepted()
  t.event(1, { name: 'started', attempt: 1, version: null, node: null })
  t.output(2, 'a')
  t.event(3, { name: 'started', attempt: 2, version: null, node: null })
  assert.deepEqual(t.saw(), ['started 1', 'a', 'clear', 'started 2'])
})

test('events-reset starts again from nothing', () => {
  const t = begin()
  t.accepted()
  t.output(5, 'a')
  t.drop()
  t.back()
  const [subscribe] = t.take()
  t.runner.frame(t.problem(subscribe!.ref, 'https://example/problems/events-reset', 409))
  assert.deepEqual(t.saw(), ['a', 'clear'])
  assert.deepEqual(t.take().map((f) => f.type === 'subscribe' && f.after), [0])
  t.output(1, 'a')
  assert.deepEqual(t.saw(), ['a'])
})

test('a submission nobody answered is sent again, but not for ever', () => {
  const t = begin()
  t.runner.submit(submission)
  for (let i = 0; i < 2; i++) {
    t.drop()
    t.back()
  }
  assert.deepEqual(t.take().map((f) => f.type), ['submit', 'submit', 'submit'])
  t.drop()
  assert.deepEqual(t.saw(), ['sending', 'refused 503'])
  assert.equal(t.runner.current(), null)
})

test('a submission that is too large for the connection is not sent again', () => {
  const t = begin()
  t.runner.submit(submission)
  t.drop(1009)
  assert.deepEqual(t.saw(), ['sending', 'refused 413'])
})

test('what was submitted while offline is sent when the connection is there', () => {
  const t = begin()
  t.drop()
  t.runner.submit(submission)
  assert.deepEqual(t.take(), [])
  t.back()
  assert.deepEqual(t.take().map((f) => f.type), ['submit'])
})

test('cancelling before the answer takes effect with the answer', () => {
  const t = begin()
  t.runner.submit(submission)
  const [submit] = t.take()
  t.runner.cancel()
  assert.deepEqual(t.take(), [])
  t.runner.frame({ type: 'accepted', ref: submit!.ref, id: 'x' })
  assert.deepEqual(t.take().map((f) => f.type), ['cancel'])
})

test('typed input is sent one message at a time and repeated with its offset', () => {
  const t = begin()
  t.accepted()
  t.runner.type('é\n', false)
  t.runner.type('b\n', false)
  t.runner.type('', true)
  const [first, ...none] = t.take()
  assert.deepEqual(none, [])
  assert.ok(first?.type === 'stdin' && first.offset === 0)
  t.runner.frame({ type: 'done', ref: first.ref, id: 'x' })
  const [second] = t.take()
  assert.ok(second?.type === 'stdin' && second.offset === 3)
  t.drop()
  t.back()
  const again = t.take()[1]
  assert.ok(again?.type === 'stdin' && again.offset === 3 && again.data === 'b\n')
  t.runner.frame({ type: 'done', ref: again.ref, id: 'x' })
  const [end] = t.take()
  assert.ok(end?.type === 'stdin' && end.offset === 5 && end.eof)
})

test('finished is the last word', () => {
  const t = begin()
  t.accepted()
  t.event(1, { name: 'finished', result: finished })
  t.output(2, 'late')
  assert.deepEqual(t.saw(), ['ok'])
  assert.equal(t.runner.current(), null)
})
