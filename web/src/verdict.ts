import { bytes } from './measures'
import type { Outcome, Problem, Result } from './messages'
import { kind } from './messages'

export type Tone = 'idle' | 'busy' | 'good' | 'bad' | 'ours' | 'stopped'

export interface Verdict {
  tone: Tone
  text: string
  /** What explains it, for those who want to know more. */
  detail: string
}

const signals: Record<string, string> = {
  SIGSEGV: 'It touched memory that is not its own: often a null pointer or an index out of range.',
  SIGABRT: 'It ended itself with abort(): often a failed assertion or an exception nobody caught.',
  SIGFPE: 'An impossible calculation, such as an integer divided by zero.',
  SIGBUS: 'It touched memory in a way the machine does not allow.',
  SIGILL: 'It ran an instruction the machine does not know.',
  SIGSYS: 'It made a system call that is not allowed here.',
  SIGXFSZ: 'It wrote a file larger than allowed.',
  SIGKILL: 'Something in the program killed it.',
}

const endless = 'Often data that grows without end, or a function that calls itself without end.'

/** The one that decided: the run, or the compiler when there was no run. */
export function decisive(result: Result): Outcome | null {
  return result.run ?? result.compile
}

// Languages that keep output in memory, as it goes into a pipe, and how to have it sent at once.
const flushes: Record<string, string> = {
  c: 'C keeps output in memory until 4 KB or the end; add fflush(stdout).',
  cpp: 'C++ keeps output in memory until 4 KB or the end; add std::cout.flush().',
  ruby: 'Ruby keeps output in memory until 8 KB or the end; add $stdout.flush.',
  perl: 'Perl keeps output in memory until 8 KB or the end; add $| = 1;',
  lua: 'Lua keeps output in memory until 4 KB or the end; add io.stdout:flush().',
}

/** The words where the program's output would be, when there is none. */
export function nothing({ run, verdict, language }: Result, tty = false): string {
  if (run === null) return 'The program did not run.'
  const killed = verdict === 'cancelled' || run.signal !== null || run.limit !== null
  const flush = killed && !tty && language !== null ? flushes[language.id] : undefined
  return flush === undefined ? 'The program wrote nothing.' : `Nothing arrived. ${flush}`
}

// How a program ends that asked for more input than there was, in languages that say so.
const starved: Record<string, RegExp> = {
  python: /^EOFError: EOF when reading a line$/m,
  java: /NoSuchElementException.*\n\s+at java\.base\/java\.util\.Scanner\./,
}

const feed = 'It asked for more input than there was. Write more under Input, or leave Input empty and type while it runs.'

/** The end of the output is enough. */
export function verdict(result: Result, output = ''): Verdict {
  const outcome = decisive(result)
  const who = result.run === null && result.compile !== null ? 'Compiler: ' : ''
  const cut = outcome?.stdout_truncated || outcome?.stderr_truncated ? 'The output was cut at its limit.' : ''
  const detail = [result.message ?? '', cut].filter(Boolean).join(' ')
  const bad = (text: string, more = detail): Verdict => ({ tone: 'bad', text, detail: more })

  switch (result.verdict) {
    case 'ok':
    case 'accepted':
      return { tone: 'good', text: 'Finished', detail }
    case 'wrong_answer':
      return bad('Wrong answer')
    case 'compile_error':
      return bad('Compile error', detail || ending(outcome, 'The compiler'))
    case 'runtime_error':
      if (outcome?.tty && outcome.signal === 'SIGINT') return { tone: 'stopped', text: 'Ended by Ctrl-C', detail }
      if (outcome?.signal) {
        return bad(`Killed by ${outcome.signal}`, [signals[outcome.signal] ?? '', detail].filter(Boolean).join(' '))
      }
      return bad(
        `Exit code ${outcome?.exit_code ?? 'unknown'}`,
        detail || (starved[result.language?.id ?? '']?.test(output) ? feed : ''),
      )
    case 'time_limit':
      if (outcome?.limit === 'idle') return bad('Time limit: stopped for want of input')
      return bad(`${who}Time limit: stopped after ${timeLimit(outcome)}`)
    case 'memory_limit':
      return bad(
        outcome?.memory ? `${who}Memory limit: stopped at ${bytes(outcome.memory)}` : `${who}Memory limit`,
        // A runtime that noticed has said more itself; the kernel says nothing.
        detail || (result.run?.signal === 'SIGKILL' ? endless : ''),
      )
    case 'output_limit':
      return bad(`${who}Output limit: stopped for writing too much`)
    case 'cancelled':
      return { tone: 'stopped', text: 'Cancelled', detail }
    case 'internal_error':
      return { tone: 'ours', text: 'Internal error: ours, not yours', detail: detail || 'Please run it again.' }
    default:
      return bad(result.verdict.replaceAll('_', ' '))
  }
}

function timeLimit(outcome: Outcome | null): string {
  const tidy = (s: number | null | undefined) => `${Number((s ?? 0).toFixed((s ?? 0) < 10 ? 1 : 0))} s`
  if (outcome?.limit === 'cpu_time') return `${tidy(outcome.cpu_time)} of CPU`
  return `${tidy(outcome?.wall_time)}${outcome?.limit === 'wall_time' ? ' on the clock' : ''}`
}

function ending(outcome: Outcome | null, who: string): string {
  switch (outcome?.limit) {
    case 'cpu_time':
    case 'wall_time':
      return `${who} was stopped after ${timeLimit(outcome)}.`
    case 'memory':
      return `${who} needed more memory than allowed.`
    case 'output':
      return `${who} wrote too much.`
    default:
      return outcome?.signal ? `${who} was killed by ${outcome.signal}.` : ''
  }
}

/** Why a submission was not taken. What the user wrote stays where it is. */
export function refusal(problem: Problem): Verdict {
  const again = problem.retry_after ? `Try again in ${Math.ceil(problem.retry_after)} s.` : 'Try again in a moment.'
  const fields = (problem.errors ?? []).map((e) => `${e.field}: ${e.message}`)
  const said = [problem.detail ?? '', ...fields].filter(Boolean).join('\n')
  if (problem.status === 503 && kind(problem).includes('full')) {
    return { tone: 'ours', text: 'The queue is full', detail: `Nothing is lost. ${again}` }
  }
  if (problem.status === 503) return { tone: 'ours', text: problem.title, detail: said || again }
  if (problem.status === 413) return { tone: 'bad', text: 'Too large to send', detail: said || problem.title }
  if (problem.status === 429) return { tone: 'bad', text: problem.title, detail: said || again }
  if (problem.status >= 500) return { tone: 'ours', text: 'The server failed: ours, not yours', detail: said || problem.title }
  return { tone: 'bad', text: problem.title, detail: said }
}
