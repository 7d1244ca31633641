import assert from 'node:assert/strict'
import { test } from 'node:test'
import { newDraft } from '../src/drafts'
import type { Join } from '../src/drafts'
import type { Data } from '../src/messages'
import type { Program } from '../src/program'
import { openStore } from '../src/store'
import { label, newVersions } from '../src/versions'
import { storage } from './storage'

/** Whole texts: two that both changed do not go together. */
const join: Join = (base, mine, theirs, prefer) =>
  mine === base ? theirs : theirs === base || mine === theirs || prefer === 'mine' ? mine : prefer === 'theirs' ? theirs : null

/** What tabs of one browser share, and one of its tabs at each call. A tab that is loaded again has its own
 * storage still. */
function browser(room?: number) {
  const shared = storage(room)
  let clock = 0
  return (own = storage()) => {
    const store = openStore(() => shared)
    const versions = newVersions(store, 'versions:c', 'example', () => clock++)
    const draft = newDraft({ store, tab: openStore(() => own), versions }, 'draft:c', 'example', join)
    return { draft, own, texts: () => versions.list().map(({ text }) => text) }
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
  for (const choice of ['mine', 'theirs'] as const) {
    const tab = browser()
    const [a, b] = [tab(), tab()]
    a.draft.edit('of a')
    b.draft.edit('of b')
    a.draft.save()
    b.draft.save()
    assert.deepEqual([b.draft.text, b.draft.contested, tab().draft.text], ['of b', true, 'of a'])
    b.draft.choose(choice)
    const mine = choice === 'mine'
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

test('a tab that is loaded again over an open question has its own text, and the question', () => {
  const tab = browser()
  const [a, b] = [tab(), tab()]
  a.draft.edit('of a')
  b.draft.edit('of b')
  a.draft.save()
  b.draft.leave()
  const again = tab(b.own)
  again.draft.look()
  assert.deepEqual([again.draft.text, again.draft.contested], ['of b', true])
  again.draft.choose('mine')
  assert.equal(tab().draft.text, 'of b')
  assert.equal(b.own.length, 0)
})

test('of two hundred tabs that were all written in, each has its own text when it is loaded again', () => {
  const tab = browser()
  const tabs = Array.from({ length: 200 }, () => tab())
  tabs.forEach(({ draft }, n) => draft.edit(`of ${n}`))
  for (const { draft } of tabs) draft.save()
  for (const { draft } of tabs) draft.leave()
  assert.deepEqual(tabs.map(({ own }) => tab(own).draft.text), tabs.map((_, n) => `of ${n}`))
  assert.equal(tab().draft.text, 'of 0')
})

test('a browser without storage has the draft until the page is closed, and says that it does not keep it', () => {
  const forbidden = () =>
    openStore(() => {
      throw new Error('storage is forbidden')
    })
  const [store, tab] = [forbidden(), forbidden()]
  const versions = newVersions(store, 'versions:c', 'old')
  const open = (starter: string) => newDraft({ store, tab, versions }, 'draft:c', starter, join)
  const draft = open('old')
  assert.equal(draft.unkept, false)
  draft.edit('mine')
  draft.save()
  assert.equal(draft.unkept, true)
  assert.equal(store.works(), false)
  assert.equal(open('old').text, 'mine')
  draft.edit('old')
  draft.save()
  assert.equal(open('new').text, 'new')
})

test('a draft for which there is no room is kept as soon as there is, and survives that its tab is loaded again', () => {
  const tab = browser(1000)
  const a = tab()
  a.draft.edit('short')
  a.draft.save()
  a.draft.edit('x'.repeat(2000))
  a.draft.save()
  assert.deepEqual([a.draft.unkept, tab().draft.text], [true, 'short'])
  a.draft.leave()
  a.draft.save() // as a page that is being left does once more
  const again = tab(a.own)
  again.draft.look()
  assert.deepEqual([again.draft.text.length, again.draft.contested], [2000, false])
  again.draft.save()
  assert.equal(again.draft.unkept, true)
  again.draft.edit('y'.repeat(100))
  again.draft.save()
  assert.deepEqual([again.draft.unkept, tab().draft.text.length], [false, 100])
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
  assert.equal(versions.list().length, 4)
  kept.set('occd:v', '[{"time": "x"}, null, 5]')
  assert.deepEqual(versions.list(), [])
  kept.set('occd:v', 'rubbish')
  assert.deepEqual(versions.list(), [])
})

test('a version is told by its age, its size and its beginning', () => {
  const of = (...contents: Data[]): Program => ({ files: contents.map((content, n) => ({ name: `${n}`, content })), stdin: null })
  assert.equal(label(0, of('\n  print(1)\n'), 150_000), '2 min ago, 3 lines: print(1)')
  assert.equal(label(0, of('x'), 3 * 86_400_000), '3 days ago, 1 line: x')
  assert.equal(label(0, of({ base64: 'AAAA' }, '', 'x'), 0), 'Just now, 3 files: x')
  assert.equal(label(0, { ...of('x'), stdin: '1' }, 0), 'Just now, 1 line and input: x')
  assert.equal(label(0, of({ base64: 'AAAA' }), 0), 'Just now, 3 B: ')
})
