import type { Style } from './sgr'

/** A line beyond this is not written over any more: as in a terminal, where it would have been wrapped. */
export const longestLine = 2_000

export interface Run {
  text: string
  look: Style
}

/** The line that is being written, which a program may write over. */
export interface Line {
  readonly length: number
  readonly atEnd: boolean
  /** Text without line ends, at the cursor. */
  write(text: string, look: Style): void
  /** `\r` */
  start(): void
  /** `\b` */
  back(): void
  /** ESC [ K: 0 to the end, 1 from the start, 2 all of it. True when nothing has changed. */
  erase(how: number, look: Style): boolean
  runs(): Run[]
  text(): string
}

export function newLine(): Line {
  // One for each character, so that writing over costs no more than writing.
  const chars: string[] = []
  const looks: Style[] = []
  let column = 0

  return {
    get length() {
      return chars.length
    },
    get atEnd() {
      return column === chars.length
    },
    write(text, look) {
      for (const char of text) {
        chars[column] = char
        looks[column] = look
        column++
      }
    },
    start() {
      column = 0
    },
    back() {
      column = Math.max(0, column - 1)
    },
    erase(how, look) {
      if (chars.length === 0) return true
      if (how === 0) {
        if (column === chars.length) return true
        chars.length = looks.length = column
      } else {
        const end = how === 1 ? Math.min(column + 1, chars.length) : column
        for (let at = 0; at < end; at++) {
          chars[at] = ' '
          looks[at] = look
        }
        if (how === 2) chars.length = looks.length = column
      }
      return false
    },
    runs() {
      const runs: Run[] = []
      chars.forEach((char, at) => {
        const look = looks[at] as Style
        const last = runs[runs.length - 1]
        if (last !== undefined && last.look === look) last.text += char
        else runs.push({ text: char, look })
      })
      return runs
    },
    text: () => chars.join(''),
  }
}
