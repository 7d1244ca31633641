import assert from 'node:assert/strict'
import { test } from 'node:test'
import { leftOf, usedUp } from '../src/quota'
import { refusal } from '../src/refusal'

const now = Date.UTC(2026, 10, 26, 8, 0, 0)
const quota = (name: string, limit: number, inS: number | null) => ({
  name,
  limit,
  left: 0,
  frees_at: inS === null ? null : new Date(now + 1000 * inS).toISOString(),
})

test('what is left is told with its unit', () => {
  const left = (name: string, left: number, limit: number) => leftOf(name, { left, limit, frees_at: null })
  assert.deepEqual(left('runs_per_minute', 4.7, 10), { label: 'Runs a minute', left: '4 of 10' })
  assert.deepEqual(left('unfinished', 3, 3), { label: 'Programs at once', left: '3 of 3' })
  assert.deepEqual(left('stored_bytes', 2 ** 20, 2 ** 30), { label: 'Kept results', left: '1 MB of 1024 MB' })
  assert.equal(left('cpu_seconds_per_hour', 12.25, 120)?.left, '12.3 s of 120 s')
})

test('what is owed is nothing left', () => {
  assert.equal(leftOf('cpu_seconds_per_day', { left: -7, limit: 60, frees_at: null })?.left, '0 s of 60 s')
})

test('a quota of a later server is left out', () => {
  assert.equal(leftOf('sessions', { left: 1, limit: 2, frees_at: null }), null)
  assert.equal(usedUp(quota('sessions', 2, 30), now), 'Try again in 30 s.')
})

test('it is told when the next run is free', () => {
  assert.equal(usedUp(quota('runs_per_minute', 20, 2.5), now), 'You may run 20 programs a minute. Try again in 3 s.')
  assert.equal(usedUp(quota('runs_per_minute', 1, 0), now), 'You may run one program a minute. Try again in 1 s.')
  assert.match(usedUp(quota('cpu_seconds_per_hour', 120, 600), now), /of processor time that you have for an hour\. You can go on at \d\d:10\.$/)
  assert.match(usedUp(quota('cpu_seconds_per_day', 120, 90_000), now), /You can go on at [A-Z][a-z]+day \d\d:00\.$/)
  assert.match(usedUp(quota('stored_bytes', 2 ** 20, null), now), /take the 1 MB that you may have\. Try again in a moment\.$/)
  assert.match(usedUp(quota('unfinished', 3, 5), now), /^3 of your programs .*wait for one to end\.$/)
})

test('a refusal is told as what it is', () => {
  const problem = { type: 'quota', title: 't', status: 429, detail: 'd', quota: quota('unfinished', 1, 5) }
  assert.deepEqual(refusal(problem), {
    tone: 'ours',
    headline: 'You have reached a limit',
    line: 'One of your programs waits or runs, and you may not have more at once. Stop it, or wait for it to end.',
  })
  assert.deepEqual(refusal({ type: 'unauthorized', title: 't', status: 401, detail: 'd' }), {
    tone: 'ours',
    headline: 'This server takes keys only',
    line: 'Programs run here through the API, for those who have a key. Your program is kept in this browser.',
  })
})
