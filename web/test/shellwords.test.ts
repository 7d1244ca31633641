import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { test } from 'node:test'
import { quoted, split } from '../src/shellwords'

/** What a real shell makes of it. */
const shell = (text: string): string[] =>
  execFileSync('/bin/sh', ['-c', `for word in ${text}; do printf '%s\\0' "$word"; done`], { encoding: 'utf8' }).split('\0').slice(0, -1)

const texts = [
  '-O2 -Wall',
  '  a\t b \n'.trim(),
  "'one two' three",
  '"one two" three',
  'a"b c"d\'e f\'g',
  '""',
  "''",
  'a "" b',
  String.raw`one\ two`,
  String.raw`"a \"quoted\" word"`,
  String.raw`"a\b\\c\$d"`,
  String.raw`'a\b'`,
  String.raw`\'`,
  '"two\nlines"',
  'naïve 日本 🎈',
  '"a\\\nb"',
]

test('arguments are split as by a shell', () => {
  for (const text of texts) assert.deepEqual(split(text), { words: shell(text), open: null }, text)
})

test('nothing is expanded', () => {
  assert.deepEqual(split('$HOME * ~ $(id) `id` a;b|c #d').words, ['$HOME', '*', '~', '$(id)', '`id`', 'a;b|c', '#d'])
})

test('what is not closed is said', () => {
  assert.equal(split("a 'b c").open, "'")
  assert.equal(split('a "b c').open, '"')
  assert.equal(split(String.raw`"a\"`).open, '"')
  assert.equal(split('a\\').open, '\\')
  assert.equal(split("it's").open, "'")
})

test('a quoted word is that word again', () => {
  for (const word of ['', 'a', '-std=c++20', "it's", 'two words', '"', '\\', '$HOME', '*', 'a\nb', '日本', '-gcflags=-N -l']) {
    assert.deepEqual(split(quoted(word)), { words: [word], open: null }, word)
    assert.deepEqual(shell(quoted(word)), [word])
  }
  assert.equal(quoted('-std=c++20'), '-std=c++20')
})
