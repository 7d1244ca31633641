import type { Language } from './messages'

// What an address asks for: `?language=rust&source=…&stdin=…&args=…`, or the same behind a `#`, which no server is
// sent and no server's bound cuts.

export interface Link {
  language: string | null
  source: string | null
  stdin: string | null
  /** Written as in Options. */
  args: string | null
}

/** Of each part, in characters. */
export const mostOfLink = 200_000

/** Null when the address asks for nothing, and the name of the part that is too long. */
export function readLink({ search, hash }: Pick<Location, 'search' | 'hash'>): Link | keyof Link | null {
  const link: Link = { language: null, source: null, stdin: null, args: null }
  let asks = false
  for (const text of [search, hash]) {
    const given = new URLSearchParams(text.slice(1))
    for (const name of Object.keys(link) as (keyof Link)[]) {
      const value = given.get(name)
      if (value === null) continue
      if (value.length > mostOfLink) return name
      link[name] = value.replace(/\r\n?/g, '\n')
      asks = true
    }
  }
  return asks ? link : null
}

/** By its id, its name or an alias, in upper or lower case. */
export function linked(name: string, languages: readonly Language[]): Language | undefined {
  const wanted = name.toLowerCase()
  return languages.find((language) => [language.id, language.name, ...language.aliases].some((each) => each.toLowerCase() === wanted))
}
