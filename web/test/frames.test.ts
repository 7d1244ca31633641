import assert from 'node:assert/strict'
import { test } from 'node:test'
import { readFrame } from '../src/frames'

const result = { id: 'x', verdict: 'ok', message: null, language: null, compile: null, run: { exit_code: 0 }, attempts: 1 }
const event = (name: string, fields: object = {}) => ({ type: 'event', id: 'x', seq: 1, time: '', event: { name, ...fields } })
const output = { stage: 'run', stream: 'stdout' }

test('what the server sends is read, also what only a later version knows', () => {
  for (const frame of [
    { type: 'accepted', ref: 'r1', id: 'x' },
    { type: 'done', id: 'x' },
    { type: 'error', problem: { type: 'a', title: 'b', status: 503, detail: null } },
    event('queued', { position: null, estimate_s: 2.5 }),
    event('started', { attempt: 1, version: null, node: null, wall_time: null, idle: 300 }),
    event('stage', { stage: 'check', phase: 'end', outcome: null }),
    event('output', { ...output, data: 'a' }),
    event('output', { ...output, data: { base64: 'AA==' } }),
    event('finished', { result }),
    event('finished', { result: { ...result, artifacts: [{ name: 'a.png', bytes: 1, type: 'image/png' }] } }),
    event('unknown'),
    { type: 'constructor' },
  ]) {
    assert.deepEqual(readFrame(JSON.stringify(frame)), frame)
  }
})

test('what no server of ours has sent is nothing', () => {
  for (const frame of [
    null,
    7,
    [],
    {},
    { type: 7 },
    { type: 'accepted', id: 'x' },
    { type: 'done', ref: 7 },
    { type: 'error', problem: { type: 'a' } },
    { type: 'event', id: 'x', event: { name: 'unknown' } },
    event('started', { attempt: null }),
    event('output', output),
    event('output', { ...output, data: [] }),
    event('finished', { result: null }),
    event('finished', { result: { ...result, run: 'well' } }),
    event('finished', { result: { ...result, artifacts: [null] } }),
  ]) {
    assert.equal(readFrame(JSON.stringify(frame)), null)
  }
  for (const text of ['', '<html>', '{', new ArrayBuffer(2)]) assert.equal(readFrame(text), null)
})
