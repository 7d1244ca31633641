/** Text that a program writes: all of it, or its end where that is too much to keep. */
export interface Kept {
  add(text: string): void
  text(): string
  /** The last characters, at most so many. */
  end(chars: number): string
  clear(): void
  /** Of all that was ever added, in characters. */
  readonly length: number
  /** Its beginning is gone. */
  readonly cut: boolean
}

/** Small pieces become one, so that there are few. */
const together = 4_096

/** Keeps the last `most` characters, and up to a piece more. */
export function newKept(most: number): Kept {
  const pieces: string[] = []
  let length = 0
  let kept = 0

  return {
    add(text) {
      const last = pieces.length - 1
      if (last >= 0 && (pieces[last] as string).length < together) pieces[last] += text
      else pieces.push(text)
      length += text.length
      kept += text.length
      while (pieces[0] !== undefined && kept - pieces[0].length >= most) kept -= (pieces.shift() as string).length
    },
    text: () => pieces.join(''),
    end(chars) {
      let from = pieces.length
      let found = 0
      while (from > 0 && found < chars) found += (pieces[--from] as string).length
      return pieces.slice(from).join('').slice(-chars)
    },
    clear() {
      pieces.length = length = kept = 0
    },
    get length() {
      return length
    },
    get cut() {
      return kept < length
    },
  }
}
