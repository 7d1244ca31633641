import assert from 'node:assert/strict'
import { test } from 'node:test'
import { colours, contrast, dark, indexed, light, plain, restyle, styled } from '../src/sgr'
import type { Rgb } from '../src/sgr'

test('colours by name, by number and as they are', () => {
  assert.deepEqual(restyle(plain, '31').fg, indexed(1))
  assert.deepEqual(restyle(plain, '1;92;44'), { ...plain, bold: true, fg: indexed(10), bg: indexed(4) })
  assert.deepEqual(restyle(plain, '38;5;208').fg, [255, 135, 0])
  assert.deepEqual(restyle(plain, '48:2:1:2:3').bg, [1, 2, 3])
  assert.deepEqual(restyle(plain, '38;5;208;4'), { ...plain, fg: [255, 135, 0], underline: true })
  assert.deepEqual(restyle(restyle(plain, '1;31;44'), '22;39;49'), plain)
  assert.deepEqual(restyle(restyle(plain, '31'), ''), plain)
})

test('nonsense changes nothing', () => {
  const red = restyle(plain, '31')
  for (const wrong of ['38', '38;5', '38;5;999', '38;2;1;2', '48;2;256;0;0', '999', '?25', '<', '38;9;1']) {
    assert.deepEqual(restyle(red, wrong).fg, red.fg, wrong)
  }
})

test('every colour can be read in both themes', () => {
  const all = Array.from({ length: 256 }, (_, n) => indexed(n) as Rgb)
  for (const theme of [light, dark]) {
    for (const fg of all) {
      const shown = colours({ ...plain, fg }, theme)
      assert.ok(contrast(shown.fg!, theme.surface) >= 4.5, `${fg}`)
      const inverse = colours({ ...plain, fg, inverse: true }, theme)
      assert.ok(contrast(inverse.fg!, inverse.bg!) >= 4.5, `${fg} inverse`)
      for (const bg of all.filter((_, n) => n % 16 === 3)) {
        const both = colours({ ...plain, fg, bg }, theme)
        assert.ok(contrast(both.fg!, both.bg!) >= 4.5, `${fg} on ${bg}`)
      }
    }
  }
})

test('equal styles are one, and a flood of different ones is cheap', () => {
  assert.equal(styled(styled(plain, '31'), '1'), styled(styled(plain, '1'), '31'))
  const { heapUsed } = process.memoryUsage()
  let style = plain
  for (let n = 0; n < 200_000; n++) style = styled(style, `38;2;${n & 255};${(n >> 8) & 255};${n >> 16}`)
  assert.ok(process.memoryUsage().heapUsed - heapUsed < 200e6)
})
