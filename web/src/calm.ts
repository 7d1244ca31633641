import type { RunView } from './run'

/** In milliseconds: too short for a person to see what is not drawn in it. */
const moment = 50

export interface Calm extends RunView {
  /** Draws at once what has happened. */
  now(): void
}

/** Draws how a run goes on only when there is something to read, or after a moment. Each drawing takes the processor
 * from the run, and keeps what comes from it waiting: a short run is drawn once, at its end. Meanwhile the region is
 * marked as one that changes. */
export function newCalm(view: RunView, region: HTMLElement): Calm {
  let waiting: (() => void)[] = []
  let timer: ReturnType<typeof setTimeout> | undefined

  function now(): void {
    if (waiting.length === 0) return
    clearTimeout(timer)
    timer = undefined
    for (const draw of waiting.splice(0)) draw()
    region.setAttribute('aria-busy', 'false')
  }

  function later(draw: () => void): void {
    waiting.push(draw)
    region.setAttribute('aria-busy', 'true')
    timer ??= setTimeout(now, moment)
  }

  function atOnce(draw: () => void): void {
    now()
    draw()
  }

  return {
    now,
    clear: () => later(view.clear),
    sending: (...told) => later(() => view.sending(...told)),
    queued: (...told) => later(() => view.queued(...told)),
    started: (...told) => later(() => view.started(...told)),
    stage: (...told) => later(() => view.stage(...told)),
    resuming: (...told) => atOnce(() => view.resuming(...told)),
    away: (...told) => atOnce(() => view.away(...told)),
    back: () => atOnce(view.back),
    output: (...told) => atOnce(() => view.output(...told)),
    finished: (...told) => atOnce(() => view.finished(...told)),
    refused: (...told) => atOnce(() => view.refused(...told)),
    lost: (...told) => atOnce(() => view.lost(...told)),
    forgotten: () => atOnce(view.forgotten),
  }
}
