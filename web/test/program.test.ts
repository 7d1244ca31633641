import assert from 'node:assert/strict'
import { test } from 'node:test'
import { edited, mainOf, merge, read, sent, sizeOf, stdinOf, write } from '../src/program'
import type { File, Program } from '../src/program'

const python = {
  file_name: 'main.py',
  suffixes: ['.py'],
  example: 'import sys\n\nfor line in sys.stdin:\n    words = line.split()\n    print(words)\n',
  example_stdin: 'the quick\n',
}
const named = (...names: string[]): File[] => names.map((name) => ({ name, content: name }))
const program = (text: string, ...more: File[]): Program => ({ files: [{ name: 'main.py', content: text }, ...more], stdin: null })

test('a program of one file is kept as its bare text, and every other program comes back whole', () => {
  assert.equal(write(program('print(1)\n'), python), 'print(1)\n')
  const wholes: Program[] = [
    program('print(1)'),
    program(''),
    program('occd program 1\n{"files": []}'),
    { ...program('print(1)'), stdin: '' },
    { ...program('print(1)', { name: 'src/a.bin', content: { base64: 'AAE=' }, executable: true }), stdin: 'x\n' },
    { files: named('solve.py'), stdin: null },
    { files: [{ name: 'main.py', content: '#!', executable: true }], stdin: null },
    { files: [{ name: 'main.py', content: { base64: '/w==' } }], stdin: null },
  ]
  for (const whole of wholes) assert.deepEqual(read(write(whole, python), python), whole)
  assert.deepEqual(read('occd program 1\n{"files', python), program('occd program 1\n{"files'))
})

test('the file that runs is the one that the server would run', () => {
  const main = (...names: string[]) => mainOf(named(...names), python)
  assert.equal(main('a.py', 'main.py'), 'main.py')
  assert.equal(main('data.csv', 'b.py', 'a.py'), 'b.py')
  assert.equal(main('src/main.py', 'a.py'), 'src/main.py')
  assert.equal(main('run'), 'run')
  assert.equal(main('data.csv', 'run'), null)
})

test('one file under its usual name is sent as source, which names a class of Java; all others as files', () => {
  assert.deepEqual(sent(program('x'), python), { source: 'x' })
  assert.deepEqual(sent({ files: named('a.py'), stdin: null }, python), { files: named('a.py') })
  const script = { name: 'run.sh', content: '', executable: true }
  assert.deepEqual(sent(program('x', script), python), { files: [{ name: 'main.py', content: 'x' }, script] })
})

test('the input of the example goes with the example, comes back with it, and yields to the input of a person', () => {
  const example = python.example
  const reads = (text: string, stdin: string | null = null) => stdinOf({ files: [{ name: 'main.py', content: text }], stdin }, python)
  assert.equal(reads(example), 'the quick\n')
  assert.equal(reads(example.replace('print(words)', 'print(len(words))')), 'the quick\n')
  assert.equal(reads('name = input("name? ")\nprint("hello", name)\n'), '')
  assert.equal(reads(''), '')
  assert.equal(reads('print(1)', 'mine'), 'mine')
  assert.equal(reads(example, ''), '')
})

test('a size is that of the bytes which are sent', () => {
  for (const bytes of [0, 1, 2, 3, 4, 5]) {
    const base64 = Buffer.alloc(bytes).toString('base64')
    assert.equal(sizeOf([{ name: 'a', content: { base64 } }]), bytes)
  }
  assert.equal(sizeOf([{ name: 'a', content: 'é€\n' }, { name: 'b', content: 'x' }]), 7)
})

test('a file from Windows keeps its line ends when it is edited, and its bytes when it is not', () => {
  assert.equal(edited('a\r\nb\r\n', 'a\nb\n'), 'a\r\nb\r\n')
  assert.equal(edited('a\r\nb\r\n', 'a\nc\n'), 'a\r\nc\r\n')
  assert.equal(edited('a\r\nb\n', 'a\nb\n'), 'a\r\nb\n')
  assert.equal(edited('a\r\nb\n', 'a\nc\n'), 'a\nc\n')
  assert.equal(edited('a\rb', 'a\nc'), 'a\nc')
})

test('two tabs that changed different files go together, and of one that both changed a side is chosen', () => {
  const base = program('x', ...named('a.py', 'gone.py'))
  const mine = { ...program('mine', ...named('a.py')), stdin: 'in' }
  const theirs = program('x', { name: 'a.py', content: 'theirs' }, ...named('gone.py', 'new.py'))
  assert.deepEqual(merge(base, mine, theirs), {
    files: [{ name: 'main.py', content: 'mine' }, { name: 'a.py', content: 'theirs' }, ...named('new.py')],
    stdin: 'in',
  })
  const other = program('theirs', ...named('b.py'))
  assert.equal(merge(base, mine, other), null)
  const both = (side: 'mine' | 'theirs') => merge(base, mine, other, side)?.files.map(({ content }) => content)
  assert.deepEqual(both('mine'), ['mine', 'b.py'])
  assert.deepEqual(both('theirs'), ['theirs', 'b.py'])
})
