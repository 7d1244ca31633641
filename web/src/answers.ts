import { steady } from './steady'

/** What a slow line carries, in characters a second. */
const slowest = 32_768
/** While something else comes, an answer may wait behind that. In milliseconds. */
const behind = 60_000
const pause = 1_000

/** Notices when a connection no longer carries what is sent, or the answers to that: the server answers each frame. */
export interface Answers {
  /** A frame of so many characters is on its way. */
  sent(ref: string, characters: number): void
  /** Something came, with the name of the frame that it answers, if that is one. */
  heard(ref: string | undefined): void
  /** The connection went, and all that was on its way. */
  forget(): void
  /** Something is not answered yet. */
  readonly waits: boolean
  /** Something should have been answered. */
  readonly late: boolean
}

/** `buffered`: what the browser has yet to send. `patience`: how long the answer to a short frame may take, in
 * milliseconds. `late` is called when an answer is late, and again after such a time. */
export function newAnswers(buffered: () => number, patience: () => number, late: () => void): Answers {
  const unanswered = new Map<string, { at: number; characters: number }>()
  let timer: ReturnType<typeof setInterval> | undefined
  /** When there was a sign of life. */
  let since = 0
  let left = 0
  let overdue = false

  function look(): void {
    const now = steady()
    if (buffered() !== left) {
      left = buffered()
      overdue = false
      since = now
      for (const each of unanswered.values()) each.at = now
    }
    // When all has left the browser, much may lie in the buffers of the system and of proxies.
    const most = [...unanswered.values()].reduce((sum, { characters }) => sum + (1000 * characters) / slowest, patience())
    const [first] = unanswered.values()
    if (first === undefined || (now - since < most && now - first.at < behind + most)) return
    overdue = true
    since = first.at = now
    late()
  }

  function forget(): void {
    unanswered.clear()
    clearInterval(timer)
    timer = undefined
    overdue = false
  }

  return {
    sent(ref, characters) {
      const at = steady()
      if (unanswered.size === 0) since = at
      unanswered.set(ref, { at, characters })
      left = buffered()
      timer ??= setInterval(look, pause)
    },
    heard(ref) {
      since = steady()
      if (ref === undefined || !unanswered.delete(ref)) return
      overdue = false
      if (unanswered.size === 0) forget()
    },
    forget,
    get waits() {
      return unanswered.size > 0
    },
    get late() {
      return overdue
    },
  }
}
