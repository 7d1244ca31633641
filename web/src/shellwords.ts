// What a person writes as arguments becomes words as in a shell, but nothing is expanded: `$`, `*` and `~` are
// letters. The program gets exactly these words.

export interface Split {
  words: string[]
  /** What was opened and not closed: then the words are not what was meant. */
  open: Open | null
}

export type Open = "'" | '"' | '\\'

const blank = /\s/
/** Between double quotes a backslash is a letter, unless it stands before one of these. */
const special = '"\\$`'

export function split(text: string): Split {
  const words: string[] = []
  let word: string | null = null
  let quote: "'" | '"' | null = null
  for (let at = 0; at < text.length; at += 1) {
    const letter = text.charAt(at)
    if (letter === '\\' && quote !== "'") {
      const next = text.charAt(at + 1)
      if (next === '') return { words, open: quote ?? '\\' }
      at += 1
      if (next === '\n') continue
      word = `${word ?? ''}${quote === '"' && !special.includes(next) ? '\\' : ''}${next}`
    } else if (quote !== null) {
      if (letter === quote) quote = null
      else word = `${word ?? ''}${letter}`
    } else if (letter === "'" || letter === '"') {
      quote = letter
      word ??= ''
    } else if (blank.test(letter)) {
      if (word !== null) words.push(word)
      word = null
    } else {
      word = `${word ?? ''}${letter}`
    }
  }
  if (word !== null && quote === null) words.push(word)
  return { words, open: quote }
}

/** The word as it has to be written. */
export function quoted(word: string): string {
  if (/^[\p{L}\p{N}\-+=:,./@%_]+$/u.test(word)) return word
  return `'${word.replaceAll("'", `'\\''`)}'`
}
