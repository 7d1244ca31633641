import type { Data, StageName, Stream } from './messages'
import { looked } from './problems'
import { newDecoder, newReader, plainText } from './text'
import type { Reader } from './text'

/** What tells of problems: the beginning of what a compiler wrote, and the end of a program's stderr or terminal. */
export interface Said {
  add(stage: StageName, stream: Stream, data: Data): void
  text(stage: StageName): string
}

/** Small pieces become one, so that there are few. */
const together = 4_096

export function newSaid(): Said {
  const readers: Partial<Record<string, Reader>> = {}
  let compiler = ''
  const pieces: string[] = []
  let length = 0

  return {
    add(stage, stream, data) {
      if (stage === 'run' ? stream === 'stdout' : compiler.length >= looked.compile) return
      const reader = (readers[stage + stream] ??= stage === 'run' ? newDecoder() : newReader())
      const text = reader.read(data)
      if (stage === 'compile') {
        compiler += text
        return
      }
      const last = pieces.length - 1
      if (last >= 0 && (pieces[last] as string).length < together) pieces[last] += text
      else pieces.push(text)
      length += text.length
      // What is looked at lies in the last pieces.
      while (pieces[0] !== undefined && length - pieces[0].length >= looked.run) length -= (pieces.shift() as string).length
    },
    text: (stage) => (stage === 'compile' ? plainText(compiler) : plainText(pieces.join('').slice(-looked.run))),
  }
}
