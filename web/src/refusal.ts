import { bytes } from './measures'
import type { Problem } from './messages'
import { usedUp } from './quota'
import { kind } from './messages'
import { say } from './say'
import { canSignIn } from './signin'
import type { Tone, Verdict } from './verdict'

/** Why a submission of so many bytes was not taken. What the user wrote stays where it is. */
export function refusal(problem: Problem, size = 0): Verdict {
  const again = problem.retry_after ? say('again_in', { n: Math.ceil(problem.retry_after) }) : say('again')
  const detail = problem.detail ?? ''
  // The detail may tell of the fields, too.
  const untold = (problem.errors ?? []).filter((e) => !(detail.includes(e.field) && detail.includes(e.message)))
  const fields = untold.map((e) => `${e.field}: ${e.message}`)
  const said = [problem.title.replace(/\.?$/, '.'), detail, ...fields].filter(Boolean).join('\n')
  const of = (tone: Tone, headline: string, line: string): Verdict => ({ tone, headline, line })
  if (problem.status === 503 && kind(problem).includes('full')) {
    return of('ours', say('queue_full'), say('nothing_lost', { again }))
  }
  if (problem.status === 401) return unknown(problem)
  if (kind(problem) === 'no-answer') return { ...of('ours', problem.title, detail), offers: ['run-again'] }
  if (problem.quota !== undefined) return of('ours', say('quota'), usedUp(problem.quota, Date.now()))
  if (problem.status === 413) return tooLarge(problem, size)
  if (problem.status === 503) return of('ours', say('cannot_run'), problem.detail ? said : `${said} ${again}`)
  if (problem.status === 429) return of('ours', say('too_many'), problem.detail ? said : `${said} ${again}`)
  if (problem.status >= 500) return of('ours', say('server_failed'), said)
  return of('bad', say('refused'), said)
}

/** The server does not know who asks. */
function unknown(problem: Problem): Verdict {
  if (!canSignIn()) return { tone: 'ours', headline: say('keys_only'), line: say('keys_only_line') }
  const ended = kind(problem) === 'signed-out'
  return {
    tone: 'ours',
    headline: say(ended ? 'sign_in_ended' : 'sign_in_first'),
    line: say(ended ? 'sign_in_ended_line' : 'sign_in_first_line'),
    offers: ['sign-in-now'],
  }
}

function tooLarge(problem: Problem, size: number): Verdict {
  const most = Number(/\d{4,}/.exec(problem.detail ?? '')?.[0] ?? 0)
  if (most === 0) return { tone: 'bad', headline: say('too_large'), line: problem.detail || problem.title }
  const line = size > most ? say('larger_by', { size: bytes(size - most) }) : ''
  return { tone: 'bad', headline: say('larger_than', { size: bytes(most) }), line }
}
