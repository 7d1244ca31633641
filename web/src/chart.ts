import { say } from './say'

// A line over time, drawn with what a browser has. The page's policy takes no styles in attributes, and this needs none.

const svg = 'http://www.w3.org/2000/svg'
const width = 240
const height = 60

export interface Line {
  /** In seconds since 1970, rising. */
  at: number[]
  /** Null where nothing is known. */
  values: (number | null)[]
  /** What there is of it, such as slots. */
  all?: number[]
}

export interface Chart {
  element: HTMLElement
  /** `secondsShown` is the width of the chart. */
  draw(line: Line, secondsShown: number): void
}

export function newChart(name: string): Chart {
  const element = document.createElement('figure')
  const caption = document.createElement('figcaption')
  const title = document.createElement('span')
  const now = document.createElement('strong')
  const most = document.createElement('span')
  title.textContent = name
  caption.append(title, now, most)
  const picture = document.createElementNS(svg, 'svg')
  picture.setAttribute('viewBox', `0 -2 ${width} ${height + 4}`)
  picture.setAttribute('preserveAspectRatio', 'none')
  picture.setAttribute('role', 'img')
  const [area, all, line] = ['area', 'all', 'line'].map((kind) => {
    const path = document.createElementNS(svg, 'path')
    path.setAttribute('class', kind)
    path.setAttribute('vector-effect', 'non-scaling-stroke')
    picture.append(path)
    return path
  }) as [SVGPathElement, SVGPathElement, SVGPathElement]
  element.append(caption, picture)

  return {
    element,
    draw(told, secondsShown) {
      const known = told.values.filter((value) => value !== null)
      const top = Math.max(1, ...known, ...(told.all ?? []))
      const end = told.at.at(-1) ?? 0
      const x = (n: number) => rounded(width - ((end - (told.at[n] ?? end)) / secondsShown) * width)
      const y = (value: number) => rounded(height - (value / top) * height)
      const drawn = pieces(told.values)
      line.setAttribute('d', drawn.map((piece) => path(piece.map(([n, value]) => [x(n), y(value)]))).join(''))
      area.setAttribute('d', drawn.map((piece) => `${path(piece.map(([n, value]) => [x(n), y(value)]))}L${x(piece.at(-1)?.[0] ?? 0)} ${height}L${x(piece[0]?.[0] ?? 0)} ${height}Z`).join(''))
      all.setAttribute('d', told.all === undefined ? '' : path(told.all.map((value, n) => [x(n), y(value)])))
      const values = { name, now: shown(told.values.at(-1) ?? null), most: shown(known.length === 0 ? null : Math.max(...known)) }
      now.textContent = say('overview_chart_now', values)
      most.textContent = say('overview_chart_most', values)
      picture.setAttribute('aria-label', say('overview_chart_told', values))
    },
  }
}

const rounded = (n: number) => Math.round(n * 10) / 10

const shown = (value: number | null) => (value === null ? say('overview_unknown') : String(Math.round(value)))

const path = (points: [number, number][]) => points.map(([x, y], n) => `${n === 0 ? 'M' : 'L'}${x} ${y}`).join('')

/** What is known without a gap: number and value. */
function pieces(values: (number | null)[]): [number, number][][] {
  const found: [number, number][][] = [[]]
  for (const [n, value] of values.entries()) {
    if (value === null) found.push([])
    else found.at(-1)?.push([n, value])
  }
  return found.filter((piece) => piece.length > 0)
}
