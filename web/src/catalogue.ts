import { ProblemError, languages, unready } from './api'
import { delay } from './backoff'
import type { Language, Problem } from './messages'
import { say } from './say'
import { showBanner } from './status'

const recheck = 5_000

/** Gets the languages, however long the server takes, and says what is wrong until nothing is. */
export function watchCatalogue(found: (languages: Language[]) => void): void {
  let known = ''
  let tries = 0

  function show(offered: Language[]): Language[] {
    // The same list again must not disturb what is being written.
    if (JSON.stringify(offered) !== known) {
      found(offered)
      // Only now: what could not be shown is tried again.
      known = JSON.stringify(offered)
    }
    return offered
  }

  async function look(): Promise<void> {
    try {
      // The languages are shown as soon as they are there.
      const [offered, problem] = await Promise.all([languages().then(show), unready()])
      tries = 0
      showBanner(problem !== null ? remedy(problem) : offered.length === 0 ? say('no_language') : '')
      if (problem !== null || offered.length === 0) setTimeout(look, recheck)
    } catch (error) {
      showBanner(error instanceof ProblemError ? remedy(error.problem) : say('unreachable'))
      setTimeout(look, delay(tries++))
    }
  }

  void look()
}

export function remedy(problem: Problem): string {
  if (problem.detail?.startsWith('Programs cannot be run')) return problem.detail
  const what = problem.title.replace(/\.$/, '')
  return problem.detail ? `${what}. ${problem.detail}` : `${what}.`
}
