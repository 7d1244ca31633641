import { limits } from './api'
import type { Bounds } from './api'
import type { Limits } from './messages'

// What the server takes at most. It is asked for when the program is in sight: until then, and while the server is
// away, the usual counts, and the server itself refuses what is beyond.

/** `http.sources_max_bytes`, unless an operator says otherwise. */
const usualBytes = 8 * 2 ** 20

let known: Bounds | null = null

/** For a submission's files together. */
export const mostBytes = (): number => known?.sources_bytes ?? usualBytes

/** Of each limit, the most that a program may ask for; null while that is not known. */
export const ceilings = (): Limits | null => known?.ceilings ?? null

/** Asks, unless the answer is known. What is not answered now may be asked for again. */
export async function learnBounds(): Promise<void> {
  known ??= await limits().catch(() => null)
}
