import { page } from './page'
import { say } from './say'

/** The connection, in words. */
export function showStatus(connected: boolean): void {
  page.status.textContent = say(connected ? 'connected' : 'reconnecting')
  page.status.dataset['state'] = connected ? 'up' : 'down'
}

/** Something that concerns the whole page; an empty text takes it away. */
export function showBanner(text: string): void {
  if (page.banner.textContent !== text) page.banner.textContent = text
  page.banner.hidden = text === ''
}
