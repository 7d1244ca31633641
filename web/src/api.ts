import type { Call, Data, DeadLetter, Language, Limits, Me, Overview, Problem, Submission } from './messages'
import { say } from './say'

export class ProblemError extends Error {
  constructor(readonly problem: Problem) {
    super(problem.detail ?? problem.title)
  }
}

const patience = 10_000
/** The server takes its time to see that it cannot start a program. */
const readyPatience = 30_000

async function get(path: string, patienceMs = patience, sent: RequestInit = {}): Promise<unknown> {
  const response = await fetch(path, { headers: { accept: 'application/json' }, ...sent, signal: AbortSignal.timeout(patienceMs) })
  const body: unknown = await response.json().catch(() => null)
  if (response.ok) return body
  const problem = (body ?? {}) as Partial<Problem>
  throw new ProblemError({
    ...problem,
    type: problem.type ?? 'about:blank',
    title: problem.title ?? say('server_answered', { status: response.status }),
    status: response.status,
  })
}

export async function languages(): Promise<Language[]> {
  return ((await get('api/v1/languages')) as { languages: Language[] }).languages
}

/** Sooner there. Only core languages have an example and patterns of problems. */
export async function languagesInBrief(): Promise<Language[]> {
  return ((await get('api/v1/languages?brief=true')) as { languages: Language[] }).languages
}

/** What the server takes at most: of each limit, and of a submission's files together. */
export interface Bounds {
  ceilings: Limits
  sources_bytes: number
}

/** The system calls that a program made. */
export const calls = async (id: string) => ((await get(`api/v1/submissions/${id}/trace`)) as { calls: Call[] }).calls

export async function limits(): Promise<Bounds> {
  return (await get('api/v1/limits')) as Bounds
}

/** With a key, or as the person who signed in. */
const by = (key: string | null): RequestInit => (key === null ? {} : { headers: { accept: 'application/json', authorization: `Bearer ${key}` } })

/** What goes on in the server. */
export const overview = async (key: string | null) => (await get('api/v1/status', readyPatience, by(key))) as Overview

export const deadLetters = async (key: string | null) => ((await get('api/v1/queues/kept', readyPatience, by(key))) as { letters: DeadLetter[] }).letters

/** The id of the new submission. */
export const requeue = async (id: string, key: string | null) =>
  ((await get(`api/v1/queues/kept/${encodeURIComponent(id)}/requeue`, readyPatience, { method: 'POST', ...by(key) })) as { id: string }).id

export const me = async () => (await get('api/v1/me')) as Me

export const signOut = () => get('api/v1/sign-out', patience, { method: 'POST' })

/** A submission as the server shows it, with its output. */
interface Shown {
  id: string
  status: string
  verdict: string | null
  run: { stdout: Data; stderr: Data } | null
}

const waits = 20

/** How a submission ended that nobody follows. */
export async function ended(submission: Submission): Promise<Shown> {
  const patienceMs = waits * 1000 + patience
  const body = JSON.stringify(submission)
  const headers = { 'content-type': 'application/json' }
  let shown = (await get(`api/v1/submissions?wait=${waits}`, patienceMs, { method: 'POST', headers, body })) as Shown
  while (shown.status !== 'finished') shown = (await get(`api/v1/submissions/${shown.id}?wait=${waits}`, patienceMs)) as Shown
  return shown
}

/** Null when programs can run here, else what stands in the way and what would help. */
export async function unready(): Promise<Problem | null> {
  try {
    await get('readyz', readyPatience)
    return null
  } catch (error) {
    if (error instanceof ProblemError) return error.problem
    throw error
  }
}
