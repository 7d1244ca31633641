import assert from 'node:assert/strict'
import { test } from 'node:test'
import { compilersPlace, firstProblem, looked, mostProblems, newFinder, survived } from '../src/problems'
import type { Pattern, Problem } from '../src/problems'

const message: Pattern = { stage: 'compile', pattern: '(?<file>[^:\\n]+):(?<line>\\d+):(?:(?<col>\\d+):)? (?<message>[^\\n]*)' }
const main = (text = '', more: Record<string, string> = {}, renamed = false) => ({
  main: 'main.x',
  files: new Map(Object.entries({ 'main.x': text, ...more })),
  renamed,
})
const told = (problems: Problem[]) => problems.map(({ file, line, col, endCol }) => [file, line, col, endCol].join(':'))
const find = (text: string, sources = main(), form: Partial<Pattern> = {}) => {
  const pattern = { ...message, ...form }
  return newFinder([pattern])(pattern.stage, text, sources)
}

test('columns become those of the editor, in each unit', () => {
  const line = '\tä😀世e\u0301 x'
  const column = (col: number, columns: Pattern['columns']) =>
    told(find(`main.x:1:${col}: m`, main(line), columns === undefined ? {} : { columns }))[0]
  const at = line.indexOf('x') + 1
  assert.equal(column(at, 'utf16'), `main.x:1:${at}:`)
  assert.equal(column([...line].length, 'characters'), `main.x:1:${at}:`)
  assert.equal(column(Buffer.byteLength(line), 'bytes'), `main.x:1:${at}:`)
  assert.equal(column(8 + 1 + 2 + 2 + 1 + 1 + 1, 'display'), `main.x:1:${at}:`)
})

test('a tab reaches to the next multiple of its columns, in each unit, or takes none', () => {
  const line = 'a\tä😀\tx'
  const column = (col: number, form: Partial<Pattern>) => told(find(`main.x:1:${col}: m`, main(line), form))[0]
  for (const columns of ['utf16', 'characters', 'bytes', 'display'] as const) {
    assert.equal(column(17, { columns, tab: 8 }), 'main.x:1:7:')
  }
  assert.equal(column(1 + 2 + 4 + 1, { columns: 'bytes', tab: 0 }), 'main.x:1:7:')
  assert.equal(column(1 + 1 + 2 + 1, { columns: 'display', tab: 0 }), 'main.x:1:7:')
})

test('the number of the first column may be 0', () => {
  const range = '(?<file>[^:\\n]+):(?<line>\\d+):(?<col>\\d+)-(?<end_col>\\d+): (?<message>[^\\n]*)'
  const from = (first_column: number) => told(find('main.x:1:2-4: m', main('äbcdef'), { pattern: range, first_column }))
  assert.deepEqual(from(0), ['main.x:1:3:5'])
  assert.deepEqual(from(1), ['main.x:1:2:4'])
})

test('a place that is named in the text is counted as the compiler counts', () => {
  const whole = { ...message, pattern: '(?<file>[^:\\n]+):(?<line>\\d+): whole line: (?<message>[^\\n]*)' }
  const counted = { ...message, columns: 'bytes' as const }
  const place = { file: 'main.x', line: 1, col: 3, endCol: null }
  assert.deepEqual(compilersPlace([whole, counted], 'main.x', 1, 4, main('äbc')), place)
})

test('a caret below a tab counts it as the tool does, whether it draws a tab there or spaces', () => {
  const form = { tab: 8, pattern: '(?<file>[^:]+):(?<line>\\d+): (?<message>.*)\\n(?<source>[^\\n]+)\\n(?<caret>[ \\t]*)\\^$' }
  for (const caret of ['        ', '\t']) assert.deepEqual(told(find(`main.x:1: m\n\tx\n${caret}^`, main('\tx'), form)), ['main.x:1:2:'])
})

test('a wide character that is drawn takes one column or two: no word is cut', () => {
  const line = "s = '😀世'; print(äöü.nix)"
  const form = { columns: 'drawn' as const, stage: 'run' as const, pattern: '(?<file>[^:]+):(?<line>\\d+)\\n(?<source>[^\\n]+)\\n(?<caret> *)(?<marks>\\^+)\\n(?<message>.*)' }
  const at = line.indexOf('äöü')
  const marked = (before: number, source = line) => told(find(`main.x:1\n${source}\n${' '.repeat(before)}^^^^^^^\nm`, main(source), form))
  const place = [`main.x:1:${at + 1}:${at + 8}`]
  assert.deepEqual(marked([...line.slice(0, at)].length), place)
  assert.deepEqual(marked([...line.slice(0, at)].length + 2), place)
  assert.deepEqual(marked(2, 'a = bcdefgh'), ['main.x:1:3:10'])
})

test('a traceback that is too long to be read in time has its end read', (context) => {
  const form: Pattern = {
    stage: 'run',
    pattern: 'Traceback:$',
    frame: '  (?<file>[^:\\n]+):(?<line>\\d+)$',
    end: '(?<message>\\w+)$',
    innermost: 'last',
  }
  const frames = Array.from({ length: 900 }, (_, at) => `  main.x:${at + 1}`).join('\n')
  let now = 0
  context.mock.method(performance, 'now', () => now++)
  assert.deepEqual(told(newFinder([form])('run', `Traceback:\n${frames}\nEnd\n`, main())), ['main.x:900::'])
})

test('a text for which each try takes long is left', () => {
  const slow: Pattern = { stage: 'run', pattern: '(?<message> * * *)(?<line>\\d)$' }
  const began = performance.now()
  assert.deepEqual(told(newFinder([slow])('run', `${' '.repeat(500)}\n`.repeat(300), main())), [])
  assert.ok(performance.now() - began < 3_000)
})

test('a place in a line or a file too long to be looked at is its line, and takes no time', () => {
  const range = '(?<file>[^:\\n]+):(?<line>\\d+):(?<col>\\d+)-(?<end_col>\\d+): (?<message>[^\\n]*)'
  const drawing = '(?<message>E) (?<line>\\d+)\\n(?<source>[^\\n]*)\\n(?<caret> *)(?<marks>\\^+)$'
  const far = Array.from({ length: 300 }, (_, at) => `main.x:1:9${'0'.repeat(17)}-9${'0'.repeat(18)}: m${at}\n`).join('')
  const drawn = `E 1\n${'a'.repeat(450)}b${'a'.repeat(450)}\n^^\n`
  for (const [long, place] of [['漢'.repeat(8_000_000), 'main.x:1::'], ['\n'.repeat(8_000_000), 'main.x:1:1:1']] as const) {
    for (const columns of ['utf16', 'display', 'drawn'] as const) {
      const began = performance.now()
      assert.equal(told(find(far, main(long), { pattern: range, columns, stage: 'run' }))[0], place)
      assert.ok(performance.now() - began < 1_000)
    }
  }
  const began = performance.now()
  assert.deepEqual(told(find(drawn, main('a'.repeat(8_000_000)), { pattern: drawing })), ['main.x:1::'])
  assert.deepEqual(told(find('m', main('a b '.repeat(2_000_000)), { pattern: '(?<message>(?<name>m))' })), ['main.x:1::'])
  assert.ok(performance.now() - began < 1_000)
  const past = 'x\n'.repeat(200_000)
  assert.deepEqual(told(find('main.x:131072:1: m\nmain.x:131073:1: m', main(past))), ['main.x:131072:1:', 'main.x:131073::'])
})

test('a column beyond the line is its end, and a line beyond the file has none', () => {
  assert.deepEqual(told(find('main.x:1:99: m', main('abc'))), ['main.x:1:4:'])
  assert.deepEqual(told(find('main.x:7:2: m', main('abc'))), ['main.x:7::'])
  assert.deepEqual(told(find('main.x:0:1: m', main('abc'))), [])
  assert.deepEqual(told(find('main.x:99999999999999999999:1: m')), [])
})

test('only files of the submission have problems', () => {
  const sources = main('a', { 'sub/f.x': 'b' })
  const files = ['main.x', './main.x', '/box/main.x', 'file:///box/sub/f.x', 'f.x', '/usr/lib/main.x', 'other.x', '<main.x>']
  const found = (file: string) => told(newFinder([{ ...message, pattern: `(?<file>.+):(?<line>\\d+): (?<message>.*)` }])('compile', `${file}:1: m`, sources))[0]
  assert.deepEqual(files.map(found), [
    ...['main.x:1::', 'main.x:1::', 'main.x:1::', 'sub/f.x:1::', 'sub/f.x:1::'],
    ...[undefined, undefined, undefined],
  ])
  assert.deepEqual(told(find('Other.x:1:1: m', main('a', {}, true))), ['main.x:1:1:'])
})

test('the same problem is told once', () => {
  assert.equal(find('main.x:1:1: m\nmain.x:1:1: m\nmain.x:2:1: m').length, 2)
})

test('the beginning of what a compiler wrote is looked at, and the end of what a program wrote', () => {
  const filler = `${'.'.repeat(99)}\n`
  const long = `main.x:1:1: first\n${filler.repeat(10_000)}main.x:2:1: last\n`
  assert.ok(long.length > looked.run)
  assert.deepEqual(find(long).map((each) => each.message), ['first'])
  assert.deepEqual(find(long, main(), { stage: 'run' }).map((each) => each.message), ['last'])
})

test('there are not more problems than can be read', () => {
  const text = Array.from({ length: 5_000 }, (_, at) => `main.x:${at + 1}:1: m`).join('\n')
  // A machine that is busy finds fewer: never the wrong end of them.
  const compiled = find(text)
  assert.ok(compiled.length > 20 && compiled.length <= mostProblems)
  assert.deepEqual([compiled[0]?.line, compiled.at(-1)?.line], [1, compiled.length])
  const ran = find(text, main(), { stage: 'run' })
  assert.ok(ran.length > 20 && ran.length <= mostProblems)
  assert.deepEqual([ran[0]?.line, ran.at(-1)?.line], [5_001 - ran.length, 5_000])
})

test('a line without an end keeps both of its ends', () => {
  const [problem] = find(`main.x:1:1: ${'.'.repeat(1_000_000)}`.slice(0, looked.compile))
  assert.ok(problem !== undefined && problem.message.length < 1_100)
  const form = { stage: 'run' as const, pattern: '(?<message>[^\\n]*) at (?<file>[^ \\n]+) line (?<line>\\d+)$' }
  assert.deepEqual(told(find(`${'.'.repeat(100_000)} at main.x line 3`, main(), form)), ['main.x:3::'])
})

test('a program that came to its end was warned', () => {
  const problems = find('main.x:1:1: m', main(), { stage: 'run' })
  assert.deepEqual(survived(problems).map((each) => each.severity), ['warning'])
})

test('the first error of a compiler decides, and the last of a run', () => {
  const all = find('main.x:1:1: a\nmain.x:2:1: b')
  assert.equal(firstProblem('compile', all)?.message, 'a')
  assert.equal(firstProblem('run', all), null)
  const run = find('main.x:1:1: a\nmain.x:2:1: b', main(), { stage: 'run' })
  assert.equal(firstProblem('run', run)?.message, 'b')
  assert.equal(firstProblem('run', survived(run)), null)
})

test('a pattern that the browser refuses is left out, with a warning', (context) => {
  const { mock } = context.mock.method(console, 'warn', () => {})
  const find = newFinder([{ ...message, cause: '(' }, { ...message, pattern: '(?<file>' }, message])
  assert.deepEqual(told(find('compile', 'main.x:1:1: a', main())), ['main.x:1:1:'])
  assert.equal(mock.callCount(), 2)
})
