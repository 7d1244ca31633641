/** Asks which of two texts shall stay. */
export function newContest(notice: HTMLElement, chosen: (choice: 'keepMine' | 'takeTheirs') => void): (open: boolean) => void {
  const [mine, theirs] = notice.querySelectorAll('button')
  mine?.addEventListener('click', () => chosen('keepMine'))
  theirs?.addEventListener('click', () => chosen('takeTheirs'))
  return (open) => {
    notice.hidden = !open
  }
}
