/** Milliseconds before the next try: at once-ish at first, then slower, spread so that a thousand
 * pages do not come back to a restarted server in the same instant. */
export function delay(tries: number, random = Math.random()): number {
  const longest = Math.min(10_000, 250 * 2 ** tries)
  return longest / 2 + (longest / 2) * random
}
