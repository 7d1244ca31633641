import { say } from './say'
import type { Tone } from './verdict'

// What a tab tells of its page while another one is looked at.

const icon = document.querySelector<HTMLLinkElement>('link[rel="icon"]')
const plain = icon?.href ?? ''
const dots: Partial<Record<Tone, string>> = { busy: '#f2b134', good: '#35c06f', bad: '#f0524b', ours: '#f2b134' }
const signs: Partial<Record<Tone, string>> = { good: '✓', bad: '✕', ours: '✕', stopped: '✕' }

/** In milliseconds: a run that ends sooner is not worth a sign, which costs as much as its output. */
const soon = 300

export interface Headline {
  file(name: string): void
  tone(tone: Tone): void
}

/** Keeps the title and the icon of the page. A result is marked only for who has not seen it. */
export function newHeadline(): Headline {
  let file = ''
  let tone: Tone = 'idle'
  let unseen = false
  let timer: ReturnType<typeof setTimeout> | undefined

  function show(): void {
    const sign = tone === 'busy' ? '●' : unseen ? signs[tone] : undefined
    const name = file === '' ? say('title') : say('title_of', { file })
    const href = sign === undefined ? plain : drawn(dots[tone] ?? '')
    const title = sign === undefined ? name : `${sign} ${name}`
    if (document.title !== title) document.title = title
    // The browser makes a new picture each time.
    if (icon !== null && icon.href !== href) icon.href = href
  }

  document.addEventListener('visibilitychange', () => {
    if (document.hidden) return
    unseen = false
    show()
  })
  return {
    file(name) {
      file = name
      show()
    },
    tone(now) {
      unseen = document.hidden && tone === 'busy' && now !== 'busy' && now !== 'idle'
      if (now === 'busy' && tone === 'busy') return
      tone = now
      clearTimeout(timer)
      if (now === 'busy') timer = setTimeout(show, soon)
      else show()
    },
  }
}

function drawn(dot: string): string {
  const svg =
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><rect width="32" height="32" rx="7" fill="#2557d6"/>' +
    '<path d="M9 10.5 14.5 16 9 21.5M17 22h7" fill="none" stroke="#fff" stroke-width="2.8" stroke-linecap="round" stroke-linejoin="round"/>' +
    (dot === '' ? '' : `<circle cx="24" cy="8" r="7" fill="${dot}" stroke="#fff" stroke-width="2"/>`) +
    '</svg>'
  return `data:image/svg+xml,${encodeURIComponent(svg)}`
}
