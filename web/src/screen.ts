import { delay } from './backoff'
import { chunk } from './chunk'
import { newKept } from './kept'
import type { Data, Size } from './messages'
import { mostKept } from './output'
import { named } from './sgr'
import type { Terminal, TerminalEvents } from './terminal'
import { newDecoder, plainText } from './text'

/** The terminal of a run. It is there at once, also before what draws it. */
export interface Screen {
  /** What draws it is fetched, and made, when the page has nothing else to do. */
  prepare(): void
  /** Shows an empty terminal, for a run that begins. */
  begin(): void
  /** What it has room for. */
  size(): Size
  write(data: Data, old: boolean): void
  /** The run is over: what is there can be read and copied, and nothing can be typed. */
  end(): void
  /** What was written, or its end where it is too much to keep. */
  text(): string
  /** In characters, escapes and all. */
  readonly length: number
  readonly empty: boolean
  /** Whether the terminal is there to take the keys. */
  focus(): boolean
  /** The program draws and asks as programs do that read each key. */
  readonly plays: boolean
}

interface Piece {
  text: string
  old: boolean
}

/** In characters. Between two slices the browser may draw, and keys and clicks come in. */
const slice = 16_384
/** Ends what a program was at when a part of its output is left out: an escape (CAN), and its colours. */
const gap = '\x18\x1b[0m\r\n'
/** For a browser that does not tell when it is idle. */
const soon = 1_000
/** In rows and in columns: a server takes no more. */
const longestSide = 1_000

export function newScreen(pane: HTMLElement, on: TerminalEvents): Screen {
  let fetching: Promise<void> | undefined
  let drawing: typeof import('./terminal') | null = null
  let tries = 0
  let terminal: Terminal | null = null
  let decoder = newDecoder()
  let pieces: Piece[] = []
  const all = newKept(mostKept)
  // Of `pieces`, in characters.
  let waiting = 0
  let writing = false
  let live = false
  // What the terminal has yet to be told, when it has written what it is at.
  let clears = false
  let ends = false

  /** Fetches what draws, and makes the terminal if it waits for that. */
  function load(): void {
    fetching ??= chunk(import('./terminal')).then(
      (chunk) => {
        drawing = chunk
        if (live || all.length > 0) open()
        else whenIdle(makeUnseen)
      },
      () => {
        fetching = undefined
        setTimeout(load, delay(tries++))
      },
    )
  }

  /** It must be in sight to be measured. */
  function open(): void {
    if (drawing === null) return load()
    if (terminal !== null || pane.offsetParent === null) return
    terminal = drawing.newTerminal(pane, named, longestSide, on)
    on.resized(terminal.fit())
    pump()
  }

  /** Made beforehand, it does not keep the first run waiting. */
  function makeUnseen(): void {
    const { hidden } = pane
    pane.classList.add('unseen')
    pane.hidden = false
    open()
    pane.hidden = hidden
    pane.classList.remove('unseen')
  }

  function pump(): void {
    if (terminal === null || writing) return
    if (clears) terminal.clear(live)
    clears = false
    const piece = pieces[0]
    if (piece === undefined) {
      if (ends) terminal.end()
      ends = false
      return
    }
    const text = piece.text.slice(0, slice)
    piece.text = piece.text.slice(slice)
    waiting -= text.length
    if (piece.text === '') pieces.shift()
    writing = true
    terminal.write(text, piece.old, pieces.length > 0, () => {
      writing = false
      pump()
    })
  }

  function write(text: string, old: boolean): void {
    if (text === '') return
    all.add(text)
    waiting += text.length
    const last = pieces[pieces.length - 1]
    if (last?.old === old && last.text.length < slice) last.text += text
    else pieces.push({ text, old })
    if (waiting > mostKept) skip()
    pump()
  }

  /** More waits to be drawn than is kept, and far more than the terminal scrolls back to. */
  function skip(): void {
    while (waiting > mostKept / 2) waiting -= pieces.shift()?.text.length ?? waiting
    pieces.unshift({ text: gap, old: false })
    waiting += gap.length
  }

  function estimate(): Size {
    const { fontSize, fontFamily } = getComputedStyle(pane)
    const context = document.createElement('canvas').getContext('2d')
    if (context === null) return { rows: 24, cols: 80 }
    context.font = `${fontSize} ${fontFamily}`
    const fits = (room: number, one: number) => Math.min(longestSide, Math.max(1, Math.floor(room / one)))
    return {
      rows: fits(pane.clientHeight - 16, parseFloat(fontSize) * 1.4),
      cols: fits(pane.clientWidth - 28, context.measureText('W').width),
    }
  }

  // It comes into sight where one part of the page is shown at a time.
  new ResizeObserver(() => {
    if (live || all.length > 0) open()
  }).observe(pane)

  return {
    prepare: () => whenIdle(load),
    begin() {
      decoder = newDecoder()
      pieces = []
      all.clear()
      waiting = 0
      live = clears = true
      ends = false
      open()
      pump()
    },
    size() {
      open()
      return terminal?.fit() ?? estimate()
    },
    write: (data, old) => write(decoder.read(data), old),
    end() {
      write(decoder.end(), false)
      live = false
      ends = true
      pump()
    },
    text: () => terminal?.text() ?? plainText(all.text()),
    get length() {
      return all.length
    },
    get empty() {
      return all.length === 0
    },
    focus() {
      terminal?.focus()
      return terminal !== null
    },
    get plays() {
      return !clears && terminal?.plays === true
    },
  }
}

function whenIdle(act: () => void): void {
  if ('requestIdleCallback' in window) requestIdleCallback(act)
  else setTimeout(act, soon)
}
