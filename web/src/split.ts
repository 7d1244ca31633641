import { setShare } from './arrangement'
import type { Share } from './arrangement'

/** In percent. */
const least = 10
const most = 90
const step = 2
const bigStep = 10

type Orientation = 'vertical' | 'horizontal'

/** Moves the line between two parts of `area`, by pointer and by keys. `shares`: what it sets in each orientation;
 * the share is that of the part before the line, or `of` the part behind it. A double click sets it back. */
export function newSplit(
  bar: HTMLElement,
  area: HTMLElement,
  shares: Partial<Record<Orientation, Share>>,
  of: 'before' | 'behind' = 'before',
): void {
  const orientation = () => bar.getAttribute('aria-orientation') as Orientation

  function set(percent: number | null): void {
    const share = shares[orientation()]
    if (share === undefined) return
    setShare(share, percent === null ? null : Math.round(10 * Math.min(most, Math.max(least, percent))) / 10)
    tell()
  }

  /** The share for a line that is there. */
  function at(x: number, y: number): number {
    const { left, top, width, height } = area.getBoundingClientRect()
    const before = 100 * (orientation() === 'vertical' ? (x - left) / width : (y - top) / height)
    return of === 'before' ? before : 100 - before
  }

  function now(): number {
    const { left, top } = bar.getBoundingClientRect()
    return at(left, top)
  }

  function tell(): void {
    bar.setAttribute('aria-valuenow', String(Math.round(now())))
  }

  bar.setAttribute('aria-valuemin', String(least))
  bar.setAttribute('aria-valuemax', String(most))
  new ResizeObserver(tell).observe(area)
  bar.addEventListener('focus', tell)
  bar.addEventListener('dblclick', () => set(null))
  bar.addEventListener('pointerdown', (press) => {
    if (press.button !== 0) return
    bar.setPointerCapture(press.pointerId)
    bar.classList.add('held')
  })
  bar.addEventListener('pointermove', (move) => {
    if (bar.hasPointerCapture(move.pointerId)) set(at(move.clientX, move.clientY))
  })
  bar.addEventListener('lostpointercapture', () => bar.classList.remove('held'))
  bar.addEventListener('keydown', (key) => {
    const vertical = orientation() === 'vertical'
    const by = key.shiftKey ? bigStep : step
    const towards = of === 'before' ? 1 : -1
    const moves: Record<string, () => void> = {
      [vertical ? 'ArrowRight' : 'ArrowDown']: () => set(now() + towards * by),
      [vertical ? 'ArrowLeft' : 'ArrowUp']: () => set(now() - towards * by),
      Home: () => set(of === 'before' ? least : most),
      End: () => set(of === 'before' ? most : least),
      Enter: () => set(null),
    }
    if (moves[key.key] === undefined) return
    key.preventDefault()
    moves[key.key]?.()
  })
}
