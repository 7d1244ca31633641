import assert from 'node:assert/strict'
import { test } from 'node:test'
import { newAnnouncer } from '../src/announce'
import { delay } from '../src/backoff'
import { hex, newBinary } from '../src/binary'
import { lastWords } from '../src/lastwords'
import { bytes, minutes, ordinal, seconds } from '../src/measures'
import type { Outcome, Result } from '../src/messages'
import { refusal } from '../src/refusal'
import { longestHeadline, nothing, verdict } from '../src/verdict'
import { newWatch } from '../src/watch'

const outcome: Outcome = {
  exit_code: 0, signal: null, limit: null, stdout_truncated: false, stderr_truncated: false,
  cpu_time: 0.01, wall_time: 0.02, memory: 8_000_000, tty: false,
}
const result = (word: string, run: Partial<Outcome> | null, compile: Partial<Outcome> | null = null): Result => ({
  id: 'x', verdict: word, message: null, language: null, attempts: 1,
  run: run && { ...outcome, ...run }, compile: compile && { ...outcome, ...compile },
})

const first = (code: string | null, line = 5, more = 0, file: string | null = null) => ({ file, line, message: 'what it said', code, more })

test('a program that the kernel killed for memory is told what is often the cause', () => {
  const line = (...of: Parameters<typeof result>) => verdict(result(...of)).line
  assert.match(line('memory_limit', { limit: 'memory', exit_code: null, signal: 'SIGKILL' }), /calls itself.*Options/)
  assert.equal(line('memory_limit', { limit: 'memory', exit_code: 1 }), 'Limits are under Options.')
})

test('a program that wanted more input than there was is offered ways to give it', () => {
  const offers = (id: string, output: string, hadInput = true) =>
    verdict({ ...result('runtime_error', { exit_code: 1 }), language: { id } }, { output, hadInput }).offers
  const java = (at: string) => `Exception in thread "main" java.util.NoSuchElementException: No line found\n\tat java.base/${at}\n`
  const eof = 'Name: Traceback …\nEOFError: EOF when reading a line\n'
  assert.deepEqual(offers('python', eof), ['write-input', 'type-live'])
  assert.deepEqual(offers('python', eof, false), ['type-live', 'write-input'])
  assert.deepEqual(offers('java', java('java.util.Scanner.nextLine(Scanner.java:1651)')), ['write-input', 'type-live'])
  assert.equal(offers('java', java('java.util.ArrayDeque.removeFirst(ArrayDeque.java:362)')), undefined)
  assert.equal(offers('python', 'EOFError: Ran out of input\n'), undefined)
  assert.equal(offers('c', eof), undefined)
})

test('verdicts in plain words', () => {
  const story = { limits: { memory: 268435456, output: 1048576 } }
  const says = (of: Parameters<typeof result>, more: Parameters<typeof verdict>[1] = {}) => {
    const { tone, headline, line } = verdict(result(...of), { ...story, ...more })
    return [tone, headline, line]
  }
  const failed: Parameters<typeof result> = ['runtime_error', { exit_code: 1 }]
  assert.deepEqual(says(['ok', {}]), ['good', 'Finished', ''])
  assert.deepEqual(says(['compile_error', null, { exit_code: 1 }]), ['bad', 'Does not compile', ''])
  assert.deepEqual(says(['compile_error', null, { exit_code: 1 }], { first: first(null, 4, 4) }), ['bad', 'Does not compile: line 4', 'what it said · and 4 more'])
  assert.deepEqual(says(failed, { first: first('ZeroDivisionError') }), ['bad', 'ZeroDivisionError in line 5', 'what it said'])
  assert.deepEqual(says(failed, { first: first('java.lang.ArithmeticException') })[1], 'ArithmeticException in line 5')
  assert.deepEqual(says(failed, { first: first('ArrayIndexOutOfBoundsException') })[1], 'ArrayIndexOutOfBounds in line 5')
  assert.deepEqual(says(failed, { first: first('ArrayIndexOutOfBoundsException', 123) }).slice(1), ['ArrayIndexOutOfBoundsException', 'In line 123: what it said'])
  assert.deepEqual(says(failed, { first: { ...first('IOException'), message: 'java.io.IOException: gone: a' } })[2], 'gone: a')
  assert.deepEqual(says(failed, { first: { ...first('std::bad'), message: 'what: gone' } })[2], 'what: gone')
  assert.deepEqual(says(failed, { first: first('KeyError', 2, 0, 'helper.py') })[1], 'KeyError in helper.py:2')
  assert.deepEqual(says(failed, { first: first('panic') })[1], 'Panic in line 5')
  assert.deepEqual(says(['runtime_error', { signal: 'SIGABRT' }], { first: first('Assertion') })[1], 'Assertion in line 5')
  assert.deepEqual(says(failed, { first: first('AnExceptionWhoseNameHasNoEndAtAllError') })[1], 'Failed in line 5')
  assert.deepEqual(says(['runtime_error', { exit_code: 3 }]), ['stopped', 'Ended with exit code 3', ''])
  assert.deepEqual(says(['runtime_error', { exit_code: 3 }], { complained: true })[0], 'bad')
  assert.deepEqual(says(['runtime_error', { exit_code: 3 }], { said: 'no such user\n' })[2], 'no such user')
  assert.deepEqual(says(['runtime_error', { exit_code: null, signal: 'SIGSEGV' }])[1], 'Crashed: segmentation fault')
  assert.deepEqual(says(['runtime_error', { exit_code: null, signal: 'SIGINT', tty: true }])[1], 'Ended by Ctrl-C')
  assert.deepEqual(says(['runtime_error', { exit_code: null, signal: 'SIGINT' }])[1], 'Ended by SIGINT')
  assert.deepEqual(says(['time_limit', { limit: 'cpu_time', cpu_time: 5.02 }]), ['bad', 'Stopped after 5 s of work', 'An endless loop? Limits are under Options.'])
  assert.deepEqual(says(['time_limit', { limit: 'wall_time', wall_time: 10.01 }]), ['bad', 'Stopped after 10 s', 'It was mostly waiting.'])
  assert.deepEqual(says(['time_limit', { limit: 'wall_time', wall_time: 10.01, tty: true }])[2], 'It was mostly waiting for your input.')
  assert.deepEqual(says(['time_limit', { limit: 'wall_time', wall_time: 10, cpu_time: 9 }])[2], 'Limits are under Options.')
  assert.deepEqual(says(['time_limit', { limit: 'idle', wall_time: 301 }])[1], 'Stopped for want of input')
  assert.deepEqual(says(['memory_limit', { limit: 'memory', exit_code: 1 }])[1], 'Needed more than 256 MB')
  assert.deepEqual(says(['output_limit', { limit: 'output' }]), ['bad', 'Wrote more than 1 MB', 'The first 1 MB is kept. A loop that prints?'])
  assert.deepEqual(says(['cancelled', {}]), ['stopped', 'Stopped by you', 'What it printed is kept.'])
  assert.deepEqual(says(['internal_error', null]), ['ours', 'Our fault, not yours', 'If it happens again, tell us x.'])
  assert.deepEqual(says(['time_limit', null, { limit: 'wall_time', wall_time: 10 }])[1], 'Compiling took more than 10 s')
})

test('what a program wrote last to stderr tells why it ended', () => {
  const java =
    'Error: Main method not found in class Main, please define the main method as:\n' +
    '   public static void main(String[] args)\n' +
    'or a JavaFX application class must extend javafx.application.Application\n'
  const told: [string, string][] = [
    [java, 'Error: Main method not found in class Main, please define the main method as:'],
    ['Error: Could not find or load main class A\nCaused by: java.lang.ClassNotFoundException: A\n', 'Caused by: java.lang.ClassNotFoundException: A'],
    ['warming up\n\nno such user: you\n\n', 'no such user: you'],
    ['main.sh: line 1: foo: command not found\n', 'main.sh: line 1: foo: command not found'],
    ['Error: that\n    at main (/box/main.js:1:1)\n\nNode.js v18.13.0\n', 'Error: that'],
    ['x = (\n    ^\n', 'x = ('],
    ['  only this\n', 'only this'],
    ['é\n', 'é'],
    ['', ''],
    ['a'.repeat(300), `${'a'.repeat(200)}…`],
  ]
  for (const [written, line] of told) assert.equal(lastWords(written), line)
})

test('a headline has room, whatever happened', () => {
  const limits = ['cpu_time', 'wall_time', 'memory', 'output', 'idle', null] as const
  const codes = [null, '', 'E0382', 'std::out_of_range', 'A.B.VeryVeryLongExceptionName', 'x'.repeat(99)]
  const words = ['ok', 'accepted', 'wrong_answer', 'compile_error', 'runtime_error', 'time_limit', 'memory_limit', 'output_limit', 'cancelled', 'internal_error', 'a_verdict_of_which_this_page_knows_nothing']
  const signals = [null, 'SIGSEGV', 'SIGABRT', 'SIGFPE', 'SIGBUS', 'SIGILL', 'SIGSYS', 'SIGXFSZ', 'SIGKILL', 'SIGVTALRM', 'SIGRTMIN+12', 'SIGINT']
  const seen = new Set<string>()
  for (const word of words)
    for (const limit of limits)
      for (const signal of signals)
        for (const code of codes)
          for (const known of [null, { memory: 2 ** 40 - 1, output: 2 ** 40 - 1 }])
            for (const compiled of [false, true]) {
              const end = { limit, signal, exit_code: signal === null ? 4294967295 : null, cpu_time: 3599.9, wall_time: 86399.9, memory: 2 ** 40 }
              const story = { first: code === null ? null : first(code, 1234567, 3, code === null ? 'a/file/with/a/long/name.py' : null), limits: known }
              const { headline, tone } = verdict(compiled ? result(word, null, end) : result(word, end), story)
              seen.add(headline)
              assert.ok(headline.length <= longestHeadline && headline !== '' && tone !== 'idle', headline)
            }
  assert.ok(seen.size > 30)
  for (const status of [400, 401, 409, 413, 422, 429, 500, 502, 503]) {
    for (const type of ['x', 'queue-full']) {
      const { headline } = refusal({ type, title: 'A title that is longer than a headline has room', status, detail: 'exceed 99999999999 bytes' }, 1)
      assert.ok(headline.length <= longestHeadline, headline)
    }
  }
})

test('refusals say what to do', () => {
  const full = refusal({ type: 'queue-full', title: 'Queue full', status: 503, retry_after: 6.2 })
  assert.equal(full.line, 'Nothing is lost. Try again in 7 s.')
  const invalid = refusal({ type: 'x', title: 'Not valid', status: 422, errors: [{ field: 'limits.cpu_time', message: 'at most 60' }] })
  assert.equal(invalid.line, 'Not valid.\nlimits.cpu_time: at most 60')
  const above = { field: 'limits.cpu_time', message: "600 is above this server's ceiling of 60 seconds" }
  for (const detail of [`${above.field}: ${above.message}`, `${above.field} ${above.message}`]) {
    const told = refusal({ type: 'x', title: 'Above the ceiling', status: 422, detail, errors: [above] })
    assert.equal(told.line, `Above the ceiling.\n${detail}`)
  }
  const large = refusal({ type: 'too-large', title: 'This is too large', status: 413, detail: 'source and files exceed 8388608 bytes' }, 9 * 1024 ** 2)
  assert.deepEqual([large.headline, large.line], ['Larger than 8 MB', 'It is 1 MB too large.'])
})

test('a screen reader hears of a run once, at its end, or else after a second and every thirty', (context) => {
  context.mock.timers.enable({ apis: ['setTimeout'] })
  const said: string[] = []
  const region = { get textContent() { return said.at(-1) ?? '' }, set textContent(text: string) { said.push(text) } }
  const announcer = newAnnouncer(region as HTMLElement)
  for (const state of ['Sending…', 'Queued', 'Running…']) announcer.busy(state)
  announcer.ended('Finished', '', 'one\n\nhello \n')
  context.mock.timers.tick(100_000)
  assert.deepEqual(said.splice(0), ['Finished. 3 lines of output: hello'])
  announcer.busy('Running…')
  context.mock.timers.tick(999)
  assert.deepEqual(said, [])
  context.mock.timers.tick(1)
  assert.deepEqual(said.splice(0), ['Running'])
  for (let n = 0; n < 60; n++) context.mock.timers.tick(1000)
  assert.deepEqual(said.splice(0), ['Still: Running', 'Still: Running\u00a0'])
  announcer.busy('Stopping…')
  context.mock.timers.tick(1_000)
  assert.deepEqual(said.splice(0), ['Stopping'])
  announcer.ended('Stopped by you', 'What it printed is kept.', '')
  assert.deepEqual(said.splice(0), ['Stopped by you. What it printed is kept.'])
})

test('what is not text is told from what is, and shown as bytes', () => {
  const binary = newBinary()
  binary.add('a few words of text, and then ')
  binary.add({ base64: btoa('caf\xc3') })
  binary.add({ base64: btoa('\xa9 is text') })
  assert.equal(binary.isBinary, false)
  binary.clear()
  binary.add('é€😀')
  assert.equal(binary.size, 9)
  binary.clear()
  binary.add({ base64: btoa('\x7fELF\xff\xfe\x00\x01') })
  assert.deepEqual([binary.isBinary, binary.size, [...binary.bytes()].slice(0, 5)], [true, 8, [127, 69, 76, 70, 255]])
  assert.equal(hex(binary.bytes()), `000000  7f 45 4c 46 ff fe 00 01${' '.repeat(24)}  ·ELF····`)
})

test('figures', () => {
  assert.deepEqual([minutes(300), minutes(59.1), minutes(0.2)], ['5:00', '1:00', '0:01'])
  assert.deepEqual([seconds(0.0113), seconds(0.66), seconds(1.234), seconds(61.5)], ['11.3 ms', '660 ms', '1.23 s', '61.5 s'])
  assert.deepEqual([bytes(512), bytes(8123456), bytes(2 ** 31)], ['512 B', '7.7 MB', '2048 MB'])
  assert.deepEqual([1, 2, 3, 11, 22].map(ordinal), ['1st', '2nd', '3rd', '11th', '22nd'])
})

test('a program whose output was lost in its own memory is told so', () => {
  const of = (word: string, run: Partial<Outcome> | null, id: string, beginner = false) =>
    nothing({ ...result(word, run), language: { id } }, false, beginner)
  assert.match(of('time_limit', { limit: 'cpu_time' }, 'c'), /^Nothing arrived\. C keeps .* fflush\(stdout\)\.$/)
  assert.match(of('runtime_error', { signal: 'SIGSEGV', exit_code: null }, 'cpp'), /^Nothing arrived/)
  assert.match(of('cancelled', {}, 'ruby'), /^Nothing arrived/)
  assert.equal(of('ok', {}, 'c'), 'It wrote nothing.')
  assert.equal(of('ok', {}, 'c', true), 'It wrote nothing. Did you mean to print?')
  assert.equal(of('time_limit', { limit: 'cpu_time' }, 'python'), 'It wrote nothing.')
  assert.equal(of('compile_error', null, 'c'), 'The program did not run.')
})

test('while somebody waits, the server is tried every two seconds', () => {
  for (let tries = 0; tries < 20; tries++) assert.ok(delay(tries, 2_000, 1) <= 2_000)
  assert.equal(delay(20, undefined, 1), 10_000)
})

test('silence is asked about when the server can know, every five seconds, then ever more seldom', (context) => {
  context.mock.timers.enable({ apis: ['setTimeout'] })
  let asked = 0
  const watch = newWatch(() => asked++)
  const after = (s: number) => {
    for (let n = 0; n < s; n++) context.mock.timers.tick(1000)
    return asked
  }
  watch.heard()
  assert.deepEqual([after(5), after(1), after(3), after(1), after(600)], [0, 1, 1, 2, 15])
  watch.heard()
  assert.deepEqual([after(5), after(1)], [15, 16])
  watch.stop()
  assert.equal(after(600), 16)
})
