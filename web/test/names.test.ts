import assert from 'node:assert/strict'
import { test } from 'node:test'
import { freeName, lacksMain, wrongBeside, wrongName } from '../src/names'

test('names keep the rules of the server', () => {
  for (const fine of ['a', 'src/a.py', 'Größe.txt', 'with space.txt', '.hidden', 'a..b', '😀.py', 'é'.repeat(127)]) assert.equal(wrongName(fine), null, fine)
  const wrong = {
    empty: ['', ' '],
    long: ['a'.repeat(256), 'é'.repeat(128)],
    deep: [Array(17).fill('a').join('/')],
    path: ['/etc/passwd', 'a/', 'a//b', '../a', 'a/../b', '.', './a'],
    dash: ['-rf', 'a/-b'],
    letters: ['a\\b', 'a\nb', 'a\0', '\x7f', '\ud800.py', 'a\udc00'],
  }
  for (const [fault, names] of Object.entries(wrong)) for (const name of names) assert.equal(wrongName(name), fault, JSON.stringify(name))
})

test('a name is taken once, and is a file or a folder', () => {
  assert.equal(wrongBeside('a.py', ['a.py']), 'taken')
  assert.equal(wrongBeside('src', ['src/a.py']), 'folder')
  assert.equal(wrongBeside('src/a.py/b', ['src/a.py']), 'folder')
  assert.equal(wrongBeside('src/b.py', ['src/a.py', 's']), null)
})

test('a copy has a name of its own', () => {
  assert.equal(freeName('src/a.py', ['src/a.py']), 'src/a_2.py')
  assert.equal(freeName('a.py', ['a_2.py', 'a_3.py']), 'a_4.py')
  assert.equal(freeName('.env', []), '.env_2')
})

test('a program needs a file that runs', () => {
  const python = { file_name: 'main.py', suffixes: ['.py'] }
  const lacks = (...names: string[]) => lacksMain(names.map((name) => ({ name, content: '' })), python as never)
  assert.equal(lacks('a.py', 'b.txt'), false)
  assert.equal(lacks('a.txt', 'b.txt'), true)
  assert.equal(lacks('run'), true)
})
