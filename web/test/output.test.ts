import assert from 'node:assert/strict'
import { test } from 'node:test'
import { fitting, queue, take, unburdened } from '../src/output'

const room = { chars: 10, most: 20, lines: 3 }

test('a block takes whole lines', () => {
  assert.equal(fitting('abc\ndef\n', room), 8)
  assert.equal(fitting('abc\ndef\nghijklm', room), 8)
  assert.equal(fitting('a\nb\nc\nd\n', room), 6)
  assert.equal(fitting('abc', room), 3)
})

test('a line that began in time may go on, but not for ever', () => {
  assert.equal(fitting(`${'x'.repeat(15)}\nab`, room), 16)
  assert.equal(fitting('x'.repeat(50), room), 20)
})

test('a character outside the basic plane is not cut in two', () => {
  assert.equal(fitting(`${'x'.repeat(19)}😀 and more`, room), 21)
  const pieces = [{ kind: 'stdout' as const, text: 'a😀b' }]
  assert.deepEqual(take(pieces, 2).map((piece) => piece.text), ['a😀'])
})

test('every text is used up', () => {
  for (const text of ['x'.repeat(1000), '\n'.repeat(1000), 'ab\n'.repeat(300), '😀'.repeat(100)]) {
    let rest = text
    while (rest !== '') {
      const end = fitting(rest, room)
      assert.ok(end > 0 && end <= 21)
      rest = rest.slice(end)
    }
  }
})

test('small writes of one stream go together, and the order of streams stays', () => {
  const pieces: Parameters<typeof queue>[0] = []
  queue(pieces, 'stdout', 'a')
  queue(pieces, 'stdout', 'b')
  queue(pieces, 'stderr', 'c')
  queue(pieces, 'stdout', 'd')
  assert.deepEqual(take(pieces, 3).map(({ kind, text }) => [kind, text]), [['stdout', 'ab'], ['stderr', 'c']])
  assert.deepEqual(take(pieces, 3).map(({ text }) => text), ['d'])
})

test('no escape is cut in two', () => {
  const pieces = [{ kind: 'stdout' as const, text: 'ab\x1b[31mc' }]
  assert.deepEqual(take(pieces, 4).map(({ text }) => text), ['ab'])
  assert.deepEqual(take(pieces, 100).map(({ text }) => text), ['\x1b[31mc'])
})

test('what waits lies in small pieces, so that a slice keeps little in memory', () => {
  const pieces: Parameters<typeof queue>[0] = []
  for (let n = 0; n < 1_000; n++) queue(pieces, 'stdout', 'x'.repeat(1_000))
  assert.ok(pieces.every(({ text }) => text.length < 20_000))
  assert.equal(pieces.reduce((sum, { text }) => sum + text.length, 0), 1_000_000)
})

test('accents without end are left out, also where they come in pieces', () => {
  const mark = '\u0301'
  assert.deepEqual(unburdened('plain', 5), ['plain', 0])
  assert.deepEqual(unburdened('Привет e\u0301', 0), ['Привет e\u0301', 1])
  let shown = ''
  let marks = 0
  for (const piece of [`a${mark.repeat(20)}`, mark.repeat(20), mark.repeat(20), `b${mark}`]) {
    const [text, after] = unburdened(piece, marks)
    shown += text
    marks = after
  }
  assert.equal(shown, `a${mark.repeat(32)}b${mark}`)
  assert.equal(marks, 1)
})
