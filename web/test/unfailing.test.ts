import assert from 'node:assert/strict'
import { test } from 'node:test'
import { newCalm } from '../src/calm'
import type { Result } from '../src/messages'
import type { RunView } from '../src/run'
import { unfailing } from '../src/unfailing'

const result: Result = { id: 'x', verdict: 'ok', message: null, language: null, compile: null, run: null, attempts: 1 }

test('what throws while it is drawn is told, and keeps nothing from being drawn, nor a run from its end', (context) => {
  const later: (() => void)[] = []
  context.mock.method(globalThis, 'setTimeout', (act: () => void) => later.push(act))
  const told = () =>
    later.splice(0).flatMap((act) => {
      try {
        act()
        return []
      } catch (error) {
        return [(error as Error).message]
      }
    })
  const seen: string[] = []
  const faulty = new Set<string>()
  const view = new Proxy({} as RunView, {
    get: (_, name: string) => () => {
      seen.push(name)
      if (faulty.has(name)) throw new Error(name)
    },
  })
  const attributes = new Map<string, string>()
  const region = { setAttribute: (name: string, value: string) => attributes.set(name, value) } as unknown as HTMLElement
  const drawn = newCalm(unfailing(view, () => seen.push('broken')), region)
  faulty.add('sending').add('stage').add('output')
  drawn.sending(true)
  drawn.started(1, null, null)
  drawn.stage('run')
  drawn.output('run', 'tty', 'a', false)
  drawn.finished(result, null, '')
  assert.deepEqual(seen.splice(0), ['sending', 'started', 'stage', 'output', 'finished'])
  assert.equal(attributes.get('aria-busy'), 'false')
  assert.deepEqual(told(), ['sending', 'stage', 'output'])

  for (const end of ['finished', 'refused', 'lost', 'forgotten'] as const) {
    faulty.add(end)
    ;(drawn[end] as () => void)()
    assert.deepEqual(seen.splice(0), [end, 'broken'])
    assert.deepEqual(told(), [end])
  }
})
