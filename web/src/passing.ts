import { newNotice } from './notice'
import type { Notice } from './notice'

/** How long a person has been writing again when what was said is taken for read. In milliseconds. */
const read = 8_000
const again = 500

/** A notice that goes by itself when the person has gone on. */
export interface Passing extends Notice {
  /** Something was written. */
  wrote(): void
  /** Something begins that has nothing to do with it. */
  passed(): void
}

/**
 * It goes when a program is run, and a while after something was written. It never goes from a person who does nothing,
 * who may be reading it still (WCAG 2.2.1), and not from under the pointer or with the focus in it. What it offers to
 * take back is among the earlier versions, too.
 */
export function newPassing(element: HTMLElement): Passing {
  const notice = newNotice(element)
  let timer: ReturnType<typeof setTimeout> | undefined

  function stay(): void {
    clearTimeout(timer)
    timer = undefined
  }

  function go(pause: number): void {
    stay()
    timer = setTimeout(() => {
      if (element.matches(':hover, :focus-within')) go(again)
      else notice.hide()
    }, pause)
  }

  return {
    say(words, ...actions) {
      stay()
      notice.say(words, ...actions)
    },
    hide: notice.hide,
    wrote() {
      if (timer === undefined) go(read)
    },
    passed: () => go(0),
  }
}
