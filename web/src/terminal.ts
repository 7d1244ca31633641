// What draws a terminal: a chunk of its own, since it is larger than the rest of the page.
import { FitAddon } from '@xterm/addon-fit'
import { Unicode11Addon } from '@xterm/addon-unicode11'
import { Terminal as Xterm } from '@xterm/xterm'
import type { ITheme } from '@xterm/xterm'
import css from '@xterm/xterm/css/xterm.css' with { type: 'text' }
import { writeErasing } from './erase'
import type { Size } from './messages'
import type { Rgb } from './sgr'
import { tooManyMarks } from './text'

export interface TerminalEvents {
  typed(text: string): void
  resized(size: Size): void
  /** Whether what a program asks of its terminal is answered here. */
  answers(): boolean
  /** More was pasted than a program is given at once. */
  pastedTooMuch(): void
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
  /** The program does what programs do that read each key, since `clear`: it has the whole screen, has erased that, or
   * has asked the terminal something. */
  readonly plays: boolean
  /** Null when lines have been dropped. */
  text(): string | null
}

const scrollback = 10_000
const lineHeight = 1.2
/** As in the page's other text, and for who wants colours of their own (WCAG). */
const contrast = 4.5
const highContrast = 7
const resizePause = 150
/** In characters. */
const mostPasted = 65_536
/** After so many characters, or while there is more than can be shown at once, nothing is read aloud for a moment. */
const mostSpoken = 65_536
const silence = 500
/** In characters. Between two parts xterm looks at the clock: one part may say "insert a screen of lines" 200 times. */
const atOnce = 1_024
// A reset leaves the cursor hidden; the first part is what makes xterm show one before somebody is there.
const showCursor = '\x1b[?47l\x1b[?25h'
// Ends what a program may have left on: mouse reports, pastes in brackets, application keys; hides the cursor.
const rest = '\x1b[?9l\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1004l\x1b[?2004l\x1b[?1l\x1b>\x1b[?25l'

/** In milliseconds: what comes after a pause is shown at once. */
const pause = 50

/** xterm parses what it is given when the page has nothing else to do, and draws that with the next frame. So many
 * programs do better, but who waits for the first line does not. It does at once what comes after a key. */
interface Core {
  _writeBuffer: { handleUserInput(): void }
  _renderService: { _renderDebouncer: { _innerRefresh(): void } }
}

/** `palette`: the first sixteen colours. `longestSide`: at most so many rows, and so many columns. */
export function newTerminal(
  pane: HTMLElement,
  palette: readonly Rgb[],
  longestSide: number,
  on: TerminalEvents,
): Terminal {
  const forced = matchMedia('(forced-colors: active)')
  const look = () => ({
    theme: newTheme(palette, forced.matches),
    minimumContrastRatio: forced.matches ? highContrast : contrast,
  })
  const { fontSize, fontFamily } = getComputedStyle(pane)
  const xterm = new Xterm({
    fontFamily,
    fontSize: parseFloat(fontSize),
    lineHeight,
    scrollback,
    screenReaderMode: true,
    allowProposedApi: true,
    ...look(),
  })
  const { _core: core } = xterm as unknown as { _core: Core }
  const fit = new FitAddon()
  /** By the page before this one, or by another. */
  let answered = false
  let wrote = 0
  let dropped = false
  // By the program.
  let recoloured = false
  let plays = false
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
    const asks = () => {
      plays = true
      return answered
    }
    for (const prefix of ['', '?', '>', '=']) parser.registerCsiHandler({ ...(prefix && { prefix }), final: 'c' }, asks)
    for (const prefix of ['', '?']) {
      parser.registerCsiHandler({ ...(prefix && { prefix }), final: 'n' }, asks)
      parser.registerCsiHandler({ ...(prefix && { prefix }), intermediates: '$', final: 'p' }, asks)
    }
    parser.registerDcsHandler({ intermediates: '$', final: 'q' }, asks)
    for (const colour of [4, 10, 11, 12]) {
      parser.registerOscHandler(colour, (asked) => {
        recoloured = true
        return answered && asked.includes('?')
      })
    }
  }

  /** Who means to save would stop the output, and nothing would tell why. A full-screen program may want the key. */
  function stops(key: KeyboardEvent): boolean {
    return key.ctrlKey && !key.shiftKey && !key.altKey && key.key === 's' && xterm.buffer.active.type === 'normal'
  }

  answerOnce()
  const eraseScreen = 2
  xterm.parser.registerCsiHandler({ final: 'J' }, ([what]) => {
    plays ||= what === eraseScreen
    return false
  })
  // A link would go where the program's author wants, whatever its text says.
  xterm.parser.registerOscHandler(8, () => true)
  xterm.loadAddon(fit)
  // So wide the characters are for programs: an emoji takes two columns.
  xterm.loadAddon(new Unicode11Addon())
  xterm.unicode.activeVersion = '11'
  xterm.open(pane)
  // The browser would show what is there for screen readers alone, and neither a cursor nor what is inverse.
  xterm.element?.style.setProperty('forced-color-adjust', 'none')
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
    // The browser copies what is selected, pastes, and, when nothing can be typed any more, moves on by Tab.
    if (key.ctrlKey && !key.shiftKey && !key.altKey && key.key === 'c' && xterm.hasSelection()) return false
    if (key.ctrlKey && !key.altKey && key.key.toLowerCase() === 'v') return false
    if (stops(key)) {
      key.preventDefault()
      return false
    }
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
  // The page was dressed anew, or the system chooses the colours.
  const dress = () => Object.assign(xterm.options, look(), { fontSize: parseFloat(getComputedStyle(pane).fontSize) })
  new MutationObserver(dress).observe(document.documentElement, { attributes: true, attributeFilter: ['data-theme', 'style'] })
  forced.addEventListener('change', dress)
  new ResizeObserver(() => {
    clearTimeout(resizing)
    resizing = setTimeout(() => {
      if (pane.offsetParent !== null) on.resized(fitted())
    }, resizePause)
  }).observe(pane)

  return {
    write(text, shownBefore, more, done) {
      answered = shownBefore || !on.answers()
      spoken += text.length
      if (more || spoken > mostSpoken) hush()
      // The region that is read aloud has them, too.
      const shown = text.replace(tooManyMarks, '$1')
      const write = (at: number): void => {
        const end = at + atOnce
        writeErasing(xterm, shown.slice(at, end), end < shown.length ? () => write(end) : done)
      }
      const now = performance.now()
      const paused = now - wrote > pause
      wrote = now
      if (paused) core._writeBuffer.handleUserInput()
      write(0)
      if (paused) core._renderService._renderDebouncer._innerRefresh()
    },
    clear(live) {
      xterm.reset()
      core._writeBuffer.handleUserInput()
      xterm.write(showCursor)
      if (recoloured) Object.assign(xterm.options, look())
      recoloured = false
      xterm.options.disableStdin = !live
      dropped = plays = false
    },
    end() {
      xterm.options.disableStdin = true
      xterm.write(rest)
    },
    fit: fitted,
    focus: () => xterm.focus(),
    get plays() {
      return plays || xterm.buffer.active.type === 'alternate'
    },
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

/** The page's colours, as it shows them now. Where colours are `forced`, those that the system has chosen. */
function newTheme(palette: readonly Rgb[], forced: boolean): ITheme {
  const style = getComputedStyle(document.documentElement)
  const probe = document.body.appendChild(document.createElement('span'))
  const colour = (name: string, system: string) => {
    if (!forced) return style.getPropertyValue(name).trim()
    probe.style.color = system
    return getComputedStyle(probe).color
  }
  const names = ['black', 'red', 'green', 'yellow', 'blue', 'magenta', 'cyan', 'white'] as const
  const ansi: Record<string, string> = {}
  palette.forEach((rgb, n) => {
    const name = names[n % 8] ?? ''
    ansi[n < 8 ? name : `bright${name[0]?.toUpperCase()}${name.slice(1)}`] = hex(rgb)
  })
  const background = colour('--surface', 'Canvas')
  const strong = colour('--border-strong', 'CanvasText')
  const theme: ITheme = {
    ...ansi,
    background,
    foreground: colour('--text', 'CanvasText'),
    cursor: colour('--accent', 'CanvasText'),
    cursorAccent: background,
    selectionBackground: colour('--selection', 'Highlight'),
    scrollbarSliderBackground: forced ? strong : `${strong}99`,
    scrollbarSliderHoverBackground: strong,
    scrollbarSliderActiveBackground: strong,
    ...(forced && { selectionForeground: colour('', 'HighlightText') }),
  }
  probe.remove()
  return theme
}

function hex(rgb: Rgb): string {
  return `#${rgb.map((part) => part.toString(16).padStart(2, '0')).join('')}`
}
