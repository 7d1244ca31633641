import type { Data, StageName, Stream } from './messages'
import { newKept } from './kept'
import { looked } from './problems'
import { newDecoder, newReader, plainText } from './text'
import type { Reader } from './text'

/** What tells of problems: the beginning of what a compiler wrote, and the end of what a program wrote. */
export interface Said {
  add(stage: StageName, stream: Stream, data: Data): void
  text(stage: StageName): string
}

export function newSaid(): Said {
  const readers: Partial<Record<string, Reader>> = {}
  let compiler = ''
  const run = newKept(looked.run)

  return {
    add(stage, stream, data) {
      if (stage === 'compile' && compiler.length >= looked.compile) return
      const reader = (readers[stage + stream] ??= stage === 'run' ? newDecoder() : newReader())
      const text = reader.read(data)
      if (stage === 'compile') compiler += text
      else run.add(text)
    },
    text: (stage) => (stage === 'compile' ? plainText(compiler) : plainText(run.end(looked.run))),
  }
}
