import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { ClientFrame, Event, ServerFrame } from '../src/messages'
import { newRunner } from '../src/run'
import type { RunView } from '../src/run'

const submission = { language: 'python', source: 'print(1)', stdin: '', tty: { rows: 24, cols: 80 } }
const finished = { id: 'x', verdict: 'ok', message: null, language: null, compile: null, run: null, attempts: 1 }

function begin() {
  const sent: ClientFrame[] = []
  const seen: string[] = []
  const line = { up: true }
  const view: RunView = {
    clear: () => seen.push('clear'),
    sending: () => seen.push('sending'),
    resuming: () => seen.push('resuming'),
    away: (accepted) => seen.push(accepted ? 'away, accepted' : 'away'),
    back: () => seen.push('back'),
    queued: (position) => seen.push(`queued ${position}`),
    started: (attempt) => seen.push(`started ${attempt}`),
    stage: (stage) => seen.push(stage),
    output: (_stage, _stream, data, old) => seen.push(old ? `old ${String(data)}` : String(data)),
    finished: (result) => seen.push(result.verdict),
    refused: (problem) => seen.push(`refused ${problem.status}`),
    lost: (problem) => seen.push(`lost ${problem.status}`),
    forgotten: () => seen.push('forgotten'),
  }
  const runner = newRunner((frame) => line.up && sent.push(frame) > 0, view)
  const take = () => sent.splice(0)
  const saw = () => seen.splice(0)
  const event = (seq: number, event: Event) => runner.frame({ type: 'event', id: 'x', seq, time: '', event })
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
  assert.deepEqual(t.saw(), ['a', 'b', 'away, accepted', 'back', 'c'])
})

test('a second attempt clears what the first one showed', () => {
  const t = begin()
  t.accepted()
  t.event(1, { name: 'started', attempt: 1, version: null, node: null, wall_time: null, idle: null })
  t.output(2, 'a')
  t.event(3, { name: 'started', attempt: 2, version: null, node: null, wall_time: null, idle: null })
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
  assert.deepEqual(t.saw(), ['a', 'away, accepted', 'back', 'clear'])
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
  assert.deepEqual(t.saw(), ['sending', 'away', 'away', 'refused 503'])
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
  assert.deepEqual(t.saw(), ['sending', 'away'])
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

test('typed input is sent one message at a time, all that came meanwhile in the next, and repeated with its offset', () => {
  const t = begin()
  t.accepted()
  t.runner.type('é')
  t.runner.type('\r')
  t.runner.type('b\x03')
  const [first, ...none] = t.take()
  assert.deepEqual(none, [])
  assert.ok(first?.type === 'stdin' && first.offset === 0 && first.data === 'é')
  t.runner.frame({ type: 'done', ref: first.ref, id: 'x' })
  const [second] = t.take()
  assert.ok(second?.type === 'stdin' && second.offset === 2 && second.data === '\rb\x03')
  t.drop()
  t.runner.type('c')
  t.back()
  const again = t.take()[1]
  assert.ok(again?.type === 'stdin' && again.offset === 2 && again.data === '\rb\x03c')
  t.runner.frame({ type: 'done', ref: again.ref, id: 'x' })
  assert.deepEqual(t.take(), [])
})

test('what was typed and perhaps not taken outlives a reload', () => {
  const t = begin()
  t.accepted()
  t.output(1, 'name? ')
  t.runner.type('a')
  t.runner.type('b')
  const later = begin()
  later.runner.resume(t.runner.shown()!)
  later.back()
  const sent = later.take().find((frame) => frame.type === 'stdin')
  const [before] = t.take()
  assert.ok(sent?.type === 'stdin' && sent.offset === 0 && sent.data === 'a')
  assert.ok(before?.type === 'stdin' && before.writer === sent.writer)
  later.output(1, 'name? ')
  later.output(2, 'hello')
  assert.deepEqual(later.saw(), ['resuming', 'old name? ', 'hello'])
})

test('each of two pages counts its own bytes, behind those that the page before them had typed', () => {
  const sent = (t: ReturnType<typeof begin>) => t.take().flatMap((frame) => (frame.type === 'stdin' ? [frame] : []))
  const t = begin()
  t.accepted()
  t.runner.type('é')
  const [first] = sent(t)
  const copy = begin()
  copy.runner.resume(t.runner.shown()!)
  copy.back()
  copy.runner.type('x')
  const [repeat] = sent(copy)
  assert.ok(first !== undefined && repeat?.writer === first.writer && repeat.data === 'é' && repeat.offset === 0)
  copy.runner.frame({ type: 'done', ref: repeat.ref, id: 'x' })
  const [own] = sent(copy)
  assert.ok(own !== undefined && own.writer !== first.writer && own.data === 'x' && own.offset === 0)
  assert.deepEqual(copy.runner.shown()!.typed.map(({ writer }) => writer), [own.writer])
  t.runner.frame({ type: 'done', ref: first.ref, id: 'x' })
  t.runner.type('y')
  const [second] = sent(t)
  assert.ok(second?.writer === first.writer && second.offset === 2)
})

test('a server that has forgotten what it had gets what waits', () => {
  const t = begin()
  t.accepted()
  t.runner.type('a')
  const [first] = t.take()
  assert.ok(first?.type === 'stdin')
  t.runner.frame({ type: 'done', ref: first.ref, id: 'x' })
  t.runner.type('b')
  const [second] = t.take()
  assert.ok(second?.type === 'stdin' && second.offset === 1)
  t.runner.frame(t.problem(second.ref, 'stdin-gap', 409))
  const [again] = t.take()
  assert.ok(again?.type === 'stdin' && again.data === 'b' && again.offset === 0 && again.writer !== second.writer)
})

test('nothing is typed into a program that has its input, or has ended', () => {
  const t = begin()
  const { tty: _, ...piped } = submission
  t.runner.submit(piped)
  const [submit] = t.take()
  t.runner.frame({ type: 'accepted', ref: submit!.ref, id: 'x' })
  t.runner.type('a')
  t.runner.resize({ rows: 1, cols: 1 })
  t.event(1, { name: 'finished', result: finished })
  t.runner.resume({ id: 'x', tty: true, seen: 1, typed: [], over: true })
  t.runner.type('a')
  t.runner.resize({ rows: 1, cols: 1 })
  assert.deepEqual(t.take().map((frame) => frame.type), ['subscribe'])
})

test('the size of the terminal is told when it changes, at last as it is, and to a second attempt', () => {
  const t = begin()
  const size = (rows: number) => t.runner.resize({ rows, cols: 80 })
  const told = () => t.take().flatMap((frame) => (frame.type === 'resize' ? [[frame.ref, frame.rows] as const] : []))
  t.accepted()
  size(24)
  assert.deepEqual(told(), [])
  size(30)
  size(31)
  size(32)
  const [[ref, rows], ...none] = told() as [[string, number]]
  assert.deepEqual([rows, none], [30, []])
  t.runner.frame({ type: 'done', ref, id: 'x' })
  const [[last, then]] = told() as [[string, number]]
  assert.equal(then, 32)
  t.runner.frame(t.problem(last, 'not-running', 409))
  t.event(1, { name: 'stage', stage: 'run', phase: 'start', outcome: null })
  const [[later]] = told() as [[string, number]]
  t.drop()
  t.back()
  const [[again, still]] = told() as [[string, number]]
  assert.deepEqual([again === later, still], [false, 32])
  t.runner.frame({ type: 'done', ref: again, id: 'x' })
  t.event(2, { name: 'started', attempt: 2, version: null, node: null, wall_time: null, idle: null })
  t.event(3, { name: 'stage', stage: 'run', phase: 'start', outcome: null })
  assert.deepEqual(told().map(([, rows]) => rows), [32])
})

test('finished is the last word', () => {
  const t = begin()
  t.accepted()
  t.event(1, { name: 'finished', result: finished })
  t.output(2, 'late')
  assert.deepEqual(t.saw(), ['ok'])
  assert.equal(t.runner.current(), null)
})

test('typing survives a server that is not available for a moment', (context) => {
  context.mock.timers.enable({ apis: ['setTimeout'] })
  const t = begin()
  t.accepted()
  t.runner.type('a\n')
  t.runner.type('b\n')
  const [first] = t.take()
  assert.ok(first?.type === 'stdin')
  t.runner.frame(t.problem(first.ref, 'unavailable', 503))
  assert.deepEqual(t.take(), [])
  context.mock.timers.tick(1000)
  const [again] = t.take()
  assert.ok(again?.type === 'stdin' && again.data === 'a\n' && again.offset === 0)
  t.runner.frame({ type: 'done', ref: again.ref, id: 'x' })
  const [second] = t.take()
  assert.ok(second?.type === 'stdin' && second.data === 'b\n' && second.offset === 2)
})

test('so does a cancel', (context) => {
  context.mock.timers.enable({ apis: ['setTimeout'] })
  const t = begin()
  t.accepted()
  t.runner.cancel()
  const [cancel] = t.take()
  t.runner.frame(t.problem(cancel!.ref, 'unavailable', 503))
  context.mock.timers.tick(1000)
  assert.deepEqual(t.take().map((f) => f.type), ['cancel'])
})

test('running again cancels what runs, and shows nothing more of it', () => {
  const t = begin()
  t.accepted()
  t.output(1, 'old')
  t.runner.submit({ ...submission, source: 'print(2)' })
  const [cancel, submit] = t.take()
  assert.ok(cancel?.type === 'cancel' && cancel.id === 'x')
  assert.ok(submit?.type === 'submit' && submit.submission.source === 'print(2)')
  t.output(2, 'late')
  t.runner.frame({ type: 'done', ref: cancel.ref, id: 'x' })
  t.runner.frame({ type: 'accepted', ref: submit.ref, id: 'y' })
  t.event(3, { name: 'finished', result: finished })
  assert.deepEqual(t.saw(), ['old', 'sending'])
  assert.equal(t.runner.current()?.id, 'y')
})

test('what is replaced before the server has named it is cancelled when it has, over any outage', () => {
  const t = begin()
  t.runner.submit(submission)
  const [first] = t.take()
  assert.ok(first?.type === 'submit')
  t.runner.submit({ ...submission, source: 'print(2)' })
  const [second] = t.take()
  t.drop()
  t.back()
  const [again, both] = t.take()
  assert.ok(again?.type === 'submit' && again.idempotency_key === first.idempotency_key)
  assert.ok(both?.type === 'submit' && second?.type === 'submit' && both.idempotency_key === second.idempotency_key)
  t.runner.frame({ type: 'accepted', ref: again.ref, id: 'x' })
  assert.deepEqual(t.take().map((f) => f.type === 'cancel' && f.id), ['x'])
  t.runner.frame({ type: 'accepted', ref: both.ref, id: 'y' })
  t.drop()
  t.back()
  const [cancel] = t.take()
  assert.ok(cancel?.type === 'cancel' && cancel.id === 'x')
  t.runner.frame({ type: 'done', ref: cancel.ref, id: 'x' })
  t.drop()
  t.back()
  assert.deepEqual(t.take().map((f) => f.type), ['subscribe'])
})

test('a result is shown again after a reload, and its absence is no failure', () => {
  const t = begin()
  t.accepted()
  t.event(1, { name: 'finished', result: finished })
  const shown = t.runner.shown()
  assert.deepEqual(shown, { id: 'x', tty: true, seen: 1, typed: [], over: true })
  for (const known of [true, false]) {
    const later = begin()
    later.runner.resume(shown!)
    assert.equal(later.runner.current()?.over, true)
    const [subscribe] = later.take()
    assert.ok(subscribe?.type === 'subscribe' && subscribe.after === 0)
    if (known) {
      later.output(1, 'a')
      later.event(2, { name: 'finished', result: finished })
    } else later.runner.frame(later.problem(subscribe.ref, 'unknown-submission', 404))
    assert.deepEqual(later.saw(), known ? ['resuming', 'old a', 'ok'] : ['resuming', 'forgotten'])
    assert.equal(later.runner.shown()?.id, known ? 'x' : undefined)
  }
})

test('a result that is being shown again does not stand in the way of a new run', () => {
  const t = begin()
  t.runner.resume({ id: 'x', tty: false, seen: 0, typed: [], over: true })
  t.runner.submit(submission)
  assert.deepEqual(t.take().map((f) => f.type), ['subscribe', 'submit'])
})

test('a server that cannot take a program now gets it again, until it can or nobody wants it', (context) => {
  context.mock.timers.enable({ apis: ['setTimeout'] })
  const t = begin()
  t.runner.submit(submission)
  for (const type of ['no-nodes', 'shutting-down', 'unavailable', 'no-nodes', 'no-nodes']) {
    const [submit] = t.take()
    assert.ok(submit?.type === 'submit')
    t.saw()
    t.runner.frame(t.problem(submit.ref, type, 503))
    assert.deepEqual(t.saw(), ['away'])
    context.mock.timers.tick(2000)
  }
  const [last] = t.take()
  t.runner.frame(t.problem(last!.ref, 'no-nodes', 503))
  t.runner.hurry()
  assert.deepEqual(t.take().map((f) => f.type), ['submit'])
  t.runner.frame(t.problem(last!.ref, 'no-nodes', 503))
  t.runner.cancel()
  assert.deepEqual(t.saw().pop(), 'cancelled')
  context.mock.timers.tick(2000)
  assert.deepEqual(t.take(), [])
})

test('a full queue is an answer', () => {
  const t = begin()
  t.runner.submit(submission)
  t.runner.frame(t.problem(t.take()[0]!.ref, 'queue-full', 503))
  assert.deepEqual(t.saw(), ['sending', 'refused 503'])
})
