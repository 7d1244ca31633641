import { newKept } from './kept'
import { longestLine, newLine } from './line'
import type { Line } from './line'
import type { Data } from './messages'
import { say } from './say'
import { colours, dark, light, plain, styled } from './sgr'
import type { Style } from './sgr'
import { mostMarks, newReader, tooManyMarks } from './text'
import type { Reader } from './text'

// Text goes into blocks of limited size: the browser lays out only the blocks in sight, and a
// growing one is never large. That keeps both a million short lines and one endless line fluid.
const blockRoom: Room = { chars: 16_384, most: 32_768, lines: 200 }
const frameSlices = 32
const sliceChars = 2 * 1024
/** The browser's own work for them is what takes long. */
const frameSpans = 500
/** What takes longer goes on in the next frame: keys and clicks come in between. */
const frameMs = 12
/** In milliseconds: what comes after a pause is shown at once. */
const pause = 50
/** 50,000 lines: for each block there is, in sight or not, a browser has work in each frame. */
const shownBlocks = 250
/** A program that colours each letter must not make a million elements: the rest goes without. */
const mostSpans = 10_000
const mostBlockSpans = 500
/** In characters: more than a program may write unless its limit was raised. */
export const mostKept = 32 * 1024 ** 2
/** So much may wait to be shown: as much as the default ceiling allows. Of more a part is left out, not much at once. */
const mostWaiting = 16 * 1024 ** 2
const skipped = 1024 ** 2
/** One piece of what waits to be shown: each is cut into slices, and a slice keeps all of its piece in memory. */
const mostPiece = 16_384
const longestControl = 64
const controls = /[\r\b\x07]|\x1b\[([0-?]{0,60})[mK]/g

type Pipe = 'stdout' | 'stderr'
interface Piece {
  kind: Pipe
  text: string
}

export interface Output {
  write(stream: Pipe, data: Data): void
  /** No more will come: what waits for its rest is shown as it is. */
  end(): void
  clear(): void
  /** Its end, where it is too much to keep. */
  text(): string
  /** The last characters, at most so many. */
  last(chars: number): string
  /** How many characters it had altogether. */
  readonly length: number
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

/** Adds to the last piece if it is of the same kind and small, so that many small writes cost one node. */
export function queue(pieces: Piece[], kind: Pipe, text: string): void {
  const last = pieces[pieces.length - 1]
  if (last?.kind === kind && last.text.length < mostPiece) last.text += text
  else pieces.push({ kind, text })
}

/** Takes up to `chars` characters off the front, and cuts no escape in two. */
export function take(pieces: Piece[], chars: number): Piece[] {
  const taken: Piece[] = []
  while (chars > 0 && pieces[0] !== undefined) {
    const piece = pieces[0]
    if (piece.text.length > chars) {
      const at = wholeEscape(piece.text, wholeCharacter(piece.text, chars))
      if (at > 0) taken.push({ kind: piece.kind, text: piece.text.slice(0, at) })
      piece.text = piece.text.slice(at)
      break
    }
    taken.push(piece)
    pieces.shift()
    chars -= piece.text.length
  }
  return taken
}

function wholeEscape(text: string, at: number): number {
  const begin = text.lastIndexOf('\x1b', at - 1)
  if (begin === -1 || begin < at - longestControl) return at
  const end = text.slice(begin, begin + longestControl).match(/^\x1b\[[0-?]*[mK]/)?.[0].length ?? 0
  return begin + end > at ? begin : at
}

/** `linked` may give an element with links for a text. */
export function newOutput(
  pane: HTMLElement,
  follows: boolean,
  changed: (empty: boolean) => void,
  linked: (text: string) => HTMLElement | null = () => null,
): Output {
  const blocks = document.createElement('div')
  const all = newKept(mostKept)
  let readers: Record<Pipe, Reader>
  let styles: Record<Pipe, Style>
  let pending: Piece[]
  // In characters.
  let waiting: number
  let empty: boolean
  let block: HTMLElement | null
  let blockStream: Pipe
  let room: Room
  let midLine: boolean
  // The line that may still be written over, if it is not too long for that, and its nodes in the block.
  let line: Line | null
  let lineNodes: ChildNode[]
  let stale: boolean
  let returned: boolean
  let spans: number
  let blockSpans: number
  // Accents at the end of what is shown.
  let marks: number
  let frame = 0
  let flushed = 0
  let pinned = follows
  let lastTop = 0

  function reset(): void {
    readers = { stdout: newReader(), stderr: newReader() }
    styles = { stdout: plain, stderr: plain }
    pending = []
    waiting = 0
    all.clear()
    empty = true
    block = null
    blockStream = 'stdout'
    midLine = false
    line = newLine()
    lineNodes = []
    stale = false
    returned = false
    spans = 0
    blockSpans = 0
    marks = 0
    pinned = follows
  }

  function schedule(): void {
    if (frame === 0) frame = requestAnimationFrame(flush)
  }

  function flush(): void {
    frame = 0
    fill()
    if (pinned) pane.scrollTop = pane.scrollHeight
    if (pending.length > 0) schedule()
  }

  function fill(): void {
    flushed = performance.now()
    const until = flushed + frameMs
    const mostNow = spans + frameSpans
    for (let slice = 0; slice < frameSlices && pending.length > 0; slice++) {
      for (const { kind, text } of take(pending, sliceChars)) {
        waiting -= text.length
        append(kind, text)
      }
      if (performance.now() > until || spans > mostNow) break
    }
    if (stale) redraw()
    while (blocks.childElementCount > shownBlocks) {
      blocks.firstElementChild?.remove()
      tellCut()
    }
    if (all.cut) tellCut()
  }

  function append(stream: Pipe, text: string): void {
    let from = 0
    for (const control of text.matchAll(controls)) {
      show(stream, text.slice(from, control.index))
      from = control.index + control[0].length
      obey(stream, control[0], control[1] ?? '')
    }
    show(stream, text.slice(from))
  }

  /** Does what a control character or an escape asks for. */
  function obey(stream: Pipe, control: string, parameters: string): void {
    if (control.endsWith('m')) styles[stream] = styled(styles[stream], parameters)
    else if (stream !== blockStream) return
    else if (line === null) returned ||= control === '\r'
    else if (control === '\r') line.start()
    else if (control === '\b') line.back()
    else if (control.endsWith('K') && !line.erase(Number(parameters || '0'), styles[stream])) stale = true
  }

  /** Shows text in which no control character is left but the line's end. */
  function show(stream: Pipe, text: string): void {
    const look = styles[stream]
    while (text !== '') {
      if (block === null || blockStream !== stream || full()) open(stream)
      if (returned && !text.startsWith('\n')) text = `\n${text}`
      returned = false
      const over = line !== null && (stale || !(line.atEnd || text.startsWith('\n')))
      text = over && line !== null ? overwrite(line, look, text) : add(look, text)
    }
  }

  /** Writes into the line, up to its end. The rest is given back. */
  function overwrite(into: Line, look: Style, text: string): string {
    const newline = text.indexOf('\n')
    const part = text.slice(0, Math.min(newline === -1 ? text.length : newline, longestLine))
    const before = into.length
    into.write(part, look)
    stale = true
    midLine = true
    use(into.length - before, 0)
    if (newline === part.length) {
      redraw()
      all.add(`${into.text()}\n`)
      put(plain, '\n')
      beginLine()
      use(1, 1)
      return text.slice(newline + 1)
    }
    if (into.length > longestLine) settle()
    return text.slice(part.length)
  }

  /** Adds whole lines and the beginning of one, as much as fits into the block. The rest is given back. */
  function add(look: Style, text: string): string {
    const end = fitting(text, room)
    const whole = text.lastIndexOf('\n', end - 1) + 1
    if (whole > 0) {
      const lines = text.slice(0, whole)
      put(look, lines)
      all.add((line?.text() ?? '') + lines)
      beginLine()
    }
    const begun = text.slice(whole, end)
    if (begun !== '') {
      lineNodes.push(put(look, begun))
      midLine = true
      if (line !== null && line.length + begun.length <= longestLine) line.write(begun, look)
      else {
        all.add((line?.text() ?? '') + begun)
        line = null
        lineNodes = []
      }
    }
    use(end, count(text.slice(0, end)))
    // What is left did not fit.
    if (end < text.length) room.lines = 0
    return text.slice(end)
  }

  function use(chars: number, lines: number): void {
    room.chars -= chars
    room.most -= chars
    room.lines -= lines
    estimate(block, room)
  }

  function beginLine(): void {
    line = newLine()
    lineNodes = []
    midLine = false
  }

  /** The line stays as it is. */
  function settle(): void {
    if (stale) redraw()
    all.add(line?.text() ?? '')
    line = null
    lineNodes = []
  }

  function redraw(): void {
    stale = false
    for (const node of lineNodes) {
      if (node instanceof HTMLElement) spans--
      node.remove()
    }
    marks = 0
    lineNodes = line?.runs().map(({ look, text }) => put(look, text)) ?? []
  }

  function full(): boolean {
    return room.lines <= 0 || room.most <= 0 || ((room.chars <= 0 || blockSpans >= mostBlockSpans) && !midLine)
  }

  function open(stream: Pipe): void {
    settle()
    line = newLine()
    returned = false
    const continued = block !== null && blockStream === stream
    block = document.createElement('div')
    block.className = stream
    if (stream === 'stderr') {
      block.setAttribute('role', 'group')
      block.setAttribute('aria-label', say('stderr'))
      if (!continued) block.dataset['label'] = say('stderr')
    }
    blockStream = stream
    room = { ...blockRoom }
    blockSpans = 0
    blocks.append(block)
  }

  function put(look: Style, whole: string): ChildNode {
    const [text, after] = unburdened(whole, marks)
    marks = after
    const room = spans < mostSpans
    const node = room && look !== plain ? dressed(look, text) : ((room ? linked(text) : null) ?? document.createTextNode(text))
    if (node instanceof HTMLElement) {
      spans++
      blockSpans++
    }
    block?.append(node)
    return node
  }

  /** Leaves out a part of what waits to be shown. */
  function skip(): void {
    settle()
    while (waiting > mostWaiting - skipped) {
      const piece = pending.shift()
      if (piece === undefined) break
      waiting -= piece.text.length
      all.add(unstyled(piece))
    }
    if (block?.className !== 'gap') {
      block = document.createElement('div')
      block.className = 'gap'
      block.textContent = say('gap')
      blocks.append(block)
    }
    room = { chars: 0, most: 0, lines: 0 }
    beginLine()
  }

  function tellCut(): void {
    const words = say(all.cut ? 'cut_short' : 'cut')
    if (pane.dataset['cut'] !== words) pane.dataset['cut'] = words
    pane.classList.add('cut')
  }

  function write(kind: Pipe, text: string): void {
    if (text === '') return
    if (empty) changed(false)
    empty = false
    queue(pending, kind, text)
    waiting += text.length
    if (waiting > mostWaiting) skip()
    // Laid out, and scrolled to, it is in the next frame.
    if (frame === 0 && performance.now() - flushed > pause) fill()
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
    if (atEnd) pinned = follows
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
    text: () => [all.text(), line?.text() ?? '', ...pending.map(unstyled)].join(''),
    last(chars) {
      let end = ''
      for (let at = pending.length - 1; at >= 0 && end.length < chars; at--) end = unstyled(pending[at] as Piece) + end
      return `${end.length < chars ? all.end(chars) + (line?.text() ?? '') : ''}${end}`.slice(-chars)
    },
    get length() {
      return all.length + (line?.length ?? 0) + waiting
    },
  }
}

/** The text with a bounded number of accents on a character, where `before` of them came before it; and how many it ends in. */
export function unburdened(text: string, before: number): [string, number] {
  if (!/[^\0-\u02ff]/.test(text)) return [text, 0]
  const whole = ('\u0301'.repeat(before) + text).replace(tooManyMarks, '$1')
  const last = /\p{M}*$/u.exec(whole.slice(-2 * mostMarks))?.[0] ?? ''
  return [whole.slice(before), [...last].length]
}

const unstyled = ({ text }: Piece) => text.replace(controls, '')

function dressed(look: Style, text: string): HTMLElement {
  const span = document.createElement('span')
  span.textContent = text
  const dress = dresses.get(look) ?? newDress(look)
  dresses.set(look, dress)
  span.className = dress.className
  for (const [name, value] of dress.properties) span.style.setProperty(name, value)
  return span
}

interface Dress {
  className: string
  properties: [string, string][]
}

const dresses = new WeakMap<Style, Dress>()
const flags = ['bold', 'faint', 'italic', 'underline', 'strike'] as const

function newDress(style: Style): Dress {
  const properties: [string, string][] = []
  for (const [theme, { fg, bg }] of [['light', colours(style, light)], ['dark', colours(style, dark)]] as const) {
    if (fg !== null) properties.push([`--fg-${theme}`, `rgb(${fg.join(' ')})`])
    if (bg !== null) properties.push([`--bg-${theme}`, `rgb(${bg.join(' ')})`])
  }
  return { className: ['sgr', ...flags.filter((flag) => style[flag])].join(' '), properties }
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
