import type { Decisive } from './finding'
import { add, again, anew, newInput, next, taken, unsent } from './input'
import type { Input, Typed } from './input'
import { newKey } from './key'
import type { ClientFrame, Data, Event, Problem, Result, ServerFrame, Size, StageName, Stream, Submission } from './messages'
import { kind } from './messages'
import { say } from './say'
import { unheard } from './socket'

/** What is to be seen of a run. */
export interface RunView {
  clear(): void
  sending(tty: boolean): void
  /** A run from before the page was loaded is looked for. */
  resuming(tty: boolean): void
  /** The connection went. `accepted`: the server has the program, and runs it without us. */
  away(accepted: boolean): void
  back(): void
  queued(position: number | null, estimate: number | null): void
  /** In seconds, for a program that waits for a person: how long it may run, and how long without input. */
  started(attempt: number, wall: number | null, idle: number | null): void
  stage(stage: StageName): void
  /** `old`: it was shown before, and is now shown anew. */
  output(stage: StageName, stream: Stream, data: Data, old: boolean): void
  /** `decisive`: the problem that made it fail, if one was found. `said`: the end of what it wrote to stderr, or at a
   * terminal. */
  finished(result: Result, decisive: Decisive | null, said: string): void
  refused(problem: Problem): void
  /** The run goes on elsewhere, but we can no longer see it. */
  lost(problem: Problem): void
  /** The result that was to be shown again is no longer kept. */
  forgotten(): void
}

export interface Run {
  submission: Submission | null
  tty: boolean
  /** The terminal's size as it is, and as the server knows it. */
  size: Size | null
  toldSize: Size | null
  submitRef: string
  // Makes sending it again harmless: the server knows it by this.
  key: string
  submits: number
  subscribeRef: string | null
  stdinRef: string | null
  resizeRef: string | null
  cancelRef: string | null
  id: string | null
  after: number
  /** The last event that was ever shown. */
  seen: number
  cancelled: boolean
  /** It had ended before the page was loaded: its result is only shown again. */
  over: boolean
  input: Input
}

export interface Resumed {
  id: string
  tty: boolean
  seen: number
  /** What was typed and perhaps not taken. */
  typed: Typed[]
  over: boolean
}

export interface Runner {
  current(): Run | null
  /** The run that is shown, as a page loaded again would have to know it. */
  shown(): Resumed | null
  /** Runs it now: what runs already is cancelled. */
  submit(submission: Submission): void
  /** Sends now what waits for the server. */
  hurry(): void
  /** Follows a submission made before the page was loaded again. */
  resume(resumed: Resumed): void
  cancel(): void
  /** False when the program has so much to read already that this is left out. */
  type(data: string): boolean
  resize(size: Size): void
  /** Asks for what is to be heard anyway, so that there is an answer. */
  probe(): void
  opened(): void
  closed(code: number): void
  /** Whether the run goes on: a refusal that the program waits out is no progress, nor that the run is followed. */
  frame(frame: ServerFrame): boolean
}

const tooLarge: Problem = {
  type: 'too-large',
  title: say('too_large'),
  status: 413,
  detail: say('too_large_detail'),
}

const unanswered: Problem = {
  type: 'unanswered',
  title: say('unanswered'),
  status: 503,
  detail: say('unanswered_detail'),
}

const noAnswer: Problem = {
  type: 'no-answer',
  title: say('no_answer_title'),
  status: 503,
  detail: say('no_answer_detail', { mute: say('mute') }),
}

// A submission whose answer was lost may be running already; its key makes sending it again
// harmless. When it is lost more often than this, something about it breaks the connection.
const mostSubmits = 3
const stdinFullPause = 300
const unavailablePause = 1000
const awayPause = 2000
/** What a server says that stops, starts, or has lost what it works with: the program can wait for that to pass. */
const passing = new Set(['shutting-down', 'unavailable', 'no-nodes', 'not-ready'])

export function newRunner(send: (frame: ClientFrame) => boolean, view: RunView): Runner {
  let current: Run | null = null
  let shown: Run | null = null
  // Replaced by another before they ended. Each is cancelled until the server has heard of it.
  const replaced = new Set<Run>()
  let refs = 0
  /** There was no connection, and nothing has come over another one yet. */
  let away = false
  const newRef = () => `r${++refs}`

  function begin(start: Partial<Run>): Run {
    return (shown = current = {
      submission: null,
      tty: false,
      size: null,
      toldSize: null,
      submitRef: newRef(),
      key: newKey(),
      submits: 0,
      subscribeRef: null,
      stdinRef: null,
      resizeRef: null,
      cancelRef: null,
      id: null,
      after: 0,
      seen: 0,
      cancelled: false,
      over: false,
      input: newInput(),
      ...start,
    })
  }

  function end(): void {
    current = null
  }

  function gone(): void {
    end()
    view.finished({ id: '', verdict: 'cancelled', message: null, language: null, compile: null, run: null, attempts: 0 }, null, '')
  }

  function sendUnsent(): void {
    if (current !== null && current.id === null && current.submits === 0) sendSubmission(current)
  }

  function sendSubmission(run: Run): void {
    if (run.submission === null) return
    if (send({ type: 'submit', ref: run.submitRef, idempotency_key: run.key, submission: run.submission })) run.submits += 1
  }

  function subscribe(run: Run): void {
    if (run.id === null) return
    run.subscribeRef = newRef()
    send({ type: 'subscribe', ref: run.subscribeRef, id: run.id, after: run.after })
  }

  function sendCancel(run: Run): void {
    if (run.id === null) return
    run.cancelRef = newRef()
    send({ type: 'cancel', ref: run.cancelRef, id: run.id })
  }

  function replace(run: Run): void {
    end()
    if (run.over || (run.id === null && run.submits === 0)) return
    replaced.add(run)
    if (!run.cancelled) sendCancel(run)
    run.cancelled = true
  }

  /** True when the frame was for a run that has been replaced. */
  function forReplaced(frame: ServerFrame): boolean {
    if (frame.type === 'event') return false
    for (const run of replaced) {
      if (frame.ref === run.submitRef && run.id === null) {
        if (frame.type !== 'accepted') return replaced.delete(run)
        run.id = frame.id
        sendCancel(run)
        return true
      }
      if (frame.ref !== undefined && frame.ref === run.cancelRef) {
        if (frame.type === 'error' && frame.problem.status >= 500) setTimeout(() => sendCancel(run), unavailablePause)
        else replaced.delete(run)
        return true
      }
    }
    return false
  }

  function sendInput(run: Run): void {
    if (run.id === null) return
    const message = next(run.input)
    if (message === null) return
    run.stdinRef = newRef()
    if (!send({ type: 'stdin', ref: run.stdinRef, id: run.id, ...message })) again(run.input)
  }

  function sendSize(run: Run): void {
    if (run.id === null || run.over || run.size === null || run.resizeRef !== null) return
    if (run.size.rows === run.toldSize?.rows && run.size.cols === run.toldSize.cols) return
    const ref = newRef()
    if (!send({ type: 'resize', ref, id: run.id, ...run.size })) return
    run.resizeRef = ref
    run.toldSize = run.size
  }

  function accepted(run: Run, id: string): void {
    run.id = id
    if (run.cancelled) sendCancel(run)
    sendInput(run)
    sendSize(run)
  }

  function done(run: Run, ref: string | undefined): void {
    if (ref === run.resizeRef) {
      run.resizeRef = null
      return sendSize(run)
    }
    if (ref !== run.stdinRef) return
    run.stdinRef = null
    taken(run.input)
    sendInput(run)
  }

  function later(run: Run, action: () => void, pause: number): void {
    setTimeout(() => {
      if (current === run) action()
    }, pause)
  }

  function failed(run: Run, ref: string | undefined, problem: Problem): void {
    if (ref === run.submitRef && run.id === null) {
      if (passing.has(kind(problem))) {
        run.submits = 0 // The server says that it has not taken it.
        if (run.cancelled) return gone()
        view.away(false)
        return later(run, sendUnsent, awayPause)
      }
      end()
      view.refused(problem)
    } else if (ref === run.subscribeRef) {
      if (kind(problem) === 'events-reset' && run.after > 0) {
        run.after = run.seen = 0
        view.clear()
        subscribe(run)
      } else if (problem.status >= 500) {
        later(run, () => subscribe(run), unavailablePause)
      } else {
        end()
        shown = null
        if (run.over) view.forgotten()
        else view.lost(problem)
      }
    } else if (ref === run.stdinRef) {
      run.stdinRef = null
      if (kind(problem) === 'stdin-gap') {
        anew(run.input)
        return sendInput(run)
      }
      const full = kind(problem) === 'stdin-full'
      if (!full && problem.status < 500) return // It reads no more: the verdict will say why.
      again(run.input)
      later(run, () => sendInput(run), full ? stdinFullPause : unavailablePause)
    } else if (ref === run.resizeRef) {
      run.resizeRef = null
      run.toldSize = null
      if (problem.status >= 500) later(run, () => sendSize(run), unavailablePause)
    } else if (ref === run.cancelRef && problem.status >= 500) {
      later(run, () => sendCancel(run), unavailablePause)
    }
  }

  function happened(run: Run, event: Event, old: boolean): void {
    switch (event.name) {
      case 'queued':
        return view.queued(event.position, event.estimate_s)
      case 'started':
        if (event.attempt > 1) {
          view.clear()
          run.toldSize = null // It has the size of the submission.
        }
        return view.started(event.attempt, event.wall_time, event.idle)
      case 'stage':
        if (event.phase !== 'start') return
        sendSize(run)
        return view.stage(event.stage)
      case 'output':
        return view.output(event.stage, event.stream, event.data, old)
      case 'finished':
        end()
        return view.finished(event.result, null, '')
    }
  }

  return {
    current: () => current,
    shown() {
      if (shown === null || shown.id === null) return null
      const { id, tty, seen, input } = shown
      return { id, tty, seen, typed: unsent(input), over: shown !== current || shown.over }
    },
    submit(submission) {
      if (current !== null) replace(current)
      const size = submission.tty ?? null
      const started = begin({ submission, tty: size !== null, size, toldSize: size })
      sendSubmission(started) // Before anything is drawn, which takes longer.
      view.sending(started.tty)
      away = started.submits === 0
      if (away) view.away(false)
    },
    hurry: sendUnsent,
    resume({ id, tty, seen, typed, over }) {
      const resumed = begin({ id, tty, seen, over, input: newInput(typed) })
      view.resuming(tty)
      subscribe(resumed)
    },
    cancel() {
      const run = current
      if (run === null) return
      run.cancelled = true
      if (run.id !== null) return sendCancel(run)
      if (run.submits === 0) gone() // Never sent: there is nothing at the server to cancel.
    },
    type(data) {
      const run = current
      if (run === null || !run.tty || run.over) return true
      const added = add(run.input, data)
      sendInput(run)
      return added
    },
    resize(size) {
      if (current === null || !current.tty) return
      current.size = size
      sendSize(current)
    },
    probe() {
      if (current !== null) subscribe(current)
    },
    opened() {
      for (const each of replaced) {
        if (each.id !== null) sendCancel(each)
        else if (each.submits < mostSubmits) sendSubmission(each)
        else replaced.delete(each)
      }
      const run = current
      if (run === null) return
      if (run.id === null) return sendSubmission(run)
      subscribe(run)
      if (run.cancelled) sendCancel(run)
      sendInput(run)
      sendSize(run)
    },
    closed(code) {
      for (const each of replaced) if (code === 1009 && each.id === null) replaced.delete(each)
      const run = current
      if (run === null) return
      run.stdinRef = null
      again(run.input)
      if (run.resizeRef !== null) run.toldSize = null
      run.resizeRef = null
      if (run.id === null && run.submits > 0) {
        if (run.cancelled) return gone()
        if (code === 1009 || run.submits >= mostSubmits) {
          end()
          return view.refused(code === 1009 ? tooLarge : code === unheard ? noAnswer : unanswered)
        }
      }
      away = true
      view.away(run.id !== null)
    },
    frame(frame) {
      const run = current
      if (away && run !== null) view.back()
      away = false
      const goesOn = frame.type !== 'error' && !(frame.type === 'done' && frame.ref === run?.subscribeRef)
      if (forReplaced(frame) || run === null) return goesOn
      if (frame.type === 'accepted') {
        if (frame.ref === run.submitRef) accepted(run, frame.id)
      } else if (frame.type === 'done') {
        done(run, frame.ref)
      } else if (frame.type === 'error') {
        failed(run, frame.ref, frame.problem)
      } else if (frame.type === 'event') {
        if (frame.id !== run.id || frame.seq <= run.after) return goesOn
        run.after = frame.seq
        const old = run.after <= run.seen
        if (!old) run.seen = run.after
        happened(run, frame.event, old)
      }
      return goesOn
    },
  }
}
