import assert from 'node:assert/strict'
import { test } from 'node:test'
import { newReader, plainText } from '../src/text'

const base64 = (...bytes: number[]) => ({ base64: btoa(String.fromCharCode(...bytes)) })

test('a character cut in two by the pieces comes out whole', () => {
  const reader = newReader()
  assert.equal(reader.read(base64(0x63, 0xc3)) + reader.read(base64(0xa9)) + reader.end(), 'cé')
})

test('bytes that are not UTF-8 are replaced', () => {
  const reader = newReader()
  assert.equal(reader.read(base64(0xff, 0x41)), '\ufffdA')
  assert.equal(reader.read(base64(0xe2, 0x82)) + reader.read('x'), '\ufffdx')
  assert.equal(reader.read(base64(0xe2)) + reader.end(), '\ufffd')
})

test('escapes are left out, also when cut in two', () => {
  const reader = newReader()
  assert.equal(reader.read('\x1b[2Jred\x1b[?25l'), 'red')
  assert.equal(reader.read('a\x1b') + reader.read('[1') + reader.read('Ab'), 'ab')
  assert.equal(reader.read('\x1b]0;title') + reader.read('\x07text'), 'text')
  assert.equal(reader.read('\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\'), 'link')
})

test('colours and erasing stay, whole', () => {
  const reader = newReader()
  assert.equal(reader.read('\x1b[01;31mred\x1b[0m\x1b[K'), '\x1b[01;31mred\x1b[0m\x1b[K')
  assert.equal(reader.read('a\x1b'), 'a')
  assert.equal(reader.read('[3'), '')
  assert.equal(reader.read('1mb'), '\x1b[31mb')
  assert.equal(reader.read(`\x1b[${'1;'.repeat(100)}mb`), 'b')
})

test('an escape that never ends does not swallow the output', () => {
  const reader = newReader()
  let shown = reader.read('\x1b]')
  for (let i = 0; i < 100; i++) shown += reader.read('x'.repeat(100))
  shown += reader.end()
  assert.ok(shown.length > 9_900)
})

test('many escapes take linear time', () => {
  const reader = newReader()
  const begun = performance.now()
  reader.read('\x1b]x'.repeat(300_000))
  reader.read('\x1bP'.repeat(300_000))
  reader.read('\x1b[1;1'.repeat(300_000))
  assert.ok(performance.now() - begun < 2_000)
})

test('what a terminal was sent can be had as text', () => {
  assert.equal(plainText('\x1b[31mred\x1b[0m\r\n 5 %\r10 %\r\r\ndone\x1b[K\x07\r\nend'), 'red\n10 %\ndone\nend')
})
