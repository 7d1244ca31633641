import { runKeyName } from './keys'
import { bytes, minutes, ordinal, seconds } from './measures'
import type { Outcome, Problem, Result, Size, StageName } from './messages'
import { newOutput } from './output'
import { page } from './page'
import { shown } from './pictures'
import type { RunView } from './run'
import { say } from './say'
import type { Screen } from './screen'
import { decisive, nothing, refusal, verdict } from './verdict'
import type { Tone, Verdict } from './verdict'

/** By our clock, in milliseconds. */
export interface Times {
  /** When the program began. */
  began: number | null
  /** When something was typed last. */
  typed: number
}

export interface Results extends RunView {
  /** Shows an empty terminal for the next run, and says what it has room for. */
  terminal(): Size
  readonly times: Times
  /** Says where an old result is from; an empty text says that it is not old. */
  old(from: string): void
  /** Nothing is heard of the run, and this is why. */
  stuck(why: string): void
  idle(ready: boolean): void
  /** Run was asked for, and the languages are not yet there. */
  waiting(): void
  stopping(): void
  /** Too much was typed or pasted. */
  tooMuch(): void
}

/** Everything the page shows of a run. `changed` is told when one began, moved on, or ended. */
export function newResults(screen: Screen, linked: (text: string) => HTMLElement | null, changed: () => void): Results {
  const output = newOutput(page.output, true, (empty) => page.output.classList.toggle('empty', empty))
  const compileOutput = newOutput(page.compileOutput, false, (empty) => {
    page.compilePart.hidden = empty
  }, linked)
  let clock: ReturnType<typeof setInterval> | undefined
  const times: Times = { began: null, typed: 0 }
  // In seconds, if they are to be counted down.
  let wall: number | null = null
  let idle: number | null = null
  let compiling = false
  let busy = { text: '', detail: '' }
  let away = false
  let kept = ''
  // Where the program writes: the terminal, or the plain pane.
  let tty = false
  let why = ''

  function tell(tone: Tone, text: string, detail = ''): void {
    if (tone === 'busy') busy = { text, detail }
    away = false
    why = ''
    show(tone, text, detail)
  }

  function show(tone: Tone, text: string, detail: string): void {
    page.away.hidden = !away
    page.verdict.dataset['tone'] = page.toOutput.dataset['tone'] = tone
    // Setting the same words again would have them read aloud again.
    if (page.verdict.textContent !== text) page.verdict.textContent = text
    page.detail.textContent = detail
    page.detail.hidden = detail === ''
  }

  function showAway(): void {
    show('busy', say('away'), why === '' ? kept : `${kept} ${why}`)
  }

  function usage(outcome: Outcome | null): void {
    const figure = (value: number | null | undefined, format: (n: number) => string) =>
      value === null || value === undefined ? '–' : format(value)
    page.usage.hidden = outcome === null
    page.cpuTime.textContent = figure(outcome?.cpu_time, seconds)
    page.wallTime.textContent = figure(outcome?.wall_time, seconds)
    page.memory.textContent = figure(outcome?.memory, bytes)
  }

  function clear(): void {
    output.clear()
    compileOutput.clear()
    pane(tty)
    if (tty) screen.begin()
    page.pictures.replaceChildren()
    stopClock()
    usage(null)
    placeholder('')
    page.result.classList.remove('compiled-only')
  }

  function placeholder(text: string): void {
    page.output.dataset['placeholder'] = text
  }

  function startClock(since: number): void {
    stopClock()
    clock = setInterval(() => {
      const left = compiling ? null : secondsLeft(since)
      page.runKey.textContent = `${(Math.max(0, Date.now() - since) / 1000).toFixed(1)} s`
      page.left.textContent = left === null ? '' : say('left', { left: minutes(left) })
    }, 100)
  }

  /** Until the program is ended. A program that is busy has longer than we know. */
  function secondsLeft(since: number): number | null {
    const ends = [
      ...(wall === null ? [] : [since + 1000 * wall]),
      ...(idle === null ? [] : [Math.max(since, times.typed) + 1000 * idle]),
    ]
    const left = (Math.min(...ends) - Date.now()) / 1000
    return ends.length > 0 && left > 0 ? left : null
  }

  function pane(terminal: boolean): void {
    page.terminal.hidden = !terminal
    page.output.hidden = terminal
  }


  function stopClock(): void {
    clearInterval(clock)
    clock = undefined
    page.left.textContent = ''
  }

  function ended(how: Verdict): void {
    stopClock()
    output.end()
    compileOutput.end()
    if (tty) screen.end()
    if (tty && screen.empty) pane(false)
    tell(how.tone, how.text, how.detail)
    changed()
  }

  page.copy.addEventListener('click', () => {
    navigator.clipboard?.writeText((tty ? screen : output).text() || compileOutput.text()).then(
      () => flash(page.copy, say('copied')),
      () => flash(page.copy, say('not_allowed')),
    )
  })
  // Browsers give the clipboard to secure pages only.
  page.copy.hidden = navigator.clipboard === undefined
  clear()
  placeholder(say('intro', { key: runKeyName }))

  return {
    clear,
    terminal() {
      tty = true
      clear()
      return screen.size()
    },
    idle(ready) {
      if (page.verdict.dataset['tone'] === 'idle') tell('idle', say(ready ? 'ready' : 'cannot_run'))
    },
    waiting: () => tell('busy', say('connecting_first')),
    stopping: () => tell('busy', say('stopping')),
    tooMuch: () => show('busy', busy.text, say('too_much')),
    times,
    old(from) {
      page.old.textContent = from
      page.old.hidden = from === ''
      document.body.classList.toggle('old', from !== '')
    },
    stuck(reason) {
      why = reason
      if (away) showAway()
      else show('busy', busy.text, reason)
    },
    sending(terminal) {
      tty = terminal
      times.began = null
      times.typed = 0
      clear()
      tell('busy', say('sending'))
      changed()
    },
    resuming(terminal) {
      tty = terminal
      clear()
      tell('busy', say('resuming'))
      changed()
    },
    away(accepted) {
      stopClock()
      if (!away) why = ''
      away = true
      kept = say(accepted ? 'away_runs' : 'away_kept')
      showAway()
    },
    back() {
      if (!away) return
      const { text, detail } = busy
      tell('busy', text, detail)
      if (times.began !== null) startClock(times.began)
    },
    forgotten() {
      tty = false
      clear()
      placeholder(say('intro', { key: runKeyName }))
      tell('idle', say('ready'))
      changed()
    },
    queued(position, estimate) {
      const place = position && position > 0 ? say('queued_at', { place: ordinal(position) }) : say('queued')
      tell('busy', place, estimate && estimate >= 1 ? say('queued_wait', { n: Math.ceil(estimate) }) : '')
      changed()
    },
    started(attempt, mostWall, mostIdle) {
      if (attempt > 1) times.began = null
      wall = mostWall
      idle = mostIdle
      tell('busy', say('starting'), attempt > 1 ? say(tty ? 'starts_again_typed' : 'starts_again') : '')
      changed()
    },
    stage(stage: StageName) {
      compiling = stage === 'compile'
      tell('busy', say(compiling ? 'compiling' : 'running'), busy.detail)
      if (compiling) startClock(Date.now())
      else startClock((times.began ??= Date.now()))
      changed()
    },
    output(stage, stream, data, old) {
      if (why !== '') tell('busy', busy.text, busy.detail)
      if (stream === 'tty') screen.write(data, old)
      else if (stage === 'compile') compileOutput.write(stream, data)
      else output.write(stream, data)
    },
    finished(result: Result) {
      const outcome = decisive(result)
      usage(outcome)
      const left = shown(result)
      page.pictures.replaceChildren(...left)
      placeholder(left.length > 0 ? '' : nothing(result, tty))
      page.result.classList.toggle('compiled-only', result.run === null)
      ended(verdict(result, result.verdict === 'runtime_error' && !tty ? output.text().slice(-4096) : ''))
    },
    refused: (problem: Problem) => ended(refusal(problem)),
    lost: (problem: Problem) =>
      ended({ tone: 'ours', text: say('lost'), detail: problem.detail ?? problem.title }),
  }
}

function flash(button: HTMLButtonElement, text: string): void {
  const before = (button.dataset['text'] ??= button.textContent ?? '')
  button.textContent = text
  setTimeout(() => {
    button.textContent = before
  }, 1200)
}
