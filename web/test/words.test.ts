import assert from 'node:assert/strict'
import { test } from 'node:test'
import { draft, keepDraft } from '../src/drafts'
import { bytes, ordinal, seconds } from '../src/measures'
import type { Outcome, Result } from '../src/messages'
import { openStore } from '../src/store'
import { refusal, verdict } from '../src/verdict'

const outcome: Outcome = {
  exit_code: 0, signal: null, limit: null, stdout_truncated: false, stderr_truncated: false,
  cpu_time: 0.01, wall_time: 0.02, memory: 8_000_000,
}
const result = (word: string, run: Partial<Outcome> | null, compile: Partial<Outcome> | null = null): Result => ({
  id: 'x', verdict: word, message: null, attempts: 1,
  run: run && { ...outcome, ...run }, compile: compile && { ...outcome, ...compile },
})

test('verdicts in plain words', () => {
  const text = (...of: Parameters<typeof result>) => verdict(result(...of)).text
  assert.equal(text('ok', {}), 'Finished')
  assert.equal(text('compile_error', null, { exit_code: 1 }), 'Compile error')
  assert.equal(text('runtime_error', { exit_code: 3 }), 'Exit code 3')
  assert.equal(text('runtime_error', { exit_code: null, signal: 'SIGSEGV' }), 'Killed by SIGSEGV')
  assert.equal(text('time_limit', { limit: 'cpu_time', cpu_time: 5.02 }), 'Time limit: stopped after 5 s of CPU')
  assert.equal(text('time_limit', { limit: 'wall_time', wall_time: 10.01 }), 'Time limit: stopped after 10 s on the clock')
  assert.equal(text('memory_limit', { memory: 268435456 }), 'Memory limit: stopped at 256 MiB')
  assert.equal(text('cancelled', null), 'Cancelled')
  assert.equal(text('internal_error', null), 'Internal error: ours, not yours')
})

test('refusals say what to do', () => {
  const full = refusal({ type: 'queue-full', title: 'Queue full', status: 503, retry_after: 6.2 })
  assert.equal(full.detail, 'Nothing is lost. Try again in 7 s.')
  const invalid = refusal({ type: 'x', title: 'Not valid', status: 422, errors: [{ field: 'limits.cpu_time', message: 'at most 60' }] })
  assert.equal(invalid.detail, 'limits.cpu_time: at most 60')
})

test('figures', () => {
  assert.deepEqual([seconds(0.0113), seconds(0.66), seconds(1.234), seconds(61.5)], ['11.3 ms', '660 ms', '1.23 s', '61.5 s'])
  assert.deepEqual([bytes(512), bytes(8123456), bytes(2 ** 31)], ['512 B', '7.7 MiB', '2048 MiB'])
  assert.deepEqual([1, 2, 3, 11, 22].map(ordinal), ['1st', '2nd', '3rd', '11th', '22nd'])
})

test('drafts live without storage, and only where they differ from the example', () => {
  const store = openStore(() => {
    throw new Error('storage is forbidden')
  })
  const language = { id: 'c', name: 'C', versions: [], file_name: 'main.c', editor_mode: 'c', example: 'old' }
  keepDraft(store, language, 'mine')
  assert.equal(draft(store, language), 'mine')
  keepDraft(store, language, 'old')
  assert.equal(draft(store, { ...language, example: 'new' }), 'new')
})
