import assert from 'node:assert/strict'
import { test } from 'node:test'
import { complaint } from '../src/complaint'
import { edits } from '../src/edits'
import { mostOfLink, readLink } from '../src/link'
import { faults, newOptions, nothing, submitted, toggled } from '../src/options'
import type { Chosen } from '../src/options'
import { quoted } from '../src/shellwords'
import { openStore } from '../src/store'

const ceilings = { cpu_time: 60, wall_time: 300, memory: 2 ** 31, processes: 512, output: 2 ** 24, file_size: 2 ** 28 }
const chosen = (part: Partial<Chosen>): Chosen => ({ ...nothing, ...part })
const wrong = (part: Partial<Chosen>): string[] => faults(chosen(part), ceilings).map(({ field, text }) => `${field} ${text}`)

/** Of a browser without storage: it remembers until the page is closed. */
const forgetful = () =>
  openStore(() => {
    throw new Error('no storage')
  })

test('what is written goes into the submission in the server’s units', () => {
  const all = chosen({
    compileArgs: '-O3 "-DNAME=a b"',
    args: "one 'two three'",
    env: [{ name: 'A', value: '' }, { name: '', value: '' }, { name: 'B', value: 'x y' }],
    limits: { cpu_time: '2,5', memory: '512', output: '0.5', processes: '3' },
  })
  assert.deepEqual(faults(all, ceilings), [])
  assert.deepEqual(submitted(all), {
    compile_args: ['-O3', '-DNAME=a b'],
    args: ['one', 'two three'],
    env: { A: '', B: 'x y' },
    limits: { cpu_time: 2.5, memory: 2 ** 29, output: 2 ** 19, processes: 3 },
  })
  assert.deepEqual(submitted(nothing), {})
})

test('what is wrong is said at its field', () => {
  assert.deepEqual(wrong({ args: "it's" }), ["args A quotation mark ' is not closed."])
  assert.deepEqual(wrong({ compileArgs: 'a\\' }), ['compile_args The backslash at the end has nothing to stand before.'])
  assert.match(wrong({ args: 'x '.repeat(1001) })[0] ?? '', /^args .*1000/)
  assert.match(wrong({ args: 'x'.repeat(140_000) })[0] ?? '', /^args .*128 KB/)
  assert.match(wrong({ env: [{ name: 'A B', value: '' }] })[0] ?? '', /^env\.0 .*A B/)
  assert.match(wrong({ env: [{ name: '1A', value: '' }] })[0] ?? '', /^env\.0 /)
  assert.match(wrong({ env: [{ name: '', value: 'x' }] })[0] ?? '', /^env\.0 /)
  assert.match(wrong({ env: [{ name: 'A', value: '' }, { name: 'A', value: '' }] })[0] ?? '', /^env\.1 .*A/)
  assert.deepEqual(wrong({ limits: { cpu_time: '61' } }), ['limits.cpu_time At most 60 s on this server.'])
  assert.deepEqual(wrong({ limits: { memory: '4096' } }), ['limits.memory At most 2048 MB on this server.'])
  assert.deepEqual(wrong({ limits: { processes: '513' } }), ['limits.processes At most 512 on this server.'])
  for (const text of ['x', '-1', '1e3', '1 s', 'NaN', '0x10', '.']) assert.equal(wrong({ limits: { wall_time: text } }).length, 1, text)
  assert.equal(wrong({ limits: { wall_time: '0' } }).length, 1)
  assert.equal(wrong({ limits: { processes: '1.5' } }).length, 1)
  assert.equal(wrong({ limits: { memory: '0.5' } }).length, 1)
  assert.deepEqual(faults(chosen({ limits: { cpu_time: '61' } }), null), [])
})

test('options are kept by language, as they were written', () => {
  const store = forgetful()
  const options = newOptions(store)
  assert.equal(options.changed('c'), false)
  options.choose('c', chosen({ args: "it's", env: [{ name: '', value: '' }], limits: { memory: ' ' } }))
  assert.deepEqual(newOptions(store).of('c'), chosen({ args: "it's" }))
  assert.equal(options.changed('c'), true)
  assert.equal(options.changed('cpp'), false)
  options.choose('c', nothing)
  assert.equal(store.get('options:c'), null)
})

test('what somebody else kept there does no harm', () => {
  for (const text of ['', '[', 'null', '5', '{"env": 5, "args": 7, "limits": []}', '{"env": [null, 5, {"name": 3}], "limits": {"memory": 9}}']) {
    const store = forgetful()
    store.set('options:c', text)
    assert.deepEqual(newOptions(store).of('c'), nothing, text)
  }
})

test('an argument comes, goes, and takes the place of another of its kind', () => {
  const toggle = (written: string, argument: string) => toggled(written, argument, quoted)
  assert.equal(toggle('', '-Wall'), '-Wall')
  assert.equal(toggle('-Wall -g', '-Wall'), '-g')
  assert.equal(toggle('-std=c++17 -g', '-std=c++20'), '-g -std=c++20')
  assert.equal(toggle('-O0', '-O3'), '-O3')
  assert.equal(toggle('-Wall', '-Wextra'), '-Wall -Wextra')
  assert.equal(toggle('', '-gcflags=-N -l'), "'-gcflags=-N -l'")
  assert.equal(toggle("'-gcflags=-N -l'", '-gcflags=-N -l'), '')
  assert.equal(toggle("it's", '-g'), "it's")
})

test('an address says what it asks for', () => {
  const read = (address: string) => readLink(new URL(address, 'http://h/'))
  assert.equal(read('/'), null)
  assert.equal(read('/?utm_source=mail#top'), null)
  assert.deepEqual(read('/?language=rust'), { language: 'rust', source: null, stdin: null, args: null })
  assert.deepEqual(read('/?source=a%0D%0Ab+c&stdin=&args=%22x%20y%22'), { language: null, source: 'a\nb c', stdin: '', args: '"x y"' })
  assert.deepEqual(read('/?language=c#source=1'), { language: 'c', source: '1', stdin: null, args: null })
  assert.equal(read(`/#source=${'x'.repeat(mostOfLink + 1)}`), 'source')
})

/** The text that they make; each lies behind the one before. */
function applied(before: string, after: string): string {
  let [text, end] = ['', 0]
  for (const { from, to, insert } of edits(before, after)) {
    assert.ok(end <= from && from <= to)
    text += before.slice(end, from) + insert
    end = to
  }
  return text + before.slice(end)
}

const touched = (before: string, after: string) => edits(before, after).map(({ from, to }) => before.slice(from, to)).join('')

test('the edits make the other text, and leave what is the same', () => {
  const spaced = ['int main( void ){\n  return  0;\n}\n', 'int main(void) {\n    return 0;\n}\n'] as const
  const quoted = ["x = 'a'\ny=['b',\n 'c']\n", 'x = "a"\ny = [\n    "b",\n    "c",\n]\n'] as const
  const others = [['', 'a\n'], ['a', ''], ['\n\n a', 'a\n'], ['one two', 'three'], ['🎈 a', '🎉  a'], ['same\n', 'same\n']] as const
  for (const [before, after] of [spaced, quoted, ...others]) assert.equal(applied(before, after), after)
  assert.equal(touched(...spaced).trim(), '')
  assert.match(touched(...quoted), /^['\s]+$/)
  assert.deepEqual(edits('same\n', 'same\n'), [])
})

test('a long program that is changed everywhere keeps its letters', () => {
  const before = Array.from({ length: 20_000 }, (_, n) => `if(a${n}){b${n * 7}('c')}`).join('\n')
  const after = before.replaceAll('(', ' ( ').replaceAll('{', '\n{\n    ')
  assert.equal(applied(before, after), after)
  assert.equal(touched(before, after).trim(), '')
  const short = before.slice(0, 5_000)
  const double = short.replaceAll("'", '"')
  assert.equal(applied(short, double), double)
  assert.match(touched(short, double), /^'+$/)
})

test('a formatter’s complaint is one line with its place', () => {
  assert.deepEqual(complaint("main.go:3:19: expected operand, found '}'\n"), { line: 3, text: "expected operand, found '}'" })
  assert.deepEqual(complaint('error: cannot format main.py: Cannot parse: 2:6: def f(:\n'), { line: 2, text: 'def f(:' })
  assert.deepEqual(complaint('error: expected pattern, found `}`\n --> <stdin>:1:15\n  |\n'), { line: 1, text: 'expected pattern, found `}`' })
  assert.deepEqual(complaint('main.sh:1:1: if statement must end with "fi"\n'), { line: 1, text: 'if statement must end with "fi"' })
  assert.deepEqual(complaint('<stdin>: Begin Error Output Stream\n<stdin>:1: final indentation level: 3\n'), { line: 1, text: 'Begin Error Output Stream' })
  assert.deepEqual(complaint('[error] main.js: SyntaxError: Unexpected token (4:9)\n'), { line: 4, text: 'SyntaxError: Unexpected token' })
  assert.deepEqual(complaint(''), { line: null, text: '' })
})
