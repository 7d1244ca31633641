import { bytes } from './measures'
import { sizeOf } from './program'
import type { Program } from './program'
import { say } from './say'
import type { Store } from './store'

const most = 10
/** Of all versions of one program but the newest, which is always kept: storage holds about five million
 * characters, for all languages. */
const mostChars = 150_000
/** A longer version is there until the page is closed. */
const mostKept = 1_000_000
const mostLong = 3

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
  let long: Version[] = []

  function kept(): Version[] {
    try {
      const versions: unknown = JSON.parse(store.get(key) ?? '[]')
      return Array.isArray(versions) ? versions.filter(isVersion).slice(0, most) : []
    } catch {
      return []
    }
  }

  return {
    list: () => [...long, ...kept()].sort((a, b) => b.time - a.time),
    keep(text) {
      if (!/\S/.test(text) || text === starter) return
      const before = (others: Version[]) => [{ time: now(), text }, ...others.filter((version) => version.text !== text)]
      if (text.length > mostKept) {
        long = before(long).slice(0, mostLong)
        return
      }
      const versions = before(kept()).slice(0, most)
      let room = mostChars
      const fitting = versions.filter((version, at) => at === 0 || (room -= version.text.length) >= 0)
      store.set(key, JSON.stringify(fitting))
    },
  }
}

function isVersion(value: unknown): value is Version {
  const { time, text } = (value ?? {}) as Partial<Version>
  return typeof time === 'number' && typeof text === 'string'
}

/** What tells a version from the others: when, how long, and how it begins. */
export function label(time: number, { files, stdin }: Program, now: number): string {
  const texts = files.map(({ content }) => content).filter((content) => typeof content === 'string')
  const lines = texts.flatMap((text) => text.split('\n'))
  const first = lines.map((line) => line.trim()).find((line) => line !== '') ?? ''
  const size = files.length > 1 ? say('n_files', { n: files.length }) : lines.length > 0 ? say('lines', { n: lines.length }) : bytes(sizeOf(files))
  return say('version_label', {
    ago: ago(now - time),
    lines: stdin === null || stdin === '' ? size : say('with_input', { size }),
    first: first.length > 60 ? `${first.slice(0, 59)}…` : first,
  })
}

function ago(ms: number): string {
  const minutes = Math.floor(ms / 60_000)
  if (minutes < 1) return say('just_now')
  if (minutes < 60) return say('minutes_ago', { n: minutes })
  const hours = Math.floor(minutes / 60)
  if (hours < 48) return say('hours_ago', { n: hours })
  return say('days_ago', { n: Math.floor(hours / 24) })
}
