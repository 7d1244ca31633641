import { ProblemError, languages, languagesInBrief, unready } from './api'
import { delay } from './backoff'
import type { Language, Problem } from './messages'
import { say } from './say'
import { showBanner } from './status'

const recheck = 5_000

/** Gets the languages, however long the server takes, and says what is wrong until nothing is. They are shown in brief
 * first where that `suffices`. The promise is kept when all of them are there as a whole. */
export function watchCatalogue(suffices: (brief: Language[]) => boolean, found: (languages: Language[]) => void): Promise<void> {
  let came: () => void
  const whole = new Promise<void>((resolve) => {
    came = resolve
  })
  let brief: Language[] | null = null
  let known = ''
  let tries = 0

  async function showBrief(): Promise<void> {
    const offered = await languagesInBrief()
    if (brief !== null || known !== '' || !suffices(offered)) return
    found(offered)
    brief = offered
  }

  function show(offered: Language[]): Language[] {
    // The same list again must not disturb what is being written.
    if (JSON.stringify(offered) !== known) {
      if (brief === null || !complete(brief, offered)) found(offered)
      // Only now: what could not be shown is tried again.
      known = JSON.stringify(offered)
      brief = null
    }
    came()
    return offered
  }

  async function offers(): Promise<Language[]> {
    if (brief === null && known === '') await showBrief()
    return show(await languages())
  }

  async function look(): Promise<void> {
    try {
      // The languages are shown as soon as they are there.
      const [offered, problem] = await Promise.all([offers(), unready()])
      tries = 0
      showBanner(problem !== null ? remedy(problem) : offered.length === 0 ? say('no_language') : '')
      if (problem !== null || offered.length === 0) setTimeout(look, recheck)
    } catch (error) {
      showBanner(error instanceof ProblemError ? remedy(error.problem) : say('unreachable'))
      setTimeout(look, delay(tries++))
    }
  }

  void look()
  return whole
}

/** What is shown keeps its place and gets what it lacked. False where the server has other languages by now. */
function complete(brief: readonly Language[], whole: readonly Language[]): boolean {
  const agreed = whole.map((each, n) => ({ ...each, ...brief[n] }))
  if (brief.length !== whole.length || JSON.stringify(agreed) !== JSON.stringify(whole)) return false
  for (const [n, each] of brief.entries()) Object.assign(each, whole[n])
  return true
}

export function remedy(problem: Problem): string {
  if (problem.detail?.startsWith('Programs cannot be run')) return problem.detail
  const what = problem.title.replace(/\.$/, '')
  return problem.detail ? `${what}. ${problem.detail}` : `${what}.`
}
