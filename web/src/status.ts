import { page } from './page'

/** The connection, in words. */
export function showStatus(connected: boolean): void {
  page.status.textContent = connected ? 'Connected' : 'Reconnecting…'
  page.status.dataset['state'] = connected ? 'up' : 'down'
}

/** Something that concerns the whole page; an empty text takes it away. */
export function showBanner(text: string): void {
  if (page.banner.textContent !== text) page.banner.textContent = text
  page.banner.hidden = text === ''
}
