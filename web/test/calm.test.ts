import assert from 'node:assert/strict'
import { mock, test } from 'node:test'
import { newCalm } from '../src/calm'
import type { RunView } from '../src/run'

function begin() {
  const drawn: string[] = []
  let busy = ''
  const view = new Proxy({}, { get: (_, name) => () => drawn.push(String(name)) }) as RunView
  const region = { setAttribute: (_: string, value: string) => (busy = value) } as unknown as HTMLElement
  return { calm: newCalm(view, region), saw: () => drawn.splice(0), busy: () => busy }
}

test('a short run is drawn at once, when there is something to read', () => {
  const t = begin()
  t.calm.sending(false)
  t.calm.queued(null, null)
  t.calm.started(1, null, null)
  t.calm.stage('run')
  assert.deepEqual(t.saw(), [])
  assert.equal(t.busy(), 'true')
  t.calm.output('run', 'stdout', 'hello', false)
  assert.deepEqual(t.saw(), ['sending', 'queued', 'started', 'stage', 'output'])
  assert.equal(t.busy(), 'false')
  t.calm.output('run', 'stdout', 'again', false)
  assert.deepEqual(t.saw(), ['output'])
})

test('a run that takes longer is drawn as it goes on', (context) => {
  mock.timers.enable({ apis: ['setTimeout'] })
  context.after(() => mock.timers.reset())
  const t = begin()
  t.calm.sending(false)
  mock.timers.tick(49)
  t.calm.queued(1, null)
  assert.deepEqual(t.saw(), [])
  mock.timers.tick(1)
  assert.deepEqual(t.saw(), ['sending', 'queued'])
  assert.equal(t.busy(), 'false')
  t.calm.started(1, null, null)
  mock.timers.tick(50)
  assert.deepEqual(t.saw(), ['started'])
})

test('what a person waits for is drawn in its order, and at once', () => {
  const t = begin()
  t.calm.sending(true)
  t.calm.away(false)
  assert.deepEqual(t.saw(), ['sending', 'away'])
  t.calm.stage('run')
  t.calm.now()
  assert.deepEqual(t.saw(), ['stage'])
})
