// Colours and weights that a program asks for by "select graphic rendition" (ECMA-48: ESC [ … m).

export type Rgb = readonly [number, number, number]

export interface Style {
  readonly fg: Rgb | null
  readonly bg: Rgb | null
  readonly bold: boolean
  readonly faint: boolean
  readonly italic: boolean
  readonly underline: boolean
  readonly strike: boolean
  readonly inverse: boolean
}

export const plain: Style = {
  fg: null, bg: null, bold: false, faint: false, italic: false, underline: false, strike: false, inverse: false,
}

const mostParameters = 32
/** xterm's first sixteen. */
export const named: readonly Rgb[] = [
  [0, 0, 0], [205, 0, 0], [0, 160, 0], [180, 140, 0], [30, 90, 230], [190, 0, 190], [0, 150, 160], [200, 200, 200],
  [127, 127, 127], [255, 60, 60], [0, 200, 0], [230, 200, 0], [90, 130, 255], [240, 60, 240], [0, 210, 220], [255, 255, 255],
]

/** The colour of that number among 256: sixteen named ones, a cube of 216, and 24 greys. */
export function indexed(n: number): Rgb | null {
  if (!Number.isInteger(n) || n < 0 || n > 255) return null
  if (n < 16) return named[n] ?? null
  if (n >= 232) {
    const grey = 8 + 10 * (n - 232)
    return [grey, grey, grey]
  }
  const level = (digit: number) => (digit === 0 ? 0 : 55 + 40 * digit)
  const cube = n - 16
  return [level(Math.floor(cube / 36)), level(Math.floor(cube / 6) % 6), level(cube % 6)]
}

const mostKnown = 5_000
const known = new Map<string, Style>()
const steps = new Map<Style, Map<string, Style>>()

/** As `restyle`. Equal styles are the same object, as long as there are not too many. */
export function styled(style: Style, parameters: string): Style {
  const before = steps.get(style)?.get(parameters)
  if (before !== undefined) return before
  if (known.size === 0 || known.size > mostKnown) {
    known.clear()
    steps.clear()
    known.set(JSON.stringify(plain), plain)
  }
  const next = restyle(style, parameters)
  const name = JSON.stringify(next)
  const found = known.get(name) ?? next
  known.set(name, found)
  const from = steps.get(style) ?? new Map<string, Style>()
  if (from.size < mostKnown) steps.set(style, from.set(parameters, found))
  return found
}

/** The style after `parameters`, which stand between ESC [ and m. What is not known changes nothing. */
export function restyle(style: Style, parameters: string): Style {
  const numbers = parameters.split(/[;:]/, mostParameters).map((each) => (/^\d*$/.test(each) ? Number(each) : -1))
  let next: Style = style
  for (let at = 0; at < numbers.length; at++) {
    const n = numbers[at] ?? -1
    if (n === 38 || n === 48) {
      const [colour, used] = extended(numbers.slice(at + 1))
      at += used
      if (colour !== null) next = { ...next, [n === 38 ? 'fg' : 'bg']: colour }
    } else next = single(next, n)
  }
  return next
}

function single(style: Style, n: number): Style {
  if (n === 0) return plain
  if (n === 1) return { ...style, bold: true }
  if (n === 2) return { ...style, faint: true }
  if (n === 3) return { ...style, italic: true }
  if (n === 4 || n === 21) return { ...style, underline: true }
  if (n === 7) return { ...style, inverse: true }
  if (n === 9) return { ...style, strike: true }
  if (n === 22) return { ...style, bold: false, faint: false }
  if (n === 23) return { ...style, italic: false }
  if (n === 24) return { ...style, underline: false }
  if (n === 27) return { ...style, inverse: false }
  if (n === 29) return { ...style, strike: false }
  if (n === 39) return { ...style, fg: null }
  if (n === 49) return { ...style, bg: null }
  if (n >= 30 && n <= 37) return { ...style, fg: indexed(n - 30) }
  if (n >= 40 && n <= 47) return { ...style, bg: indexed(n - 40) }
  if (n >= 90 && n <= 97) return { ...style, fg: indexed(n - 82) }
  if (n >= 100 && n <= 107) return { ...style, bg: indexed(n - 92) }
  return style
}

/** What follows 38 and 48: `5 n` or `2 r g b`. Also how many numbers it took. */
function extended([way, a, b, c]: number[]): [Rgb | null, number] {
  if (way === 5) return [indexed(a ?? -1), 2]
  if (way !== 2) return [null, 1]
  const rgb: Rgb = [a ?? -1, b ?? -1, c ?? -1]
  return [rgb.every((part) => part >= 0 && part <= 255) ? rgb : null, 4]
}

const linear = Array.from({ length: 256 }, (_, part) => {
  const share = part / 255
  return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4
})

function luminance([r, g, b]: Rgb): number {
  return 0.2126 * (linear[r] ?? 0) + 0.7152 * (linear[g] ?? 0) + 0.0722 * (linear[b] ?? 0)
}

export function contrast(one: Rgb, other: Rgb): number {
  const [dark, light] = [luminance(one), luminance(other)].sort((a, b) => a - b) as [number, number]
  return (light + 0.05) / (dark + 0.05)
}

// 4.5 is what WCAG wants; stderr lies on a tint.
const readable = 5

/** `fg`, or what is nearest to it on the way to black or white and can be read on `bg`. */
export function legible(fg: Rgb, bg: Rgb): Rgb {
  const goal = contrast([0, 0, 0], bg) > contrast([255, 255, 255], bg) ? 0 : 255
  for (let step = 0; step <= 10; step++) {
    const mix = (part: number) => Math.round(part + ((goal - part) * step) / 10)
    const mixed: Rgb = [mix(fg[0]), mix(fg[1]), mix(fg[2])]
    if (contrast(mixed, bg) >= readable) return mixed
  }
  return [goal, goal, goal]
}

export interface Theme {
  text: Rgb
  surface: Rgb
}

/** Those of app.css. */
export const light: Theme = { text: [26, 31, 39], surface: [255, 255, 255] }
export const dark: Theme = { text: [228, 232, 238], surface: [20, 24, 30] }

/** The colours in which to show it; null where those of the page do. */
export function colours(style: Style, theme: Theme): { fg: Rgb | null; bg: Rgb | null } {
  let { fg, bg } = style
  if (style.inverse) [fg, bg] = [bg ?? theme.surface, fg ?? theme.text]
  if (fg === null && bg === null) return { fg, bg }
  return { fg: legible(fg ?? theme.text, bg ?? theme.surface), bg }
}
