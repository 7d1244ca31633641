import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Language } from '../src/messages'
import { openStore } from '../src/store'
import { newWorkspace } from '../src/workspace'
import { storage } from './storage'

const python: Language = {
  id: 'python', name: 'Python', support: 'core', family: null, implementation: null, versions: ['3'], file_name: 'main.py', suffixes: ['.py'], editor_mode: 'python',
  example: 'for line in open(0):\n    print(line)\n', example_stdin: 'in\n',
  limits: { cpu_time: 5, wall_time: 10, memory: 1, processes: 1, output: 1, file_size: 1 },
  aliases: [], compile_args: [], flags: { compiled: false, named_by_source: false, reads_stdin: true }, problems: [], format: false,
}

function browser() {
  const shared = storage()
  return (own = storage()) => {
    const store = openStore(() => shared)
    const workspace = newWorkspace(python, { store, tab: openStore(() => own) })
    return Object.assign(workspace, { own, names: () => workspace.program.files.map(({ name }) => name) })
  }
}

const withFile = (name: string, content: string) => (program: { files: object[] }) => ({ ...program, files: [...program.files, { name, content }] }) as never

test('files and input come back, each edit to the file that is shown', () => {
  const tab = browser()
  const a = tab()
  assert.deepEqual([a.untouched, a.main, a.stdin], [true, 'main.py', 'in\n'])
  a.edit(a.active.name, 'print(1)\n')
  assert.equal(a.stdin, '')
  a.change(withFile('util.py', '')(a.program), 'util.py')
  a.edit(a.active.name, 'x = 1\n')
  a.feed('mine')
  a.save()
  const b = tab()
  assert.deepEqual(b.program, { files: [{ name: 'main.py', content: 'print(1)\n' }, { name: 'util.py', content: 'x = 1\n' }], stdin: 'mine' })
  assert.equal(b.active.name, 'main.py')
  assert.equal(tab(a.own).active.name, 'util.py')
})

test('what was taken away comes back where it was, beside what was written since', () => {
  const a = browser()()
  a.change({ files: ['main.py', 'a.py', 'b.py'].map((name) => ({ name, content: name })), stdin: null })
  a.show('a.py')
  const undo = a.change({ ...a.program, files: a.program.files.filter(({ name }) => name !== 'a.py') }, 'b.py')
  a.edit(a.active.name, 'since')
  undo()
  assert.deepEqual(a.names(), ['main.py', 'a.py', 'b.py'])
  assert.deepEqual([a.active.name, a.program.files[2]?.content], ['a.py', 'since'])
})

test('back to the example is one step, for files and input, and so is its undoing', () => {
  const a = browser()()
  a.edit(a.active.name, 'print(1)')
  a.change(withFile('a.py', 'x')(a.program), 'a.py')
  a.feed('mine')
  const before = a.program
  const undo = a.toExample()
  assert.deepEqual([a.untouched, a.stdin, a.names(), a.active.name], [true, 'in\n', ['main.py'], 'main.py'])
  undo()
  assert.deepEqual([a.program, a.stdin, a.active.name], [before, 'mine', 'a.py'])
})

test('two tabs in which different files were edited go together without a question', () => {
  const tab = browser()
  const a = tab()
  a.change(withFile('a.py', '')(a.program), 'a.py')
  a.save()
  const b = tab()
  a.edit(a.active.name, 'of a')
  b.edit(b.active.name, 'of b')
  b.feed('of b')
  a.save()
  b.save()
  a.look()
  for (const each of [a, b, tab()]) {
    assert.deepEqual([each.contested, each.program.files.map(({ content }) => content), each.stdin], [false, ['of b', 'of a'], 'of b'])
  }
  b.edit(b.active.name, 'of b again')
  b.save()
  a.look()
  assert.deepEqual([a.contested, a.program.files[0]?.content], [false, 'of b again'])
  b.edit('a.py', 'of b, too')
  b.save()
  a.look()
  assert.deepEqual([a.contested, a.program.files[1]?.content], [true, 'of a'])
})

test('of a file that both edited one is chosen, and the other program is a version, with its input', () => {
  const tab = browser()
  const [a, b] = [tab(), tab()]
  a.edit(a.active.name, 'of a')
  a.save()
  b.edit(b.active.name, 'of b')
  b.feed('input of b')
  b.save()
  assert.equal(b.contested, true)
  b.choose('theirs')
  assert.deepEqual([b.contested, b.active.content, b.stdin], [false, 'of a', 'input of b'])
  const [version] = b.earlier()
  assert.ok(version)
  b.toVersion(version)
  assert.deepEqual([b.active.content, b.stdin], ['of b', 'input of b'])
})

test('what is pasted over is a version, and what is written on is none', () => {
  const a = browser()()
  a.edit('main.py', 'one = 1\ntwo = 2\n')
  a.edit('main.py', 'one = 1\ntwo = 2\nthree = 3\n')
  a.edit('main.py', 'one = 1\ntwo = 3\nthree = 3\n')
  assert.deepEqual(a.earlier(), [])
  a.edit('main.py', 'pasted')
  assert.deepEqual(a.earlier().map(({ text }) => text), ['one = 1\ntwo = 3\nthree = 3\n'])
})

test('a file that gets its name back keeps what was written under the other one', () => {
  const a = browser()()
  a.edit('main.py', 'print(1)')
  a.change(withFile('a.py', 'before')(a.program), 'a.py')
  const undo = a.rename('a.py', 'b.py')
  assert.deepEqual([a.names(), a.active.name], [['main.py', 'b.py'], 'b.py'])
  a.edit('b.py', 'before and since')
  undo()
  assert.deepEqual([a.names(), a.active], [['main.py', 'a.py'], { name: 'a.py', content: 'before and since' }])
  const other = a.rename('a.py', 'b.py')
  a.change(withFile('a.py', 'another')(a.program))
  other()
  assert.deepEqual(a.names(), ['main.py', 'b.py', 'a.py'])
})
