const first = 5_000
const longest = 60_000

export interface Watch {
  /** Something was heard: the silence begins anew. */
  heard(): void
  stop(): void
}

/** Calls `silent` after five seconds without a sign, then ever more seldom until there is one. */
export function newWatch(silent: () => void): Watch {
  let timer: ReturnType<typeof setTimeout> | undefined

  function wait(pause: number): void {
    clearTimeout(timer)
    timer = setTimeout(() => {
      wait(Math.min(pause * 2, longest))
      silent()
    }, pause)
  }

  return {
    heard: () => wait(first),
    stop: () => clearTimeout(timer),
  }
}
