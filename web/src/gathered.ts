/** In milliseconds. */
const soon = 16
/** What is done without end leaves the page nine tenths of its time. */
const share = 9

/** Does it soon, once for all that asked for it meanwhile. */
export function gathered(act: () => void): () => void {
  let timer: ReturnType<typeof setTimeout> | undefined
  let pause = soon
  return () => {
    timer ??= setTimeout(() => {
      timer = undefined
      const began = performance.now()
      act()
      pause = Math.max(soon, share * (performance.now() - began))
    }, pause)
  }
}
