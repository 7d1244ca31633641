/** Asks which of two texts shall stay. */
export function newContest(notice: HTMLElement, keepMine: () => void, takeTheirs: () => void): (open: boolean) => void {
  const [mine, theirs] = notice.querySelectorAll('button')
  mine?.addEventListener('click', keepMine)
  theirs?.addEventListener('click', takeTheirs)
  return (open) => {
    notice.hidden = !open
  }
}
