import assert from 'node:assert/strict'
import { test } from 'node:test'
import { opening } from '../src/opening'
import type { Opened } from '../src/opening'
import type { File } from '../src/program'

const language = (id: string, file_name: string, ...suffixes: string[]) => ({ id, file_name, suffixes, example: '' })
const python = language('python', 'main.py', '.py')
const c = language('c', 'main.c', '.c')
const java = language('java', 'Main.java', '.java')
const all = [c, java, python]
const files = (...names: string[]): File[] => names.map((name) => ({ name, content: `new ${name}` }))
const own = { files: [{ name: 'main.py', content: 'mine' }, { name: 'data.csv', content: 'mine' }], stdin: 'in' }

function open(arrived: File[], { folder = null as string | null, untouched = false, most = 1000 } = {}) {
  return opening({ files: arrived, folder }, { language: python, program: own, untouched }, all, most)
}

function opened(...of: Parameters<typeof open>) {
  const result = open(...of)
  assert.ok('program' in result, JSON.stringify(result))
  const { language: to, program, instead, replaced, show }: Opened<typeof python> = result
  return { to: to.id, names: program.files.map(({ name }) => name).join(' '), stdin: program.stdin, instead, replaced: replaced.join(' '), show }
}

test('files join a program, and one of the same name takes the place of the old one', () => {
  assert.deepEqual(opened(files('a.py', 'data.csv')), {
    to: 'python', names: 'main.py data.csv a.py', stdin: 'in', instead: false, replaced: 'data.csv', show: 'a.py',
  })
  assert.equal(opened(files('picture.png'), { untouched: true }).names, 'main.py data.csv picture.png')
})

test('two that come under one name are two', () => {
  assert.deepEqual(opened(files('image.png', 'image.png', 'image_2.png', 'image.png')), {
    to: 'python', names: 'main.py data.csv image.png image_3.png image_2.png image_4.png', stdin: 'in', instead: false, replaced: '', show: 'image.png',
  })
  assert.equal(opened(files('data.csv', 'data.csv')).replaced, 'data.csv')
  assert.equal(opened(files('main_2.py', 'main_2.py')).names, 'main.py data.csv main_2.py main_2_2.py')
})

test('a source takes the place of the example', () => {
  assert.deepEqual(opened(files('solve.py', 'x.txt'), { untouched: true }), {
    to: 'python', names: 'solve.py x.txt', stdin: null, instead: true, replaced: '', show: null,
  })
})

test('a zip or a folder with a source is a program; one without joins', () => {
  assert.equal(opened(files('project/main.py', 'project/src/a.py'), { folder: 'project' }).names, 'main.py src/a.py')
  assert.equal(opened(files('p/main.py'), { folder: 'p (1)' }).names, 'main.py')
  assert.equal(opened(files('p/main.py', 'q.py'), { folder: 'p' }).names, 'p/main.py q.py')
  assert.equal(opened(files('src/a.py'), { folder: 'main' }).names, 'src/a.py')
  assert.equal(opened(files('pictures/a.png'), { folder: 'pictures' }).names, 'main.py data.csv a.png')
})

test('a zip or a folder may bring what its program reads', () => {
  const zipped = open([{ name: 'p/main.py', content: '' }, { name: 'p/stdin.txt', content: 'read\r\n' }], { folder: 'p' })
  assert.ok('program' in zipped && zipped.input)
  assert.deepEqual([zipped.program.stdin, zipped.program.files.length], ['read\n', 1])
  assert.equal(opened(files('main.py', 'stdin.txt'), { untouched: true }).names, 'main.py stdin.txt')
  assert.equal(opened(files('data.txt', 'stdin.txt'), { folder: 'data' }).names, 'main.py data.csv data.txt stdin.txt')
  const many = Array.from({ length: 199 }, (_, n) => `${n}`)
  assert.equal(opened(files('main.py', ...many, 'stdin.txt'), { folder: 'x', most: 1e6 }).stdin, 'new stdin.txt')
})

test('sources of another language choose this language', () => {
  assert.deepEqual(opened(files('Foo.java', 'a.c', 'Bar.java')), {
    to: 'java', names: 'Foo.java a.c Bar.java', stdin: null, instead: true, replaced: '', show: null,
  })
  assert.equal(opened(files('a.py', 'b.c', 'c.c')).to, 'python')
})

test('what the server would refuse is not opened, and says why', () => {
  assert.deepEqual(open(files('data.csv/a')), { why: 'folder', name: 'data.csv/a' })
  assert.deepEqual(open(files('../a')), { why: 'path', name: '../a' })
  assert.deepEqual(open(files(...Array.from({ length: 199 }, (_, n) => `${n}`)), { most: 1e6 }), { why: 'many', n: 201 })
  assert.deepEqual(open(files('a'), { most: 10 }), { why: 'large', over: 3 })
})
