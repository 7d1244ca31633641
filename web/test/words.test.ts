import assert from 'node:assert/strict'
import { test } from 'node:test'
import { delay } from '../src/backoff'
import { bytes, minutes, ordinal, seconds } from '../src/measures'
import type { Outcome, Result } from '../src/messages'
import { nothing, refusal, verdict } from '../src/verdict'
import { newWatch } from '../src/watch'

const outcome: Outcome = {
  exit_code: 0, signal: null, limit: null, stdout_truncated: false, stderr_truncated: false,
  cpu_time: 0.01, wall_time: 0.02, memory: 8_000_000, tty: false,
}
const result = (word: string, run: Partial<Outcome> | null, compile: Partial<Outcome> | null = null): Result => ({
  id: 'x', verdict: word, message: null, language: null, attempts: 1,
  run: run && { ...outcome, ...run }, compile: compile && { ...outcome, ...compile },
})

test('a program that the kernel killed for memory is told what is often the cause', () => {
  const detail = (...of: Parameters<typeof result>) => verdict(result(...of)).detail
  assert.match(detail('memory_limit', { limit: 'memory', exit_code: null, signal: 'SIGKILL' }), /calls itself/)
  assert.equal(detail('memory_limit', { limit: 'memory', exit_code: 1 }), '')
  assert.equal(detail('memory_limit', null, { limit: 'memory', exit_code: null, signal: 'SIGKILL' }), '')
})

test('a program that wanted more input than there was is told so, where its runtime says it', () => {
  const detail = (id: string, output: string) =>
    verdict({ ...result('runtime_error', { exit_code: 1 }), language: { id } }, output).detail
  const java = (at: string) => `Exception in thread "main" java.util.NoSuchElementException: No line found\n\tat java.base/${at}\n`
  assert.match(detail('python', 'Name: Traceback …\nEOFError: EOF when reading a line\n'), /more input/)
  assert.match(detail('java', java('java.util.Scanner.nextLine(Scanner.java:1651)')), /more input/)
  assert.equal(detail('java', java('java.util.ArrayDeque.removeFirst(ArrayDeque.java:362)')), '')
  assert.equal(detail('python', 'EOFError: Ran out of input\n'), '')
  assert.equal(detail('c', 'EOFError: EOF when reading a line\n'), '')
})

test('verdicts in plain words', () => {
  const text = (...of: Parameters<typeof result>) => verdict(result(...of)).text
  assert.equal(text('ok', {}), 'Finished')
  assert.equal(text('compile_error', null, { exit_code: 1 }), 'Compile error')
  assert.equal(text('runtime_error', { exit_code: 3 }), 'Exit code 3')
  assert.equal(text('runtime_error', { exit_code: null, signal: 'SIGSEGV' }), 'Killed by SIGSEGV')
  assert.equal(text('time_limit', { limit: 'cpu_time', cpu_time: 5.02 }), 'Time limit: stopped after 5 s of CPU')
  assert.equal(text('time_limit', { limit: 'wall_time', wall_time: 10.01 }), 'Time limit: stopped after 10 s on the clock')
  assert.equal(text('runtime_error', { exit_code: null, signal: 'SIGINT', tty: true }), 'Ended by Ctrl-C')
  assert.equal(text('runtime_error', { exit_code: null, signal: 'SIGINT' }), 'Killed by SIGINT')
  assert.equal(text('time_limit', { limit: 'idle', wall_time: 301 }), 'Time limit: stopped for want of input')
  assert.equal(text('memory_limit', { memory: 268435456 }), 'Memory limit: stopped at 256 MB')
  assert.equal(text('cancelled', null), 'Cancelled')
  assert.equal(text('internal_error', null), 'Internal error: ours, not yours')
})

test('refusals say what to do', () => {
  const full = refusal({ type: 'queue-full', title: 'Queue full', status: 503, retry_after: 6.2 })
  assert.equal(full.detail, 'Nothing is lost. Try again in 7 s.')
  const invalid = refusal({ type: 'x', title: 'Not valid', status: 422, errors: [{ field: 'limits.cpu_time', message: 'at most 60' }] })
  assert.equal(invalid.detail, 'limits.cpu_time: at most 60')
})

test('figures', () => {
  assert.deepEqual([minutes(300), minutes(59.1), minutes(0.2)], ['5:00', '1:00', '0:01'])
  assert.deepEqual([seconds(0.0113), seconds(0.66), seconds(1.234), seconds(61.5)], ['11.3 ms', '660 ms', '1.23 s', '61.5 s'])
  assert.deepEqual([bytes(512), bytes(8123456), bytes(2 ** 31)], ['512 B', '7.7 MB', '2048 MB'])
  assert.deepEqual([1, 2, 3, 11, 22].map(ordinal), ['1st', '2nd', '3rd', '11th', '22nd'])
})

test('a program whose output was lost in its own memory is told so', () => {
  const of = (word: string, run: Partial<Outcome> | null, id: string) => nothing({ ...result(word, run), language: { id } })
  assert.match(of('time_limit', { limit: 'cpu_time' }, 'c'), /^Nothing arrived\. C keeps .* fflush\(stdout\)\.$/)
  assert.match(of('runtime_error', { signal: 'SIGSEGV', exit_code: null }, 'cpp'), /^Nothing arrived/)
  assert.match(of('cancelled', {}, 'ruby'), /^Nothing arrived/)
  assert.equal(of('ok', {}, 'c'), 'The program wrote nothing.')
  assert.equal(of('time_limit', { limit: 'cpu_time' }, 'python'), 'The program wrote nothing.')
  assert.equal(of('compile_error', null, 'c'), 'The program did not run.')
})

test('while somebody waits, the server is tried every two seconds', () => {
  for (let tries = 0; tries < 20; tries++) assert.ok(delay(tries, 2_000, 1) <= 2_000)
  assert.equal(delay(20, undefined, 1), 10_000)
})

test('silence is asked about every five seconds, then ever more seldom', (context) => {
  context.mock.timers.enable({ apis: ['setTimeout'] })
  let asked = 0
  const watch = newWatch(() => asked++)
  const after = (s: number) => {
    for (let n = 0; n < s; n++) context.mock.timers.tick(1000)
    return asked
  }
  watch.heard()
  assert.deepEqual([after(4), after(1), after(4), after(1), after(600)], [0, 1, 1, 2, 15])
  watch.heard()
  assert.deepEqual([after(4), after(1)], [15, 16])
  watch.stop()
  assert.equal(after(600), 16)
})
