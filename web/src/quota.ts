import { bytes, seconds } from './measures'
import type { Quota } from './messages'
import { say } from './say'
import type { Phrase } from './say'

interface Kind {
  label: Phrase
  used: Phrase
  figure(n: number): string
}

const time = (s: number) => (s <= 0 ? '0 s' : seconds(s))

const kinds: Record<string, Kind> = {
  unfinished: { label: 'left_unfinished', used: 'quota_unfinished', figure: String },
  runs_per_minute: { label: 'left_runs', used: 'quota_runs', figure: (n) => String(Math.floor(n)) },
  cpu_seconds_per_hour: { label: 'left_cpu_hour', used: 'quota_cpu_hour', figure: time },
  cpu_seconds_per_day: { label: 'left_cpu_day', used: 'quota_cpu_day', figure: time },
  stored_bytes: { label: 'left_stored', used: 'quota_stored', figure: bytes },
}

/** In milliseconds: what frees later is told by the clock. */
const near = 90_000
const day = 24 * 3_600_000

/** What is left of a quota; null for one that this page does not know. */
export function leftOf(name: string, { left, limit }: Quota): { label: string; left: string } | null {
  const kind = kinds[name]
  if (kind === undefined) return null
  // Processor time may be owed.
  return { label: say(kind.label), left: say('left_of', { left: kind.figure(Math.max(0, left)), limit: kind.figure(limit) }) }
}

/** Why a program was not taken, and when the next one will be. */
export function usedUp({ name, limit, frees_at }: Quota & { name: string }, now: number): string {
  const kind = kinds[name]
  const why = kind === undefined ? '' : say(kind.used, { limit: kind.figure(limit), n: limit })
  return `${why} ${name === 'unfinished' ? '' : whenFree(frees_at, now)}`.trim()
}

function whenFree(freesAt: string | null, now: number): string {
  const at = freesAt === null ? Number.NaN : Date.parse(freesAt)
  if (Number.isNaN(at)) return say('again')
  if (at - now < near) return say('again_in', { n: Math.max(1, Math.ceil((at - now) / 1000)) })
  const clock: Intl.DateTimeFormatOptions = { hour: '2-digit', minute: '2-digit', hourCycle: 'h23' }
  const shown = new Date(at).toLocaleString('en', at - now < day ? clock : { ...clock, weekday: 'long' })
  return say('again_at', { time: shown })
}
