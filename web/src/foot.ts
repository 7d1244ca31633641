import { bytes } from './measures'
import type { Language } from './messages'
import { page } from './page'
import { say } from './say'

// The page's last line.

export function showSaved(saved: boolean): void {
  page.saved.dataset['state'] = saved ? 'saved' : 'lost'
  page.saved.textContent = say(saved ? 'saved' : 'not_saved')
}

export function showCursor(line: number, column: number): void {
  page.cursor.textContent = say('cursor', { line, column })
}

/** What a program may use. */
export function showLimits({ limits }: Language): void {
  page.limits.textContent = limits.memory === 0 ? '' : `${limits.cpu_time} s, ${bytes(limits.memory)}`
}
