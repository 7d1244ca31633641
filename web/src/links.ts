import type { Sources } from './problems'

/** A place in a file as a compiler names it. */
export interface Named {
  file: string
  line: number
  col: number | null
}

/** Makes links of the places that a compiler's text names. */
export interface Links {
  /** The files that are meant. */
  of(sources: Sources): void
  /** The text with links, or null when it names no place. */
  linked(text: string): HTMLElement | null
}

const mostNames = 200
const mostLinks = 300

export function newLinks(go: (place: Named) => void): Links {
  let main = ''
  let places: RegExp | null = null
  let left = 0

  function link(text: string, place: Named): HTMLElement {
    const a = document.createElement('a')
    a.href = '#editor'
    a.textContent = text
    a.addEventListener('click', (click) => {
      click.preventDefault()
      go(place)
    })
    return a
  }

  return {
    of(sources) {
      ;({ main } = sources)
      left = mostLinks
      const names = [...sources.files.keys()].slice(0, mostNames).sort((a, b) => b.length - a.length)
      const own = names.map((name) => name.replace(/[^\w/]/g, '\\$&'))
      // The server may have named the main file after its text.
      if (sources.renamed) own.push(`\\w+${/\.\w+$/.exec(main)?.[0].replace('.', '\\.') ?? ''}`)
      places = new RegExp(`(?<![\\w./-])(?:\\./|/box/)?(${own.join('|')})(?::(\\d+)(?::(\\d+))?|\\((\\d+), ?(\\d+)\\))`, 'g')
    },
    linked(text) {
      if (places === null || left <= 0) return null
      const parts: (Node | string)[] = []
      let from = 0
      for (const match of text.matchAll(places)) {
        if (left-- <= 0) break
        const [whole, name = '', line = match[4], col = match[5] ?? null] = match
        const place = { file: name, line: Number(line), col: col === null ? null : Number(col) }
        parts.push(text.slice(from, match.index), link(whole, place))
        from = match.index + whole.length
      }
      if (parts.length === 0) return null
      const span = document.createElement('span')
      span.append(...parts, text.slice(from))
      return span
    },
  }
}
