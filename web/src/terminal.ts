// What draws a terminal: a chunk of its own, since it is larger than the rest of the page.
import { FitAddon } from '@xterm/addon-fit'
import { Terminal as Xterm } from '@xterm/xterm'
import type { ITheme } from '@xterm/xterm'
import css from '@xterm/xterm/css/xterm.css' with { type: 'text' }
import type { Size } from './messages'
import type { Rgb } from './sgr'

export interface TerminalEvents {
  typed(text: string): void
  resized(size: Size): void
  /** More was pasted than a program is given at once. */
  pastedTooMuch(): void
  /** True for a key that is the page's own, not the program's. */
  ours(key: KeyboardEvent): boolean
}

export interface Terminal {
  /** `old`: it was shown before, so what it asks of the terminal has been answered. `more` waits behind it. */
  write(text: string, old: boolean, more: boolean, done: () => void): void
  /** Empties it; `live`: what is typed is wanted. */
  clear(live: boolean): void
  end(): void
  /** Takes the room that there is. */
  fit(): Size
  focus(): void
  /** Null when lines have been dropped. */
  text(): string | null
}

const scrollback = 10_000
const lineHeight = 1.2
/** As in the page's other text (WCAG). */
const contrast = 4.5
const resizePause = 150
/** In characters. */
const mostPasted = 65_536
/** After so many characters, or while there is more than can be shown at once, nothing is read aloud for a moment. */
const mostSpoken = 65_536
const silence = 500
/** In characters. Between two parts xterm looks at the clock: one part may say "insert a screen of lines" 200 times. */
const atOnce = 1_024
/** Accents on one character: the region that is read aloud has them, too. */
const tooManyMarks = /(\p{M}{32})\p{M}+/gu
// Ends what a program may have left on: mouse reports, pastes in brackets, application keys; hides the cursor.
const rest = '\x1b[?9l\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1004l\x1b[?2004l\x1b[?1l\x1b>\x1b[?25l'

/** `palette`: the first sixteen colours. `longestSide`: at most so many rows, and so many columns. */
export function newTerminal(
  pane: HTMLElement,
  palette: readonly Rgb[],
  longestSide: number,
  on: TerminalEvents,
): Terminal {
  const theme = () => newTheme(palette)
  const { fontSize, fontFamily } = getComputedStyle(pane)
  const xterm = new Xterm({
    fontFamily,
    fontSize: parseFloat(fontSize),
    lineHeight,
    scrollback,
    minimumContrastRatio: contrast,
    screenReaderMode: true,
    theme: theme(),
  })
  const fit = new FitAddon()
  let old = false
  let dropped = false
  let resizing: ReturnType<typeof setTimeout> | undefined
  let spoken = 0
  let silent: ReturnType<typeof setTimeout> | undefined

  const sheet = new CSSStyleSheet()
  sheet.replaceSync(css)
  document.adoptedStyleSheets.push(sheet)

  function fitted(): Size {
    fit.fit()
    const size = { rows: Math.min(longestSide, xterm.rows), cols: Math.min(longestSide, xterm.cols) }
    xterm.resize(size.cols, size.rows)
    return size
  }

  /** For a screen reader xterm keeps a line without end whole, in an element that grows and grows. */
  function hush(): void {
    spoken = 0
    xterm.options.screenReaderMode = false
    clearTimeout(silent)
    silent = setTimeout(() => {
      xterm.options.screenReaderMode = true
    }, silence)
  }

  /** What a program asks was answered when it asked; an answer now would be typed into it. */
  function answerOnce(): void {
    const { parser } = xterm
    for (const prefix of ['', '?', '>', '=']) parser.registerCsiHandler({ ...(prefix && { prefix }), final: 'c' }, () => old)
    for (const prefix of ['', '?']) {
      parser.registerCsiHandler({ ...(prefix && { prefix }), final: 'n' }, () => old)
      parser.registerCsiHandler({ ...(prefix && { prefix }), intermediates: '$', final: 'p' }, () => old)
    }
    parser.registerDcsHandler({ intermediates: '$', final: 'q' }, () => old)
    for (const colour of [4, 10, 11, 12]) parser.registerOscHandler(colour, (asked) => old && asked.includes('?'))
  }

  answerOnce()
  // A link would go where the program's author wants, whatever its text says.
  xterm.parser.registerOscHandler(8, () => true)
  xterm.loadAddon(fit)
  xterm.open(pane)
  xterm.textarea?.setAttribute('aria-describedby', 'terminal-hint')
  // In its mode for screen readers xterm leaves out what is written without a key: by a picker, or dictated.
  let pressed = false
  xterm.textarea?.addEventListener('input', (event) => {
    const { data, inputType } = event as InputEvent
    if (!pressed && data !== null && inputType === 'insertText' && xterm.options.screenReaderMode) xterm.input(data)
  })
  xterm.onData(on.typed)
  xterm.onScroll(() => {
    dropped ||= xterm.buffer.normal.length >= scrollback + xterm.rows
  })
  xterm.attachCustomKeyEventHandler((key) => {
    if (key.type !== 'keypress') pressed = key.type === 'keydown'
    if (on.ours(key)) return false
    // The browser copies what is selected, pastes, and, when nothing can be typed any more, moves on by Tab.
    if (key.ctrlKey && !key.shiftKey && !key.altKey && key.key === 'c' && xterm.hasSelection()) return false
    if (key.ctrlKey && !key.altKey && key.key.toLowerCase() === 'v') return false
    return !(key.key === 'Tab' && xterm.options.disableStdin === true)
  })
  pane.addEventListener('copy', () => setTimeout(() => xterm.clearSelection()))
  pane.addEventListener(
    'paste',
    (paste) => {
      if ((paste.clipboardData?.getData('text/plain').length ?? 0) <= mostPasted) return
      paste.preventDefault()
      paste.stopPropagation()
      on.pastedTooMuch()
    },
    { capture: true },
  )
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => {
    xterm.options.theme = theme()
  })
  new ResizeObserver(() => {
    clearTimeout(resizing)
    resizing = setTimeout(() => {
      if (pane.offsetParent !== null) on.resized(fitted())
    }, resizePause)
  }).observe(pane)

  return {
    write(text, shownBefore, more, done) {
      old = shownBefore
      spoken += text.length
      if (more || spoken > mostSpoken) hush()
      const shown = text.replace(tooManyMarks, '$1')
      for (let at = 0; at < shown.length; at += atOnce) {
        xterm.write(shown.slice(at, at + atOnce), at + atOnce < shown.length ? undefined : done)
      }
    },
    clear(live) {
      xterm.reset()
      xterm.options.theme = theme()
      xterm.options.disableStdin = !live
      dropped = false
    },
    end() {
      xterm.options.disableStdin = true
      xterm.write(rest)
    },
    fit: fitted,
    focus: () => xterm.focus(),
    text() {
      if (dropped) return null
      const { active } = xterm.buffer
      let text = ''
      for (let y = 0; y < active.length; y++) {
        const line = active.getLine(y)
        const goesOn = active.getLine(y + 1)?.isWrapped === true
        text += (line?.translateToString(!goesOn) ?? '') + (goesOn ? '' : '\n')
      }
      return text.replace(/\n+$/, '\n')
    },
  }
}

/** The page's colours, as it shows them now. */
function newTheme(palette: readonly Rgb[]): ITheme {
  const style = getComputedStyle(document.documentElement)
  const value = (name: string) => style.getPropertyValue(name).trim()
  const names = ['black', 'red', 'green', 'yellow', 'blue', 'magenta', 'cyan', 'white'] as const
  const ansi: Record<string, string> = {}
  palette.forEach((rgb, n) => {
    const name = names[n % 8] ?? ''
    ansi[n < 8 ? name : `bright${name[0]?.toUpperCase()}${name.slice(1)}`] = `#${rgb.map((part) => part.toString(16).padStart(2, '0')).join('')}`
  })
  return {
    ...ansi,
    background: value('--surface'),
    foreground: value('--text'),
    cursor: value('--accent'),
    cursorAccent: value('--surface'),
    selectionBackground: value('--selection'),
    scrollbarSliderBackground: `${value('--border-strong')}99`,
    scrollbarSliderHoverBackground: value('--border-strong'),
    scrollbarSliderActiveBackground: value('--border-strong'),
  }
}
