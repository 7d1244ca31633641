// Where the keys go.

/** So long a program is there before it gets the keys, unless somebody has done something since. */
const patience = 500

/** What makes a person's next keys go elsewhere than they went. */
export interface Attention {
  /** A run began, or is followed again. */
  ask(): void
}

/**
 * Calls `take` when a run is still there after a moment in which nobody has used a key or a pointer, and again
 * until it is true: what takes the keys may still be on its way.
 */
export function newAttention(take: () => boolean): Attention {
  let timer: ReturnType<typeof setTimeout> | undefined
  const leave = () => clearTimeout(timer)
  const wait = () => {
    timer = setTimeout(() => take() || wait(), patience)
  }
  addEventListener('keydown', leave, { capture: true })
  addEventListener('pointerdown', leave, { capture: true })
  return {
    ask() {
      leave()
      // By touch a keyboard would come up, over what the program writes.
      if (!matchMedia('(pointer: coarse)').matches) wait()
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
