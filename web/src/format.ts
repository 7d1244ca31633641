import { chunk } from './chunk'
import type { Edit } from './edits'
import type { Language } from './messages'
import { say } from './say'

/** A file that is to be put in order. */
export interface Messy {
  language: Language
  version: string | undefined
  name: string
  text: string
  /** Whether the file is still shown, with this text. */
  same(): boolean
  change(edits: Edit[]): void
  /** The formatter cannot read the text, and says at which line; or it can. */
  complain(told: { line: number; text: string } | null): void
}

/** Puts it in order. What is said is good or bad; what somebody wrote meanwhile stays. */
export async function format(messy: Messy, tell: (text: string, well: boolean) => void): Promise<void> {
  const { language, version, name, text } = messy
  if (!language.format) return tell(say('format_none', { language: language.name }), false)
  tell(say('formatting'), true)
  const loaded = await chunk(import('./formatting')).catch(() => null)
  if (loaded === null) return tell(say('format_away'), false)
  const found = await loaded.formatted({
    language: language.id,
    ...(version === undefined ? {} : { version }),
    files: [{ name, content: text }],
    stdin: '',
  })
  if (messy.same()) messy.complain('why' in found ? (found.told ?? null) : null)
  if ('why' in found) return tell(found.why, false)
  if (!messy.same()) return tell(say('format_edited'), false)
  const edits = loaded.edits(text, found.text)
  messy.change(edits)
  tell(say(edits.length === 0 ? 'format_same' : 'formatted'), true)
}
