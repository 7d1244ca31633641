import assert from 'node:assert/strict'
import { test } from 'node:test'
import { add, newInput, next, taken } from '../src/input'

function sent(input: ReturnType<typeof newInput>): string[] {
  const all = []
  for (let message = next(input); message !== null; message = next(input)) {
    all.push(message.data)
    taken(input)
  }
  return all
}

test('a paste goes in messages of a bounded size, which cut no character in two', () => {
  const input = newInput()
  const text = 'x' + '😀'.repeat(50_000)
  assert.ok(add(input, text))
  const messages = sent(input)
  assert.ok(messages.length > 1 && messages.every((each) => each.length <= 2 * 16_384 && !/\p{Surrogate}/u.test(each)))
  assert.equal(messages.join(''), text)
  assert.equal(input.own.offset, new TextEncoder().encode(text).length)
})

test('half a character counts as the server counts it', () => {
  const input = newInput()
  add(input, 'a\ud83d')
  assert.deepEqual(sent(input), ['a\ufffd'])
  assert.equal(input.own.offset, 4)
})

test('a program that reads nothing is not typed at without end', () => {
  const input = newInput()
  let taken = 0
  while (add(input, 'x'.repeat(60_000))) taken += 60_000
  assert.ok(taken > 900_000 && taken <= 1_048_576)
  assert.equal(sent(input).join('').length, taken)
})
