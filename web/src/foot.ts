import { setState, setText } from './elements'
import { bytes } from './measures'
import type { Language, Limits } from './messages'
import { page } from './page'
import { say } from './say'
import type { Workspace } from './workspace'

// The page's last line.

/** Whether what was written is kept. While it is contested, the other tab's is. */
export function showSaved({ contested, unkept }: Workspace): void {
  setState(page.saved, contested || unkept ? 'lost' : 'saved')
  setText(page.saved, sayKept({ contested, unkept }))
}

export const sayKept = ({ contested, unkept }: Pick<Workspace, 'contested' | 'unkept'>): string =>
  say(contested ? 'saved_contested' : unkept ? 'not_saved' : 'saved')

const noteMs = 5_000
let note: ReturnType<typeof setTimeout> | undefined

/** Says something for a moment. */
export function showNote(text: string): void {
  clearTimeout(note)
  page.note.textContent = text
  note = setTimeout(() => (page.note.textContent = ''), noteMs)
}

export function showCursor(line: number, column: number): void {
  page.cursor.textContent = say('cursor', { line, column })
}

/** What a program may use. */
export function showLimits({ limits }: Language, chosen: Partial<Limits>): void {
  const { cpu_time, memory } = { ...limits, ...chosen }
  page.limits.textContent = limits.memory === 0 ? '' : `${cpu_time} s, ${bytes(memory)}`
}
