import { setState, setText } from './elements'
import { page } from './page'
import { say } from './say'

/** `mute`: there is a connection, but the one before it carried nothing, and nothing has come over this one yet. */
type Connection = 'up' | 'mute' | 'down'

const words = { up: 'connected', mute: 'no_answer', down: 'reconnecting' } as const

/** The connection, in words. */
export function showStatus(connection: Connection): void {
  setText(page.status, say(words[connection]))
  setState(page.status, connection)
}

/** Something that concerns the whole page; an empty text takes it away. */
export function showBanner(text: string): void {
  if (page.banner.textContent !== text) page.banner.textContent = text
  page.banner.hidden = text === ''
}
