import { steady } from './steady'

// Where the keys go.

/** A program that has been quiet for so long probably waits for somebody, who has had so long to go on with something
 * else. In milliseconds. */
const patience = 500

/** What makes a person's next keys go elsewhere than they went. */
export interface Attention {
  /** A run began, or is followed again. */
  ask(): void
  /** Something was heard of the run. */
  heard(): void
}

const held = new Set(['Control', 'Shift', 'Alt', 'Meta'])
const signs = ['keydown', 'beforeinput', 'pointerdown'] as const

/**
 * Calls `take`, at most once in a run with an effect: when the program probably reads keys, and when nobody has used a
 * key or a pointer since the run was asked for. Whoever has goes on with something else, and keeps the keys for the
 * whole run: what is written into a program never reaches the program that runs. A program probably reads keys when
 * nothing was heard of the run for `patience`, or when it `plays`: a game that draws all the time is never quiet. `take`
 * is false as long as nothing can take the keys, for example while the program is compiled.
 */
export function newAttention(take: () => boolean, plays: () => boolean): Attention {
  let timer: ReturnType<typeof setTimeout> | undefined
  let last = 0
  const wait = (pause: number) => {
    timer = setTimeout(() => {
      const quiet = steady() - last
      if (quiet < patience && !plays()) wait(patience - quiet)
      else if (!take()) wait(patience)
    }, pause)
  }
  const leave = (sign: Event) => {
    // The key of a shortcut that is still held is repeated by some systems.
    if (!held.has((sign as KeyboardEvent).key)) clearTimeout(timer)
  }
  for (const sign of signs) addEventListener(sign, leave, { capture: true })
  return {
    ask() {
      clearTimeout(timer)
      last = steady()
      // By touch a keyboard would come up, over what the program writes.
      if (!matchMedia('(pointer: coarse)').matches) wait(patience)
    },
    heard() {
      last = steady()
    },
  }
}

/** Goes to the next of the page's parts (1), or to the one before (-1). */
export function newPanes(parts: { in: HTMLElement; focus(): void }[]): (step: 1 | -1) => void {
  return (step) => {
    const at = parts.findIndex((part) => part.in.contains(document.activeElement))
    parts.at(at === -1 ? 0 : (at + step) % parts.length)?.focus()
  }
}

/** Buttons for keys that a touched keyboard does not have. `data-key` is what each types. */
export function typeByTouch(keys: HTMLElement, type: (text: string) => void): void {
  for (const button of keys.querySelectorAll('button')) {
    // The keyboard stays where it is.
    button.addEventListener('pointerdown', (press) => press.preventDefault())
    button.addEventListener('click', () => type(JSON.parse(`"${button.dataset['key']}"`) as string))
  }
}
