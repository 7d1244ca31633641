import assert from 'node:assert/strict'
import { test } from 'node:test'
import { newDraft } from '../src/drafts'
import { openStore } from '../src/store'
import { label, newVersions } from '../src/versions'

/** What tabs of one browser share. */
function browser() {
  const kept = new Map<string, string>()
  const storage = {
    getItem: (key: string) => kept.get(key) ?? null,
    setItem: (key: string, value: string) => void kept.set(key, value),
    removeItem: (key: string) => void kept.delete(key),
  } as unknown as Storage
  let clock = 0
  return () => {
    const store = openStore(() => storage)
    const versions = newVersions(store, 'versions:c', 'example', () => clock++)
    return { draft: newDraft(store, versions, 'draft:c', 'example'), texts: () => versions.list().map(({ text }) => text) }
  }
}

test('a tab in which nothing was written saves nothing', () => {
  const tab = browser()
  const [a, b] = [tab(), tab()]
  a.draft.edit('mine')
  a.draft.save()
  b.draft.save()
  b.draft.leave()
  assert.equal(tab().draft.text, 'mine')
})

test('an untouched tab follows', () => {
  const tab = browser()
  const [a, b] = [tab(), tab()]
  a.draft.edit('mine')
  a.draft.save()
  assert.equal(b.draft.look(), true)
  assert.deepEqual([b.draft.text, b.draft.contested], ['mine', false])
  assert.equal(b.draft.look(), false)
})

test('of two that were written in, the one chosen is kept, and the other is a version', () => {
  for (const choice of ['keepMine', 'takeTheirs'] as const) {
    const tab = browser()
    const [a, b] = [tab(), tab()]
    a.draft.edit('of a')
    b.draft.edit('of b')
    a.draft.save()
    b.draft.save()
    assert.deepEqual([b.draft.text, b.draft.contested, tab().draft.text], ['of b', true, 'of a'])
    b.draft[choice]()
    const mine = choice === 'keepMine'
    assert.deepEqual([b.draft.text, b.draft.contested], [mine ? 'of b' : 'of a', false])
    assert.equal(tab().draft.text, b.draft.text)
    assert.deepEqual(b.texts(), [mine ? 'of a' : 'of b'])
    assert.equal(a.draft.look(), false)
    assert.equal(a.draft.contested, mine)
  }
})

test('a tab that is closed over an open question loses nothing', () => {
  const tab = browser()
  const [a, b] = [tab(), tab()]
  a.draft.edit('of a')
  b.draft.edit('of b')
  a.draft.save()
  b.draft.leave()
  assert.equal(tab().draft.text, 'of a')
  assert.deepEqual(tab().texts(), ['of b'])
})

test('what was there before the first change in a tab is a version', () => {
  const tab = browser()
  const a = tab()
  a.draft.edit('work of a week')
  a.draft.save()
  const b = tab()
  b.draft.edit('pasted over it')
  b.draft.save()
  assert.deepEqual(tab().texts(), ['work of a week'])
})

test('the last ten versions are kept, the example never, and not too much', () => {
  const kept = new Map<string, string>()
  const store = openStore(() => ({ getItem: (k: string) => kept.get(k) ?? null, setItem: (k: string, v: string) => kept.set(k, v) }) as unknown as Storage)
  const versions = newVersions(store, 'v', 'example', () => 0)
  for (let n = 0; n < 30; n++) versions.keep(`text ${n}`)
  versions.keep('text 25')
  versions.keep('example')
  versions.keep(' \n')
  assert.deepEqual(versions.list().map(({ text }) => text.slice(5)), ['25', '29', '28', '27', '26', '24', '23', '22', '21', '20'])
  for (let n = 0; n < 10; n++) versions.keep(`${n}${'x'.repeat(40_000)}`)
  assert.equal(versions.list().length, 3)
  kept.set('occd:v', '[{"time": "x"}, null, 5]')
  assert.deepEqual(versions.list(), [])
  kept.set('occd:v', 'rubbish')
  assert.deepEqual(versions.list(), [])
})

test('a version is told by its age, its size and its beginning', () => {
  assert.equal(label({ time: 0, text: '\n  print(1)\n' }, 150_000), '2 min ago, 3 lines: print(1)')
  assert.equal(label({ time: 0, text: 'x' }, 3 * 86_400_000), '3 days ago, 1 line: x')
})
