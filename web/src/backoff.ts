/** Milliseconds before the next try: short at first, then longer up to `most`, spread so that a thousand
 * pages do not come back to a restarted server in the same instant. */
export function delay(tries: number, most = 10_000, random = Math.random()): number {
  const longest = Math.min(most, 250 * 2 ** tries)
  return longest / 2 + (longest / 2) * random
}
