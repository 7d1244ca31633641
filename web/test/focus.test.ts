import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { TestContext } from 'node:test'
import { newAttention } from '../src/focus'

function begin(context: TestContext, { coarse = false, ready = true, plays = false } = {}) {
  context.mock.timers.enable({ apis: ['setTimeout', 'Date'] })
  context.mock.method(performance, 'now', () => Date.now())
  const signs = new EventTarget()
  Object.assign(globalThis, { addEventListener: signs.addEventListener.bind(signs), matchMedia: () => ({ matches: coarse }) })
  const state = { ready, plays, taken: 0 }
  const attention = newAttention(() => {
    if (state.ready) state.taken++
    return state.ready
  }, () => state.plays)
  const after = (ms: number) => {
    context.mock.timers.tick(ms)
    return state.taken
  }
  const sign = (kind: string, key?: string) => signs.dispatchEvent(Object.assign(new Event(kind), { key }))
  attention.ask()
  return { attention, state, after, sign }
}

test('a program that is quiet for half a second gets the keys, once', (context) => {
  const { after } = begin(context)
  assert.deepEqual([after(499), after(1), after(10_000)], [0, 1, 1])
})

test('a program that goes on writing gets them when it stops', (context) => {
  const { attention, after } = begin(context)
  for (let n = 0; n < 20; n++) {
    assert.equal(after(300), 0)
    attention.heard()
  }
  assert.deepEqual([after(499), after(1)], [0, 1])
})

test('a game that draws all the time gets them, but leaves its player the time to go on with something else', (context) => {
  const { attention, state, after } = begin(context, { plays: true })
  const drawn = () => {
    attention.heard()
    return after(50)
  }
  assert.deepEqual(Array.from({ length: 10 }, drawn), [0, 0, 0, 0, 0, 0, 0, 0, 0, 1])
  state.plays = false
  attention.ask() // another run, which writes all the time
  assert.deepEqual(new Set(Array.from({ length: 40 }, drawn)), new Set([1]))
  state.plays = true
  assert.deepEqual(Array.from({ length: 10 }, drawn).at(-1), 2)
})

test('what cannot take them yet gets them when it can', (context) => {
  const { state, after } = begin(context, { ready: false })
  assert.equal(after(5_000), 0)
  state.ready = true
  assert.equal(after(500), 1)
})

for (const [kind, key] of [['keydown', 'a'], ['keydown', 'Control'], ['beforeinput', undefined], ['pointerdown', undefined]] as const) {
  test(`${kind} ${key ?? ''} ${key === 'Control' ? 'alone does not keep' : 'keeps'} them where they are for the whole run`, (context) => {
    const { attention, after, sign } = begin(context)
    after(100)
    sign(kind, key)
    assert.equal(after(60_000), key === 'Control' ? 1 : 0)
    attention.ask() // another run
    assert.equal(after(500), key === 'Control' ? 2 : 1)
  })
}

test('by touch nothing takes them', (context) => {
  assert.equal(begin(context, { coarse: true }).after(60_000), 0)
})
