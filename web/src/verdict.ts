import { lastWords } from './lastwords'
import { bytes } from './measures'
import type { Outcome, Result } from './messages'
import { say, sayOf } from './say'

export type Tone = 'idle' | 'busy' | 'good' | 'bad' | 'ours' | 'stopped'

/** What a person can do about it. */
export type Offer = 'try-now' | 'type-live' | 'write-input' | 'run-again' | 'sign-in-now'

export interface Verdict {
  tone: Tone
  /** At most `longestHeadline` characters. */
  headline: string
  /** One more line, or nothing. */
  line: string
  offers?: Offer[]
}

export const longestHeadline = 32

/** What made it fail, as far as a place in the program was told. */
export interface Complaint {
  /** Null for the file that runs. */
  file: string | null
  line: number
  message: string
  /** An exception's name, or a compiler's number. */
  code: string | null
  /** How many more there were. */
  more: number
}

export interface Limits {
  memory: number
  output: number
}

/** What the page knows beside the result. */
export interface Story {
  first?: Complaint | null
  /** The end of what the program wrote through pipes, or none. */
  output?: string
  /** The end of what it wrote to stderr, or at a terminal. */
  said?: string
  /** It wrote to stderr. */
  complained?: boolean
  /** There was something for it to read. */
  hadInput?: boolean
  /** In bytes: what it was allowed. */
  limits?: Limits | null
}

/** The one that decided: the run, or the compiler when there was no run. */
export function decisive(result: Result): Outcome | null {
  return result.run ?? result.compile
}

/** The words where the program's output would be, when there is none. `beginner`: no program has written anything yet. */
export function nothing({ run, verdict, language }: Result, tty: boolean, beginner: boolean): string {
  if (run === null) return say('not_run')
  const killed = verdict === 'cancelled' || run.signal !== null || run.limit !== null
  const flush = killed && !tty && language !== null ? sayOf('flush', language.id) : undefined
  if (flush !== undefined) return say('nothing_arrived', { flush })
  return verdict === 'ok' && beginner ? say('wrote_nothing_yet') : say('wrote_nothing')
}

// How a program ends that asked for more input than there was, in languages that say so.
const starved: Record<string, RegExp> = {
  python: /^EOFError: EOF when reading a line$/m,
  java: /NoSuchElementException.*\n\s+at java\.base\/java\.util\.Scanner\./,
}

export function verdict(result: Result, story: Story = {}): Verdict {
  const outcome = decisive(result)
  const cut = outcome?.stdout_truncated || outcome?.stderr_truncated ? say('output_cut') : ''
  const told = sentences(result.message, cut)
  const bad = (headline: string, line = ''): Verdict => ({ tone: 'bad', headline, line: line || told })

  if (result.run === null && result.compile !== null && outcome?.limit != null) return bad(compilerLimit(outcome))
  switch (result.verdict) {
    case 'ok':
    case 'accepted':
      return { tone: 'good', headline: say('finished'), line: told }
    case 'wrong_answer':
      return bad(say('wrong_answer'))
    case 'compile_error':
      return compileError(outcome, story.first ?? null, told)
    case 'runtime_error':
      return runtimeError(result, story, told)
    case 'time_limit':
      return timeLimit(outcome, told)
    case 'memory_limit':
      return bad(
        story.limits ? say('memory_limit', { size: bytes(story.limits.memory) }) : say('memory_limit_some'),
        // A runtime that noticed has said more itself; the kernel says nothing.
        told || sentences(result.run?.signal === 'SIGKILL' ? say('endless') : '', say('limits_hint')),
      )
    case 'output_limit':
      return story.limits
        ? bad(say('output_limit_at', { size: bytes(story.limits.output) }), say('output_limit_at_line', { size: bytes(story.limits.output) }))
        : bad(say('output_limit'), say('output_limit_line'))
    case 'cancelled':
      return { tone: 'stopped', headline: say('cancelled'), line: told || (result.run === null ? '' : say('cancelled_line')) }
    case 'internal_error':
      return {
        tone: 'ours',
        headline: say('internal'),
        line: sentences(result.message, result.attempts > 1 ? say('tried', { n: result.attempts }) : '', say('quote', { id: result.id })),
        offers: ['run-again'],
      }
    default:
      return bad(shortened(result.verdict.replaceAll('_', ' ')))
  }
}

function compileError(outcome: Outcome | null, first: Complaint | null, told: string): Verdict {
  if (first === null) {
    const killed = outcome?.signal ? say('compiler_killed', { signal: outcome.signal }) : ''
    return { tone: 'bad', headline: say('compile_error'), line: told || killed }
  }
  const more = first.more > 0 ? say('and_more', { n: first.more }) : ''
  return { tone: 'bad', headline: shortened(say('compile_error_in', { place: where(first) })), line: [first.message, more].filter(Boolean).join(' · ') }
}

function runtimeError(result: Result, story: Story, told: string): Verdict {
  const outcome = decisive(result)
  const { first = null } = story
  if (outcome?.tty && outcome.signal === 'SIGINT') return { tone: 'stopped', headline: say('by_ctrl_c'), line: told }
  // An assertion ends the program itself, and says more than its signal.
  if (outcome?.signal && (first === null || outcome.signal !== 'SIGABRT')) return crash(outcome, result.language?.id ?? '', told)
  if (!outcome?.tty && starved[result.language?.id ?? '']?.test(story.output ?? '')) {
    return story.hadInput
      ? { tone: 'bad', headline: say('starved'), line: '', offers: ['write-input', 'type-live'] }
      : { tone: 'bad', headline: say('starved_empty'), line: '', offers: ['type-live', 'write-input'] }
  }
  if (first !== null) return { tone: 'bad', ...failure(first) }
  const code = outcome?.exit_code == null ? say('exit_unknown') : say('exit_code', { code: outcome.exit_code })
  return { tone: story.complained ? 'bad' : 'stopped', headline: code, line: told || lastWords(story.said ?? '') }
}

/** The exception and its place, in the headline if both have room there. */
function failure(first: Complaint): { headline: string; line: string } {
  const { code, message } = first
  const name = code?.split(/[.:\\]+/).pop() ?? ''
  const place = where(first)
  if (name === '' || name.length > longestHeadline) return { headline: shortened(say('failed_in', { place })), line: message }
  // The name is not said twice.
  const [named, whole = ''] = /^([^\s]*[^\s:]): /.exec(message) ?? ['']
  const rest = whole.endsWith(name) ? message.slice(named.length) : message
  for (const short of [name, name.replace(/(?<=.)Exception$/, '')]) {
    const headline = say('failed_with', { name: capital(short), place })
    if (headline.length <= longestHeadline) return { headline, line: rest }
  }
  return { headline: name, line: say('failed_at', { place, message: rest }) }
}

const where = ({ file, line }: Complaint) => (file === null ? say('place_line', { line }) : `${file}:${line}`)

/** Runtimes speak of a panic, and of an assertion. */
const capital = (name: string) => name.charAt(0).toUpperCase() + name.slice(1)

function crash(outcome: Outcome, language: string, told: string): Verdict {
  const signal = outcome.signal ?? ''
  const buffer = outcome.tty || sayOf('flush', language) === undefined ? '' : say('buffer_lost')
  return {
    tone: 'bad',
    headline: sayOf('crash', signal) ?? say('killed_by', { signal }),
    line: sentences(sayOf('signal', signal), told, buffer),
  }
}

function timeLimit(outcome: Outcome | null, told: string): Verdict {
  const bad = (headline: string, line: string): Verdict => ({ tone: 'bad', headline, line: told || line })
  if (outcome?.limit === 'idle') return bad(say('idle_limit'), say('idle_limit_line'))
  if (outcome?.limit === 'cpu_time') return bad(say('cpu_limit', { time: tidy(outcome.cpu_time) }), say('cpu_limit_line'))
  const waited = outcome !== null && (outcome.cpu_time ?? 0) < (outcome.wall_time ?? 0) / 2
  const line = waited ? say(outcome.tty ? 'waited_for_you' : 'waited') : say('limits_hint')
  return bad(say('wall_limit', { time: tidy(outcome?.wall_time) }), line)
}

function compilerLimit(outcome: Outcome): string {
  switch (outcome.limit) {
    case 'memory':
      return say('compiler_memory')
    case 'output':
      return say('compiler_wrote')
    default:
      return say('compiler_time', { time: tidy(outcome.limit === 'cpu_time' ? outcome.cpu_time : outcome.wall_time) })
  }
}

const tidy = (s: number | null | undefined) => `${Number((s ?? 0).toFixed((s ?? 0) < 10 ? 1 : 0))} s`

const sentences = (...all: (string | null | undefined)[]) => all.filter(Boolean).join(' ')

export function shortened(headline: string): string {
  return headline.length <= longestHeadline ? headline : `${headline.slice(0, longestHeadline - 1)}…`
}
