import { fromBase64 } from './content'
import type { Data } from './messages'

// ESC followed by a control sequence, an operating system command, another string, or one character.
const escapes =
  /\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[PX^_][^\x1b]*\x1b\\|[ -/]+[0-~]|[0-OQ-WYZ\\`-~])/g
// The same, begun and not ended: its rest may come with the next piece.
const unfinished = /\x1b(?:\[[0-?]*[ -/]*|\][^\x07\x1b]*\x1b?|[PX^_][^\x1b]*\x1b?|[ -/]*)$/
// A longer one is shown as it is, so that an escape never ended cannot swallow the output.
const longestEscape = 4096
/** Accents on one character: a browser's layout takes the square of their number. What is shown has no more. */
export const mostMarks = 32
export const tooManyMarks = /(\p{M}{32})\p{M}+/gu

export interface Reader {
  read(data: Data): string
  /** What was held back, when nothing more will come. */
  end(): string
}

// Those that the output acts on (colours, and taking a line's rest away) stay in the text, if they are short.
const kept = /^\x1b\[[0-?]{0,60}[mK]$/
const filter = (text: string) => text.replace(escapes, (escape) => (kept.test(escape) ? escape : ''))

/** One stream's pieces as text, escapes and all: bytes decoded over the seams. */
export function newDecoder(): Reader {
  const decoder = new TextDecoder('utf-8', { ignoreBOM: true })
  return {
    read(data) {
      // A string is whole characters: bytes still waiting for their rest will not get it.
      if (typeof data === 'string') return decoder.decode() + data
      return decoder.decode(fromBase64(data.base64), { stream: true })
    },
    end: () => decoder.decode(),
  }
}

/** One stream's pieces as text that can be shown: most escapes left out. */
export function newReader(): Reader {
  const decoder = newDecoder()
  let held = ''

  function strip(text: string): string {
    if (!text.includes('\x1b')) return text
    const tail = text.slice(-longestEscape).match(unfinished)
    if (tail !== null) {
      held = tail[0]
      text = text.slice(0, -held.length)
    }
    return filter(text)
  }

  return {
    read(data) {
      const text = held + decoder.read(data)
      held = ''
      return strip(text)
    },
    end() {
      const rest = held + decoder.end()
      held = ''
      return filter(rest)
    },
  }
}

/** What a terminal was sent, as far as it is text: without colours, and each line as it was written over last. */
export function plainText(sent: string): string {
  const lines = filter(sent).replace(/\x1b\[[0-?]*[mK]|\x07/g, '').split('\n')
  return lines.map(writtenOver).join('\n')
}

/** Not by a regular expression for its end: in some browsers that takes the square of the number of `\r`. */
function writtenOver(line: string): string {
  let end = line.length
  while (line[end - 1] === '\r') end--
  return line.slice(line.lastIndexOf('\r', end - 1) + 1, end)
}
