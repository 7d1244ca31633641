import assert from 'node:assert/strict'
import { test } from 'node:test'
import { newLine } from '../src/line'
import { plain, styled } from '../src/sgr'

const red = styled(plain, '31')

test('a line is written over from its start', () => {
  const line = newLine()
  line.write('10 %', plain)
  line.start()
  line.write('9', red)
  assert.deepEqual(line.runs(), [{ text: '9', look: red }, { text: '0 %', look: plain }])
})

test('one step back', () => {
  const line = newLine()
  line.write('ab', plain)
  line.back()
  line.write('c', plain)
  assert.equal(line.text(), 'ac')
  for (let i = 0; i < 5; i++) line.back()
  line.write('x', plain)
  assert.equal(line.text(), 'xc')
})

test('characters outside the basic plane are one each', () => {
  const line = newLine()
  line.write('😀b', plain)
  line.start()
  line.write('a', plain)
  assert.equal(line.text(), 'ab')
})

test('erasing to the end, from the start, and all', () => {
  const erased = (how: number) => {
    const line = newLine()
    line.write('abcd', plain)
    line.back()
    line.back()
    line.erase(how, plain)
    return line.text()
  }
  assert.deepEqual([0, 1, 2].map(erased), ['ab', '   d', '  '])
})
