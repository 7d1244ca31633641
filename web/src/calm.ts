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
    sending: (tty) => later(() => view.sending(tty)),
    queued: (position, estimate) => later(() => view.queued(position, estimate)),
    started: (attempt, wall, idle) => later(() => view.started(attempt, wall, idle)),
    stage: (stage) => later(() => view.stage(stage)),
    resuming: (tty) => atOnce(() => view.resuming(tty)),
    away: (accepted) => atOnce(() => view.away(accepted)),
    back: () => atOnce(view.back),
    output: (stage, stream, data, old) => atOnce(() => view.output(stage, stream, data, old)),
    finished: (result, decisive) => atOnce(() => view.finished(result, decisive)),
    refused: (problem) => atOnce(() => view.refused(problem)),
    lost: (problem) => atOnce(() => view.lost(problem)),
    forgotten: () => atOnce(view.forgotten),
  }
}
