import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { TestContext } from 'node:test'
import { newAnswers } from '../src/answers'

function begin(context: TestContext) {
  context.mock.timers.enable({ apis: ['setInterval', 'Date'] })
  context.mock.method(performance, 'now', () => Date.now())
  const line = { buffered: 0, late: 0 }
  const answers = newAnswers(() => line.buffered, () => 10_000, () => line.late++)
  const after = (seconds: number) => {
    for (let n = 0; n < seconds; n++) context.mock.timers.tick(1000)
    return [line.late, answers.late]
  }
  return { answers, line, after }
}

test('a frame that is not answered is noticed, again and again, until it is or the connection goes', (context) => {
  const { answers, after } = begin(context)
  assert.deepEqual([answers.waits, after(100)], [false, [0, false]])
  answers.sent('a', 100)
  assert.deepEqual([answers.waits, after(10), after(1), after(10)], [true, [0, false], [1, true], [1, true]])
  assert.deepEqual(after(1), [2, true])
  answers.heard('a')
  assert.deepEqual([answers.waits, after(100)], [false, [2, false]])
  answers.sent('b', 100)
  assert.deepEqual(after(11), [3, true])
  answers.forget()
  assert.deepEqual([answers.waits, after(100)], [false, [3, false]])
})

test('each answer is a sign that the next one is on its way', (context) => {
  const { answers, after } = begin(context)
  for (const ref of ['a', 'b', 'c']) answers.sent(ref, 100)
  assert.deepEqual(after(9), [0, false])
  answers.heard('a')
  assert.deepEqual(after(9), [0, false])
  answers.heard('b')
  assert.deepEqual(after(11), [1, true])
})

test('an answer may wait for a while behind what else comes, but not for ever', (context) => {
  const { answers, after } = begin(context)
  answers.sent('a', 100)
  for (let n = 0; n < 70; n++) {
    assert.deepEqual(after(1), [0, false])
    answers.heard(undefined)
  }
  assert.deepEqual(after(1), [1, true])
  answers.heard(undefined)
  assert.deepEqual(after(1), [1, true])
})

test('a large frame has its time to leave the browser, and as long again to arrive over a slow line', (context) => {
  const { answers, line, after } = begin(context)
  const second = 32_768
  line.buffered = 8_000_000
  answers.sent('a', 300 * second)
  for (let n = 0; n < 1000; n++) {
    line.buffered -= 8_000
    assert.deepEqual(after(1), [0, false])
  }
  assert.deepEqual([line.buffered, after(309), after(1)], [0, [0, false], [1, true]])
})
