import { attempt } from './attempt'
import type { RunView } from './run'

/** A view that never throws: no fault in what draws keeps the run from going on, or from its end. `broken` tells that the
 * end of a run could not be shown. */
export function unfailing(view: RunView, broken: () => void): RunView {
  const nothing = () => {}
  return {
    clear: () => attempt(view.clear, nothing),
    sending: (...told) => attempt(() => view.sending(...told), nothing),
    resuming: (...told) => attempt(() => view.resuming(...told), nothing),
    away: (...told) => attempt(() => view.away(...told), nothing),
    back: () => attempt(view.back, nothing),
    queued: (...told) => attempt(() => view.queued(...told), nothing),
    started: (...told) => attempt(() => view.started(...told), nothing),
    stage: (...told) => attempt(() => view.stage(...told), nothing),
    output: (...told) => attempt(() => view.output(...told), nothing),
    finished: (...told) => attempt(() => view.finished(...told), broken),
    refused: (...told) => attempt(() => view.refused(...told), broken),
    lost: (...told) => attempt(() => view.lost(...told), broken),
    forgotten: () => attempt(view.forgotten, broken),
  }
}
