// What compilers and runtimes say of places in the program, found by the patterns of the language's file
// (occd/patterns.py). The text is anybody's, so its length, its lines and the time are bounded.

export type Severity = 'error' | 'warning' | 'note'

export interface Problem {
  /** A file of the submission. */
  file: string
  /** From 1. */
  line: number
  /** From 1, in UTF-16 units of the line; null where only the line is known. */
  col: number | null
  /** The first column behind it. */
  endCol: number | null
  severity: Severity
  message: string
  /** The exception's name or the compiler's number for it, if there is one. */
  code: string | null
  source: Stage
}

export type Stage = 'compile' | 'run'

/** How a language's tools tell of problems, as `GET /languages` has it. */
export interface Pattern {
  stage: Stage
  pattern: string
  columns?: Unit
  tab?: number
  first_column?: number
  severity?: Severity
  frame?: string
  skip?: string
  end?: string
  cause?: string
  innermost?: 'first' | 'last'
  stdout?: boolean
}

type Unit = 'bytes' | 'characters' | 'utf16' | 'display' | 'drawn'

/** How a tool counts: a tab reaches to the next multiple of `tab`, and the first column has the number `first`. */
interface Columns {
  unit: Unit | 'wide'
  tab: number
  first: number
}

const columnsOf = ({ columns = 'utf16', tab = columns === 'display' ? 8 : 1, first_column: first = 1 }: Partial<Pattern>): Columns => ({
  unit: columns,
  tab,
  first,
})

export interface Sources {
  main: string
  /** Text files of the submission by their names, as they were sent. */
  files: ReadonlyMap<string, string>
  /** The server may have named the main file after its text. */
  renamed: boolean
}

interface Looked extends Sources {
  lines: (file: string) => readonly (string | undefined)[]
}

/** How much of a stage's text is looked at: the compiler's first characters, the program's last. */
export const looked = { compile: 65_536, run: 262_144 }
export const mostProblems = 200
const mostLines = 6_000
const longestLine = 1_000
const longestMessage = 1_000
/** So much of the submission is looked at for columns and names, and no line that is longer: a place elsewhere is its line. */
const measured = { files: 262_144, line: 10_000 }
/** All of it takes a millisecond or two, unless somebody wants it to take long. */
const mostMs = 12
/** So often a pattern is tried even then: a browser that had to wait finds what a usual text tells. */
const leastTries = 400
/** But not for longer than this: somebody may know a text for which one try takes long. */
const mostMsOfLeast = 50
/** So few as the last number are always read to their end. */
const lastLines = [200, 30]
/** Where a program lies while it runs. */
const box = '/box/'

interface Form {
  stage: Stage
  columns: Columns
  severity: Severity
  pattern: RegExp
  frame: RegExp | null
  skip: RegExp | null
  end: RegExp | null
  cause: RegExp | null
  last: boolean
}

type Groups = Record<string, string | undefined>

export interface Place {
  file: string
  line: number
  col: number | null
  endCol: number | null
}

export type Finder = (stage: Stage, text: string, sources: Sources) => Problem[]

/** Whether a run's stdout tells of problems, too. */
export const toldOnStdout = (patterns: readonly Pattern[]): boolean => patterns.some(({ stage, stdout = false }) => stage === 'run' && stdout)

/** Finds problems in what a stage wrote, in the order in which they stand there. */
export function newFinder(patterns: readonly Pattern[]): Finder {
  const regular = (source: string) => new RegExp(source, 'my')
  const optional = (source: string | undefined) => (source === undefined ? null : regular(source))
  const formOf = ({ stage, severity = 'error', pattern, frame, skip, end, cause, innermost, ...counting }: Pattern): Form => ({
    stage,
    columns: columnsOf(counting),
    severity,
    pattern: regular(pattern),
    frame: optional(frame),
    skip: optional(skip),
    end: optional(end),
    cause: optional(cause),
    last: innermost === 'last',
  })
  const forms = patterns.flatMap((pattern) => {
    try {
      return [formOf(pattern)]
    } catch (error) {
      // The server takes it for a regular expression, and this browser does not.
      console.warn('left out: a pattern of problems', error)
      return []
    }
  })
  return (stage, text, given) => {
    const own = forms.filter((form) => form.stage === stage)
    const lines = bounded(stage, text)
    const sources = { ...given, lines: newLines(given.files) }
    let { problems, all, head } = find(own, stage, lines, sources, mostMs)
    // Where there is no time for all of it: what a program wrote last is why it ended.
    for (const last of lastLines) {
      if (all || stage === 'compile') break
      const begin = head !== null && head < lines.length - last ? lines.slice(head, head + 1) : []
      ;({ problems, all } = find(own, stage, [...begin, ...lines.slice(-last)], sources, mostMs))
    }
    return problems
  }
}

/** The lines of each file, which are many problems' places. Those that are not looked at are undefined. */
function newLines(files: ReadonlyMap<string, string>): Looked['lines'] {
  const known = new Map<string, (string | undefined)[]>()
  let left = measured.files
  return (file) => {
    let lines = known.get(file)
    if (lines === undefined) {
      const text = files.get(file) ?? ''
      lines = text.slice(0, left).split('\n').map(measurable)
      // The last one is not whole.
      if (text.length > left) lines.pop()
      left = Math.max(0, left - text.length)
      known.set(file, lines)
    }
    return lines
  }
}

const measurable = (line: string) => (line.length > measured.line ? undefined : line.endsWith('\r') ? line.slice(0, -1) : line)

/** The part of the text that is looked at, in lines that are not too long. Both ends of a long line stay. */
function bounded(stage: Stage, text: string): string[] {
  if (stage === 'compile') return text.slice(0, looked.compile).split('\n', mostLines).map(shortened)
  const cut = text.length > looked.run
  return text.slice(-looked.run).split('\n').slice(cut ? 1 : 0).slice(-mostLines).map(shortened)
}

function shortened(line: string): string {
  if (line.length > longestLine) line = `${line.slice(0, longestLine - 300)}…${line.slice(-300)}`
  return line.endsWith('\r') ? line.slice(0, -1) : line
}

interface Found {
  problems: Problem[]
  all: boolean
  /** The line with which a traceback begins that took too long, if its last lines are its innermost ones. */
  head: number | null
}

function find(forms: readonly Form[], stage: Stage, lines: readonly string[], sources: Looked, ms: number): Found {
  const text = lines.join('\n')
  const begins: number[] = []
  for (let at = 0, line = 0; line < lines.length; at += (lines[line++] as string).length + 1) begins.push(at)
  const found = new Map<string, Problem>()
  const until = performance.now() + ms
  let tries = 0
  let long: number | null = null
  const inTime = () => performance.now() < (tries < leastTries ? until + mostMsOfLeast : until)

  const match = (expression: RegExp, line: number): { groups: Groups; next: number } | null => {
    tries++
    expression.lastIndex = begins[line] ?? text.length
    const matched = expression.exec(text)
    if (matched === null) return null
    let next = line + 1
    while (next < lines.length && (begins[next] as number) < expression.lastIndex) next++
    return { groups: matched.groups ?? {}, next }
  }

  /** The places of a traceback, the innermost first. */
  const trace = (form: Form, frame: RegExp, line: number): { groups: Groups[]; next: number } | null => {
    const frames: Groups[] = []
    let next = line
    while (next < lines.length && inTime()) {
      const one = match(frame, next)
      if (one !== null) frames.push(one.groups)
      const over = one ?? (form.skip === null ? null : match(form.skip, next))
      if (over === null) break
      next = over.next
    }
    if (form.last) frames.reverse()
    if (form.end === null) return { groups: frames, next }
    const end = next < lines.length ? match(form.end, next) : null
    return end === null ? null : { groups: [end.groups, ...frames], next: end.next }
  }

  const read = (form: Form, begin: number): number | null => {
    let next: number | null = null
    for (let expression: RegExp | null = form.pattern; expression !== null; expression = form.cause) {
      const head = match(expression, next ?? begin)
      if (head === null) break
      const rest = form.frame === null ? { groups: [], next: head.next } : trace(form, form.frame, head.next)
      if (rest === null) {
        if (form.last && !inTime()) long = begin
        break
      }
      note(form, form.last ? [...rest.groups, head.groups] : [head.groups, ...rest.groups], next !== null)
      next = rest.next
      if (next >= lines.length || !inTime()) break
    }
    return next
  }

  /** The problem is in the innermost place that is in a file of the submission. */
  const note = (form: Form, groups: readonly Groups[], caused: boolean): void => {
    const told = groups.find((each) => each['message'] !== undefined)
    if (told === undefined) return
    for (const each of groups) {
      const place = placed(each, form.columns, sources)
      if (place === null) continue
      const aside = caused || groups.some((each) => each['note'] !== undefined)
      const problem: Problem = {
        ...place,
        severity: aside ? 'note' : severity(told['severity'], form.severity),
        message: message(told),
        code: told['code'] ?? null,
        source: stage,
      }
      const key = JSON.stringify([problem.file, problem.line, problem.col, problem.message])
      if (!found.has(key)) found.set(key, problem)
      if (found.size > mostProblems) for (const oldest of found.keys()) return void found.delete(oldest)
      return
    }
  }

  let line = 0
  // A compiler's first problems are the causes of others; a program's last one ended it.
  const enough = () => stage === 'compile' && found.size === mostProblems
  while (line < lines.length && !enough() && inTime()) {
    let next: number | null = null
    for (const form of forms) if ((next = read(form, line)) !== null) break
    line = next ?? line + 1
  }
  return { problems: [...found.values()], all: line >= lines.length, head: long }
}

function message(groups: Groups): string {
  const said = [groups['message'], groups['detail']].filter(Boolean).join(': ').trim()
  return said.length > longestMessage ? `${said.slice(0, longestMessage)}…` : said
}

function severity(word: string | undefined, usual: Severity): Severity {
  if (word === undefined) return usual
  if (/warn|deprecat/i.test(word)) return 'warning'
  return /not(e|ice)/i.test(word) ? 'note' : 'error'
}

function placed(groups: Groups, columns: Columns, sources: Looked): Place | null {
  const named = groups['file']
  if (groups['line'] !== undefined) {
    const file = named === undefined ? sources.main : resolved(named, sources)
    return file === null ? null : at(file, Number(groups['line']), groups, columns, sources)
  }
  const name = groups['name']
  if (name === undefined) return null
  const own = named === undefined ? null : resolved(named, sources)
  for (const file of own === null ? [sources.main, ...sources.files.keys()] : [own]) {
    const place = lastOf(name, file, sources.lines(file))
    if (place !== null) return place
  }
  return { file: own ?? sources.main, line: 1, col: null, endCol: null }
}

/** The submission's file that is meant by a path. */
function resolved(path: string, { main, files, renamed }: Sources): string | null {
  path = path.replace(/^file:\/\//, '')
  if (path.startsWith(box)) path = path.slice(box.length)
  path = path.replace(/^(\.\/)+/, '')
  if (path.startsWith('/')) return null
  if (files.has(path)) return path
  // A runtime may know the last part alone, and a compiler may have stood in a folder.
  const ends = [...files.keys()].filter((name) => name.endsWith(`/${path}`))
  if (ends[0] !== undefined) return ends[0]
  const suffix = /\.\w+$/.exec(main)?.[0]
  return renamed && suffix !== undefined && path.endsWith(suffix) && !path.includes('/') ? main : null
}

function lastOf(name: string, file: string, lines: readonly (string | undefined)[]): Place | null {
  for (let line = lines.length; line > 0; line--) {
    const text = lines[line - 1]
    if (!text?.includes(name)) continue
    const words = [...text.matchAll(/[\w$]+/g)].filter((word) => word[0] === name)
    const word = words[words.length - 1]
    if (word !== undefined) return { file, line, col: word.index + 1, endCol: word.index + 1 + name.length }
  }
  return null
}

function at(file: string, line: number, groups: Groups, columns: Columns, sources: Looked): Place | null {
  if (!(line >= 1 && line < 2 ** 31)) return null
  const nowhere = { file, line, col: null, endCol: null }
  const text = sources.lines(file)[line - 1]
  if (text === undefined) return nowhere
  const { source, caret, marks, before, col, end_col: endCol } = groups
  // One mark alone points to where something begins.
  const length = marks === undefined || marks.length < 2 ? null : marks.length
  if (caret !== undefined && source !== undefined) {
    // The line stands above the caret, perhaps without its indentation.
    const indent = text.indexOf(source)
    const from = width(caret, columns) - width(before ?? '', columns)
    if (indent < 0 || from < 0) return nowhere
    const [begin, end] = span(source, from, length === null ? null : from + length, columns)
    return { ...nowhere, col: indent + begin + 1, endCol: end === null ? null : indent + end + 1 }
  }
  if (col === undefined) return nowhere
  const from = Number(col) - columns.first
  const to = endCol !== undefined ? Number(endCol) - columns.first : length === null ? null : from + length
  const [begin, end] = span(text, from, to, columns)
  return { ...nowhere, col: begin + 1, endCol: end === null ? null : end + 1 }
}

/** What lies between two of the compiler's columns, in UTF-16 units. */
function span(line: string, from: number, to: number | null, columns: Columns): [number, number | null] {
  const read = (unit: Columns['unit']): [number, number | null] => {
    const counted = { ...columns, unit }
    return [column(line, from, counted), to === null ? null : column(line, to, counted)]
  }
  if (columns.unit !== 'drawn') return read(columns.unit)
  const wide = read('wide')
  return wide.every((edge) => edge === null || isEdge(line, edge)) && line[wide[0]] !== ' ' ? wide : read('characters')
}

/** No word is cut there. */
function isEdge(line: string, at: number): boolean {
  return !(word.test(line.slice(0, at).slice(-1)) && word.test(line.slice(at, at + 1)))
}

/** How many UTF-16 units of the line lie before this many of the compiler's units. */
function column(line: string, units: number, { unit, tab }: Columns): number {
  let index = 0
  let passed = 0
  for (const char of line) {
    const size = char === '\t' ? tabbed(passed, tab) : sizes[unit](char)
    // A character that takes no column is not the one that is marked.
    if (passed >= units && size > 0) break
    passed += size
    index += char.length
  }
  return index
}

/** How many columns lie before a mark: behind spaces, and tabs where the tool draws a tab below a tab. */
function width(drawn: string, { tab }: Columns): number {
  let passed = 0
  for (const char of drawn) passed += char === '\t' ? tabbed(passed, tab) : 1
  return passed
}

/** How many columns a tab takes behind so many. */
const tabbed = (passed: number, tab: number) => (tab > 0 ? tab - (passed % tab) : 0)

/** How many columns a character takes. */
const sizes: Record<Columns['unit'], (char: string) => number> = {
  utf16: (char) => char.length,
  characters: () => 1,
  drawn: () => 1,
  bytes: utf8,
  wide: (char) => (wide.test(char) ? 2 : 1),
  display: shown,
}

function utf8(char: string): number {
  const code = char.codePointAt(0) ?? 0
  return code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4
}

const wide = /^[\p{Emoji_Presentation}\p{Script=Han}\p{Script=Hangul}\p{Script=Hiragana}\p{Script=Katakana}\u3000-\u303e\uff01-\uff60\uffe0-\uffe6]$/u
const word = /[\p{L}\p{M}\p{N}_]/u
const narrowest = /^[\p{Mn}\p{Me}\p{Cf}]$/u

/** How many columns of a terminal it takes. */
function shown(char: string): number {
  if (char < '\u0300') return 1
  return wide.test(char) ? 2 : narrowest.test(char) ? 0 : 1
}

/** A place as a compiler names it, if it is in a file of the submission. */
export function compilersPlace(
  patterns: readonly Pattern[],
  file: string,
  line: number,
  col: number | null,
  sources: Sources,
): Place | null {
  const columns = columnsOf(patterns.find(({ stage, pattern }) => stage === 'compile' && pattern.includes('(?<col>')) ?? {})
  const own = resolved(file, sources)
  const groups = col === null ? {} : { col: String(col) }
  return own === null ? null : at(own, line, groups, columns, { ...sources, lines: newLines(sources.files) })
}

/** The one that decided: the first that kept the program from being compiled, or the last that ended it. */
export function firstProblem(failed: Stage, problems: readonly Problem[]): Problem | null {
  const own = problems.filter(({ source }) => source === failed)
  const errors = own.filter(({ severity }) => severity === 'error')
  if (failed === 'compile') return errors[0] ?? null
  const candidates = errors.length > 0 ? errors : own.filter(({ severity }) => severity === 'note')
  return candidates[candidates.length - 1] ?? null
}

/** A program that came to its end well was only warned. */
export function survived(problems: readonly Problem[]): Problem[] {
  return problems.map((problem) =>
    problem.source === 'run' && problem.severity === 'error' ? { ...problem, severity: 'warning' } : problem,
  )
}
