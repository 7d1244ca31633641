import type { Language, Problem } from './messages'
import { say } from './say'

export class ProblemError extends Error {
  constructor(readonly problem: Problem) {
    super(problem.detail ?? problem.title)
  }
}

const patience = 10_000
/** The server takes its time to see that it cannot start a program. */
const readyPatience = 30_000

async function get(path: string, patienceMs = patience): Promise<unknown> {
  const response = await fetch(path, { headers: { accept: 'application/json' }, signal: AbortSignal.timeout(patienceMs) })
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
