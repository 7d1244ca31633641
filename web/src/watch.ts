/** In seconds: first when a server has had the time to notice that jails do not start (`occd/sandbox/fitness.py`), so
 * that a person knows within 10 s; often, then ever more seldom. The last one recurs. */
const pauses = [6, 4, 5, 5, 10, 20, 40, 60]

export interface Watch {
  /** Something was heard: the silence begins anew. */
  heard(): void
  stop(): void
}

/** Calls `silent` after six seconds without a sign, and again until there is one. */
export function newWatch(silent: () => void): Watch {
  let timer: ReturnType<typeof setTimeout> | undefined

  function wait(turn: number): void {
    clearTimeout(timer)
    timer = setTimeout(
      () => {
        wait(turn + 1)
        silent()
      },
      1000 * (pauses[turn] ?? pauses[pauses.length - 1] ?? 0),
    )
  }

  return {
    heard: () => wait(0),
    stop: () => clearTimeout(timer),
  }
}
