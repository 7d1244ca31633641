import { ProblemError, ended } from './api'
import { complaint } from './complaint'
import type { Submission } from './messages'
import { say } from './say'
import { newDecoder } from './text'

export { edits } from './edits'

/** The program in order, or why there is none. */
export type Formatted = { text: string } | { why: string }

/** By the language's own formatter, at the server. */
export async function formatted(submission: Submission): Promise<Formatted> {
  try {
    const { verdict, run } = await ended({ ...submission, format: true })
    if (verdict === 'ok' && run !== null) return { text: newDecoder().read(run.stdout) }
    if (verdict === 'compile_error' && run !== null) return { why: sayComplaint(newDecoder().read(run.stderr)) }
    return { why: say(verdict?.endsWith('_limit') === true ? 'format_limit' : 'format_failed') }
  } catch (error) {
    if (!(error instanceof ProblemError)) return { why: say('format_away') }
    return { why: say('format_unread', { text: error.message }) }
  }
}

function sayComplaint(stderr: string): string {
  const { line, text } = complaint(stderr)
  return line === null ? say('format_unread', { text }) : say('format_unread_line', { line, text })
}
