import type { Data, Stream } from './messages'
import { newReader } from './text'
import type { Reader } from './text'

// Text goes into blocks of limited size: the browser lays out only the blocks in sight, and a
// growing one is never large. That keeps both a million short lines and one endless line fluid.
const blockRoom: Room = { chars: 16_384, most: 32_768, lines: 200 }
const frameChars = 64 * 1024
const shownBlocks = 4_000

type Kind = Stream | 'stdin'
interface Piece {
  kind: Kind
  text: string
}

export interface Output {
  write(stream: Stream, data: Data): void
  /** Shows what the user typed where the program reads it. */
  echo(text: string): void
  /** No more will come: what waits for its rest is shown as it is. */
  end(): void
  clear(): void
  text(): string
}

export interface Room {
  chars: number
  /** For a line that began in time. */
  most: number
  lines: number
}

/** How much of `text` goes into a block with this room: whole lines, unless one has no end. */
export function fitting(text: string, room: Room): number {
  let end = 0
  for (let line = 0; line < room.lines; line++) {
    const newline = text.indexOf('\n', end)
    const lineEnd = newline === -1 ? text.length : newline + 1
    if (lineEnd > room.chars) {
      if (end > 0) return end
      return lineEnd <= room.most ? lineEnd : wholeCharacter(text, room.most)
    }
    end = lineEnd
    if (newline === -1) break
  }
  return end
}

function wholeCharacter(text: string, at: number): number {
  const before = text.charCodeAt(at - 1)
  return before >= 0xd800 && before < 0xdc00 ? at + 1 : at
}

/** Adds to the last piece if it is of the same kind, so that many small writes cost one node. */
export function queue(pieces: Piece[], kind: Kind, text: string): void {
  const last = pieces[pieces.length - 1]
  if (last?.kind === kind) last.text += text
  else pieces.push({ kind, text })
}

/** Takes up to `chars` characters off the front. */
export function take(pieces: Piece[], chars: number): Piece[] {
  const taken: Piece[] = []
  while (chars > 0 && pieces[0] !== undefined) {
    const piece = pieces[0]
    if (piece.text.length > chars) {
      const at = wholeCharacter(piece.text, chars)
      taken.push({ kind: piece.kind, text: piece.text.slice(0, at) })
      piece.text = piece.text.slice(at)
      break
    }
    taken.push(piece)
    pieces.shift()
    chars -= piece.text.length
  }
  return taken
}

export function newOutput(pane: HTMLElement, changed: (empty: boolean) => void): Output {
  const blocks = document.createElement('div')
  let readers: Record<Stream, Reader>
  let pending: Piece[]
  let all: string[]
  let block: HTMLElement | null
  let blockStream: Stream
  let room: Room
  let midLine: boolean
  let frame = 0
  let pinned = true
  let lastTop = 0

  function reset(): void {
    readers = { stdout: newReader(), stderr: newReader() }
    pending = []
    all = []
    block = null
    blockStream = 'stdout'
    midLine = false
    pinned = true
  }

  function schedule(): void {
    if (frame === 0) frame = requestAnimationFrame(flush)
  }

  function flush(): void {
    frame = 0
    for (const { kind, text } of take(pending, frameChars)) append(kind, text)
    while (blocks.childElementCount > shownBlocks) {
      blocks.firstElementChild?.remove()
      pane.classList.add('cut')
    }
    if (pinned) pane.scrollTop = pane.scrollHeight
    if (pending.length > 0) schedule()
  }

  function append(kind: Kind, text: string): void {
    // What is typed belongs into the line that asked for it.
    const stream = kind === 'stdin' ? 'stdout' : kind
    while (text !== '') {
      if (block === null || blockStream !== stream || full()) open(stream)
      const end = fitting(text, room)
      const part = text.slice(0, end)
      text = text.slice(end)
      put(kind, part)
      room.chars -= part.length
      room.most -= part.length
      room.lines -= count(part)
      estimate(block, room)
      midLine = !part.endsWith('\n')
      // What is left did not fit.
      if (text !== '') room.lines = 0
    }
  }

  function full(): boolean {
    return room.lines <= 0 || room.most <= 0 || (room.chars <= 0 && !midLine)
  }

  function open(stream: Stream): void {
    const continued = block !== null && blockStream === stream
    block = document.createElement('div')
    block.className = stream
    if (stream === 'stderr') {
      block.setAttribute('role', 'group')
      block.setAttribute('aria-label', 'stderr')
      if (!continued) block.dataset['label'] = 'stderr'
    }
    blockStream = stream
    room = { ...blockRoom }
    blocks.append(block)
  }

  function put(kind: Kind, text: string): void {
    if (kind !== 'stdin') return block?.append(text)
    const typed = document.createElement('span')
    typed.className = 'stdin'
    typed.textContent = text
    block?.append(typed)
  }

  function write(kind: Kind, text: string): void {
    if (text === '') return
    if (all.length === 0) changed(false)
    all.push(text)
    queue(pending, kind, text)
    schedule()
  }

  // Blocks get their true height only when they come into sight.
  const observer = new ResizeObserver(() => {
    if (pinned) pane.scrollTop = pane.scrollHeight
  })
  observer.observe(pane)
  observer.observe(blocks)

  pane.addEventListener('scroll', () => {
    const atEnd = pane.scrollHeight - pane.scrollTop - pane.clientHeight < 32
    if (atEnd) pinned = true
    else if (pane.scrollTop < lastTop) pinned = false
    lastTop = pane.scrollTop
  })

  // Blocks are ours, not the program's: they must not become line breaks in what is copied.
  pane.addEventListener('copy', (copy) => {
    const selection = getSelection()
    if (selection === null || selection.isCollapsed || copy.clipboardData === null) return
    const parts = Array.from({ length: selection.rangeCount }, (_, i) => selection.getRangeAt(i).cloneContents())
    copy.clipboardData.setData('text/plain', parts.map((part) => part.textContent).join(''))
    copy.preventDefault()
  })

  pane.append(blocks)
  reset()
  return {
    write: (stream, data) => write(stream, readers[stream].read(data)),
    echo: (text) => write('stdin', text),
    end() {
      write('stdout', readers.stdout.end())
      write('stderr', readers.stderr.end())
    },
    clear() {
      cancelAnimationFrame(frame)
      frame = 0
      blocks.replaceChildren()
      pane.classList.remove('cut')
      reset()
      changed(true)
    },
    text: () => all.join(''),
  }
}

/** What the block will measure, for the scrollbar and for the browser to know that it is out of sight. */
function estimate(block: HTMLElement | null, room: Room): void {
  const lines = Math.max(blockRoom.lines - room.lines, (blockRoom.most - room.most) / 80, 1)
  block?.style.setProperty('contain-intrinsic-height', `auto ${Math.ceil(lines)}lh`)
}

function count(text: string): number {
  let lines = 0
  for (let at = text.indexOf('\n'); at !== -1; at = text.indexOf('\n', at + 1)) lines++
  return lines
}
