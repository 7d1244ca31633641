import assert from 'node:assert/strict'
import { test } from 'node:test'
import { plainText } from '../src/text'
import { warnings } from '../src/warnings'

test('warnings are counted where they tell something', () => {
  assert.equal(warnings('main.c:1:2: warning: unused\n  x = y;\nWarning: two\nno warning here\nwarning warnings: one'), 3)
  assert.equal(warnings(''), 0)
})

/** What takes the square of its length takes minutes here. */
const soon = 5_000
const million = 2 ** 20

test('no text of a compiler or a program keeps the page from all else', () => {
  const began = performance.now()
  assert.equal(warnings(`note: ${'warning '.repeat(million / 16)}`), 0)
  assert.equal(plainText(`${'\r'.repeat(million / 4)}x`), 'x')
  assert.equal(plainText(`x${'\r'.repeat(million / 4)}`), 'x')
  assert.ok(performance.now() - began < soon)
})
