import { setHidden } from './elements'
import type { Side } from './program'

/** Asks which of two texts shall stay. */
export function newContest(notice: HTMLElement, chosen: (side: Side) => void): (open: boolean) => void {
  const [mine, theirs] = notice.querySelectorAll('button')
  mine?.addEventListener('click', () => chosen('mine'))
  theirs?.addEventListener('click', () => chosen('theirs'))
  return (open) => {
    setHidden(notice, !open)
  }
}
