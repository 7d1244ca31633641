import assert from 'node:assert/strict'
import { test } from 'node:test'
import { newKept } from '../src/kept'

test('all is kept until it is too much, then the end', () => {
  const kept = newKept(10_000)
  const all = Array.from({ length: 500 }, (_, n) => `line ${n}\n`)
  for (const line of all) kept.add(line)
  assert.equal(kept.text(), all.join(''))
  assert.equal(kept.cut, false)
  for (let n = 0; n < 100; n++) for (const line of all) kept.add(line)
  assert.equal(kept.cut, true)
  assert.ok(kept.text().length >= 10_000 && kept.text().length < 20_000)
  assert.ok(all.join('').repeat(101).endsWith(kept.text()))
  assert.equal(kept.length, 101 * all.join('').length)
})

test('its last characters are found over the pieces', () => {
  const kept = newKept(100_000)
  kept.add('a'.repeat(5_000))
  kept.add('b'.repeat(5_000))
  kept.add('c')
  assert.equal(kept.end(3), 'bbc')
  assert.equal(kept.end(5_003), `aa${'b'.repeat(5_000)}c`)
  assert.equal(kept.end(99_999), kept.text())
  kept.clear()
  assert.equal(kept.end(5), '')
})
