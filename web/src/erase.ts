// The line editor of a program's terminal is the kernel's, which takes each character for one column wide.
import type { Terminal as Xterm } from '@xterm/xterm'

const erase = '\b \b'
const eraseWide = '\b\b  \b\b'

/** Writes as `xterm.write` does, but what erases one column erases all of a wide character that stands there. */
export function writeErasing(xterm: Xterm, text: string, done: () => void): void {
  const parts = text.split(erase)
  const write = (n: number): void => {
    if (n === parts.length - 1) return xterm.write(parts[n] ?? '', done)
    xterm.write(parts[n] ?? '', () => {
      xterm.write(isBehindWide(xterm) ? eraseWide : erase)
      write(n + 1)
    })
  }
  write(0)
}

function isBehindWide(xterm: Xterm): boolean {
  const { active } = xterm.buffer
  const second = active.getLine(active.baseY + active.cursorY)?.getCell(active.cursorX - 1)
  // At the right edge the cursor stands on the last column, not behind it.
  return second?.getWidth() === 0 && active.cursorX < xterm.cols
}
