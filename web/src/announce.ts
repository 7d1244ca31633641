import { say } from './say'
import { visible } from './visible'

/** In milliseconds: a run that ends sooner is heard of once, at its end. */
const silence = 1_000
const again = 30_000
/** In characters. */
export const mostCounted = 1_000_000

/** What a screen reader says of a run. */
export interface Announcer {
  /** The run is at something, in words. */
  busy(what: string): void
  /** The run is over. `text` is what it wrote, or null where that is more than `mostCounted`. */
  ended(headline: string, line: string, text: string | null): void
  /** It is nothing that is waited for. */
  idle(): void
  /** Something that is said at once. */
  say(what: string): void
}

export function newAnnouncer(region: HTMLElement): Announcer {
  let timer: ReturnType<typeof setTimeout> | undefined
  let doing = ''
  let told = ''

  function tell(words: string): void {
    const what = visible(words)
    // The same words again are words, too: a region that does not change is not read.
    region.textContent = region.textContent === what ? `${what}\u00a0` : what
  }

  function begin(pause: number): void {
    timer = setTimeout(() => {
      tell(doing === told ? say('still', { doing }) : doing)
      told = doing
      begin(again)
    }, pause)
  }

  function idle(): void {
    clearTimeout(timer)
    timer = undefined
  }

  return {
    busy(what) {
      const before = doing
      doing = what.replace(/…$/, '')
      // States that follow each other at once are not all said.
      if (timer !== undefined && (told === '' || doing === before)) return
      clearTimeout(timer)
      told = ''
      begin(silence)
    },
    ended(headline, line, text) {
      idle()
      tell([`${headline}.`, line.replace(/[^.?!]$/, '$&.'), ...spoken(text)].filter(Boolean).join(' '))
    },
    idle,
    say: tell,
  }
}

const longest = 200

function spoken(text: string | null): string[] {
  if (text === null) return [say('much_written')]
  const written = text.trimEnd()
  if (written === '') return []
  const lines = written.split('\n')
  return [say('lines_written', { n: lines.length }), (lines.pop() ?? '').trim().slice(0, longest)]
}
