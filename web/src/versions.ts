import { say } from './say'
import type { Store } from './store'

const most = 10
/** Of all versions of one program: storage holds about five million characters, for all languages. */
const mostChars = 150_000

export interface Version {
  time: number
  text: string
}

/** The last texts of one program, newest first. */
export interface Versions {
  list(): Version[]
  keep(text: string): void
}

export function newVersions(store: Store, key: string, starter: string, now = Date.now): Versions {
  function list(): Version[] {
    try {
      const kept: unknown = JSON.parse(store.get(key) ?? '[]')
      return Array.isArray(kept) ? kept.filter(isVersion).slice(0, most) : []
    } catch {
      return []
    }
  }

  return {
    list,
    keep(text) {
      if (text.trim() === '' || text === starter) return
      const versions = [{ time: now(), text }, ...list().filter((version) => version.text !== text)].slice(0, most)
      let room = mostChars
      const fitting = versions.filter((version) => (room -= version.text.length) >= 0)
      store.set(key, JSON.stringify(fitting))
    },
  }
}

/** For a text whose versions are not kept. */
export const noVersions: Versions = { list: () => [], keep: () => undefined }

function isVersion(value: unknown): value is Version {
  const { time, text } = (value ?? {}) as Partial<Version>
  return typeof time === 'number' && typeof text === 'string'
}

/** What tells a version from the others: when, how long, and how it begins. */
export function label({ time, text }: Version, now: number): string {
  const lines = text.split('\n')
  const first = lines.map((line) => line.trim()).find((line) => line !== '') ?? ''
  const size = say('lines', { n: lines.length })
  return say('version_label', { ago: ago(now - time), lines: size, first: first.length > 60 ? `${first.slice(0, 59)}…` : first })
}

function ago(ms: number): string {
  const minutes = Math.floor(ms / 60_000)
  if (minutes < 1) return say('just_now')
  if (minutes < 60) return say('minutes_ago', { n: minutes })
  const hours = Math.floor(minutes / 60)
  if (hours < 48) return say('hours_ago', { n: hours })
  return say('days_ago', { n: Math.floor(hours / 24) })
}
