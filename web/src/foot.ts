import { bytes } from './measures'
import type { Language } from './messages'
import { page } from './page'
import { say } from './say'
import { store } from './store'

// The page's last line.

export function showSaved(): void {
  page.saved.dataset['state'] = store.whole ? 'saved' : 'lost'
  page.saved.textContent = say(store.whole ? 'saved' : 'not_saved')
}

export function showCursor(line: number, column: number): void {
  page.cursor.textContent = say('cursor', { line, column })
}

/** What a program may use. */
export function showLimits({ limits }: Language): void {
  page.limits.textContent = `${limits.cpu_time} s, ${bytes(limits.memory)}`
}
