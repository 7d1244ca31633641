import { ProblemError, ended } from './api'
import { complaint } from './complaint'
import type { Complaint } from './complaint'
import type { Submission } from './messages'
import { say } from './say'
import { newDecoder } from './text'

export { edits } from './edits'

/** The program in order, or why there is none, with what the formatter said if that has a place. */
export type Formatted = { text: string } | { why: string; told?: Complaint & { line: number } }

/** By the language's own formatter, at the server. */
export async function formatted(submission: Submission): Promise<Formatted> {
  try {
    const { verdict, run } = await ended({ ...submission, format: true })
    if (verdict === 'ok' && run !== null) return { text: newDecoder().read(run.stdout) }
    if (verdict === 'compile_error' && run !== null) return complained(newDecoder().read(run.stderr))
    return { why: say(verdict?.endsWith('_limit') === true ? 'format_limit' : 'format_failed') }
  } catch (error) {
    if (!(error instanceof ProblemError)) return { why: say('format_away') }
    return { why: say('format_unread', { text: error.message }) }
  }
}

function complained(stderr: string): Formatted {
  const { line, text } = complaint(stderr)
  if (line === null) return { why: say('format_unread', { text }) }
  return { why: say('format_unread_line', { line, text }), told: { line, text } }
}
