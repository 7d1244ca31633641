import { bytes } from './measures'
import type { Outcome, Problem, Result } from './messages'
import { kind } from './messages'
import { say, sayOf } from './say'

export type Tone = 'idle' | 'busy' | 'good' | 'bad' | 'ours' | 'stopped'

export interface Verdict {
  tone: Tone
  text: string
  /** What explains it, for those who want to know more. */
  detail: string
}

/** The one that decided: the run, or the compiler when there was no run. */
export function decisive(result: Result): Outcome | null {
  return result.run ?? result.compile
}

/** The words where the program's output would be, when there is none. */
export function nothing({ run, verdict, language }: Result, tty = false): string {
  if (run === null) return say('not_run')
  const killed = verdict === 'cancelled' || run.signal !== null || run.limit !== null
  const flush = killed && !tty && language !== null ? sayOf('flush', language.id) : undefined
  return flush === undefined ? say('wrote_nothing') : say('nothing_arrived', { flush })
}

// How a program ends that asked for more input than there was, in languages that say so.
const starved: Record<string, RegExp> = {
  python: /^EOFError: EOF when reading a line$/m,
  java: /NoSuchElementException.*\n\s+at java\.base\/java\.util\.Scanner\./,
}

/** The end of the output is enough. */
export function verdict(result: Result, output = ''): Verdict {
  const outcome = decisive(result)
  const whose = (what: string) => (result.run === null && result.compile !== null ? say('compiler_did', { what }) : what)
  const cut = outcome?.stdout_truncated || outcome?.stderr_truncated ? say('output_cut') : ''
  const detail = [result.message ?? '', cut].filter(Boolean).join(' ')
  const bad = (text: string, more = detail): Verdict => ({ tone: 'bad', text, detail: more })

  switch (result.verdict) {
    case 'ok':
    case 'accepted':
      return { tone: 'good', text: say('finished'), detail }
    case 'wrong_answer':
      return bad(say('wrong_answer'))
    case 'compile_error':
      return bad(say('compile_error'), detail || ending(outcome))
    case 'runtime_error':
      if (outcome?.tty && outcome.signal === 'SIGINT') return { tone: 'stopped', text: say('by_ctrl_c'), detail }
      if (outcome?.signal) {
        return bad(say('killed_by', { signal: outcome.signal }), [sayOf('signal', outcome.signal) ?? '', detail].filter(Boolean).join(' '))
      }
      return bad(
        outcome?.exit_code == null ? say('exit_unknown') : say('exit_code', { code: outcome.exit_code }),
        detail || (starved[result.language?.id ?? '']?.test(output) ? say('feed') : ''),
      )
    case 'time_limit':
      if (outcome?.limit === 'idle') return bad(say('limit_idle'))
      return bad(whose(timeLimit(outcome)))
    case 'memory_limit':
      return bad(
        whose(outcome?.memory ? say('limit_memory_at', { size: bytes(outcome.memory) }) : say('limit_memory')),
        // A runtime that noticed has said more itself; the kernel says nothing.
        detail || (result.run?.signal === 'SIGKILL' ? say('endless') : ''),
      )
    case 'output_limit':
      return bad(whose(say('limit_output')))
    case 'cancelled':
      return { tone: 'stopped', text: say('cancelled'), detail }
    case 'internal_error':
      return { tone: 'ours', text: say('internal'), detail: detail || say('run_again') }
    default:
      return bad(result.verdict.replaceAll('_', ' '))
  }
}

const tidy = (s: number | null | undefined) => `${Number((s ?? 0).toFixed((s ?? 0) < 10 ? 1 : 0))} s`

function timeLimit(outcome: Outcome | null): string {
  if (outcome?.limit === 'cpu_time') return say('limit_cpu', { time: tidy(outcome.cpu_time) })
  return say(outcome?.limit === 'wall_time' ? 'limit_wall' : 'limit_time', { time: tidy(outcome?.wall_time) })
}

function ending(outcome: Outcome | null): string {
  switch (outcome?.limit) {
    case 'cpu_time':
      return say('compiler_time', { time: tidy(outcome.cpu_time) })
    case 'wall_time':
      return say('compiler_time', { time: tidy(outcome.wall_time) })
    case 'memory':
      return say('compiler_memory')
    case 'output':
      return say('compiler_output_much')
    default:
      return outcome?.signal ? say('compiler_killed', { signal: outcome.signal }) : ''
  }
}

/** Why a submission was not taken. What the user wrote stays where it is. */
export function refusal(problem: Problem): Verdict {
  const again = problem.retry_after ? say('again_in', { n: Math.ceil(problem.retry_after) }) : say('again')
  const fields = (problem.errors ?? []).map((e) => `${e.field}: ${e.message}`)
  const said = [problem.detail ?? '', ...fields].filter(Boolean).join('\n')
  if (problem.status === 503 && kind(problem).includes('full')) {
    return { tone: 'ours', text: say('queue_full'), detail: say('nothing_lost', { again }) }
  }
  if (problem.status === 503) return { tone: 'ours', text: problem.title, detail: said || again }
  if (problem.status === 413) return { tone: 'bad', text: say('too_large'), detail: said || problem.title }
  if (problem.status === 429) return { tone: 'bad', text: problem.title, detail: said || again }
  if (problem.status >= 500) return { tone: 'ours', text: say('server_failed'), detail: said || problem.title }
  return { tone: 'bad', text: problem.title, detail: said }
}
