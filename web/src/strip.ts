import { minutes } from './measures'
import { page } from './page'
import { say } from './say'
import type { Offer, Tone } from './verdict'
import { visible } from './visible'

/** The line above the output: how the run is, in words. */
export interface Strip {
  /** `go` leads to what the headline is about. */
  show(tone: Tone, headline: string, line: string, offers?: readonly Offer[], go?: (() => void) | null): void
  /** Seconds until the program is ended, or null. */
  left(seconds: number | null): void
}

export function newStrip(changed: (tone: Tone, headline: string, line: string) => void): Strip {
  const buttons = [...page.offers.querySelectorAll('button')]
  return {
    show(tone, headline, line, offers = [], go = null) {
      page.verdict.dataset['tone'] = page.toOutput.dataset['tone'] = tone
      page.verdict.replaceChildren(go === null ? visible(headline) : linked(visible(headline), go))
      page.detail.textContent = visible(line)
      page.detail.hidden = line === ''
      for (const button of buttons) button.hidden = !offers.includes(button.id as Offer)
      // In the order in which they are offered.
      for (const offer of offers) page.offers.append(...buttons.filter(({ id }) => id === offer))
      page.offers.hidden = offers.length === 0
      changed(tone, headline, line)
    },
    left(seconds) {
      page.left.textContent = seconds === null ? '' : say('left', { left: minutes(seconds) })
    },
  }
}

function linked(text: string, go: () => void): HTMLElement {
  const button = document.createElement('button')
  button.type = 'button'
  button.className = 'link'
  button.textContent = text
  button.addEventListener('click', go)
  return button
}

/** What the buttons do. */
export function onOffers(does: Record<Offer, () => void>): void {
  page.offers.addEventListener('click', ({ target }) => {
    const { id } = (target as Element).closest('button') ?? {}
    if (id !== undefined && id in does) does[id as Offer]()
  })
}
