import { bytes, ordinal, seconds } from './measures'
import type { Outcome, Problem, Result, StageName } from './messages'
import { newOutput } from './output'
import { page } from './page'
import { shown } from './pictures'
import type { RunView } from './run'
import { decisive, nothing, refusal, verdict } from './verdict'
import type { Tone, Verdict } from './verdict'

export interface Results extends RunView {
  /** Of the next run: its limit on the clock, if it is to be seen, and when its program began. */
  countTo(wall: number | null, began?: number | null): void
  clock(): { wall: number | null; began: number | null }
  /** Says where an old result is from; an empty text says that it is not old. */
  old(from: string): void
  /** Nothing is heard of the run, and this is why. */
  stuck(why: string): void
  idle(ready: boolean): void
  stopping(): void
  echo(text: string): void
}

const intro = 'What the program writes appears here.'

/** Everything the page shows of a run. `changed` is told when one began, moved on, or ended. */
export function newResults(changed: () => void): Results {
  const output = newOutput(page.output, true, (empty) => page.output.classList.toggle('empty', empty))
  const compileOutput = newOutput(page.compileOutput, false, (empty) => {
    page.compilePart.hidden = empty
  })
  const parts = { compile: compileOutput, run: output }
  let clock: ReturnType<typeof setInterval> | undefined
  let wall: number | null = null
  let began: number | null = null
  let compiling = false
  let busy = { text: '', detail: '' }
  let away = false
  let kept = ''
  let why = ''

  function say(tone: Tone, text: string, detail = ''): void {
    if (tone === 'busy') busy = { text, detail }
    away = false
    why = ''
    show(tone, text, detail)
  }

  function show(tone: Tone, text: string, detail: string): void {
    page.away.hidden = !away
    page.verdict.dataset['tone'] = tone
    // Setting the same words again would have them read aloud again.
    if (page.verdict.textContent !== text) page.verdict.textContent = text
    page.detail.textContent = detail
    page.detail.hidden = detail === ''
  }

  function showAway(): void {
    show('busy', 'Waiting for the server…', why === '' ? kept : `${kept} ${why}`)
  }

  function usage(outcome: Outcome | null): void {
    const figure = (value: number | null | undefined, format: (n: number) => string) =>
      value === null || value === undefined ? '–' : format(value)
    page.cpuTime.textContent = figure(outcome?.cpu_time, seconds)
    page.wallTime.textContent = figure(outcome?.wall_time, seconds)
    page.memory.textContent = figure(outcome?.memory, bytes)
  }

  function clear(): void {
    output.clear()
    compileOutput.clear()
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
    const most = wall === null || compiling ? '' : ` of ${wall} s`
    clock = setInterval(() => {
      page.wallTime.textContent = `${(Math.max(0, Date.now() - since) / 1000).toFixed(1)} s${most}`
    }, 100)
  }

  function stopClock(): void {
    clearInterval(clock)
    clock = undefined
  }

  function ended(how: Verdict): void {
    stopClock()
    output.end()
    compileOutput.end()
    say(how.tone, how.text, how.detail)
    changed()
  }

  page.copy.addEventListener('click', () => {
    navigator.clipboard?.writeText(output.text() || compileOutput.text()).then(
      () => flash(page.copy, 'Copied'),
      () => flash(page.copy, 'Not allowed'),
    )
  })
  // Browsers give the clipboard to secure pages only.
  page.copy.hidden = navigator.clipboard === undefined
  clear()
  placeholder(intro)

  return {
    clear,
    echo: (text) => output.echo(text),
    idle(ready) {
      if (page.verdict.dataset['tone'] === 'idle') say('idle', ready ? 'Ready' : 'Cannot run programs now')
    },
    stopping: () => say('busy', 'Stopping…'),
    countTo(most, since = null) {
      wall = most
      began = since
    },
    clock: () => ({ wall, began }),
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
    sending() {
      clear()
      say('busy', 'Sending…')
      changed()
    },
    resuming() {
      clear()
      say('busy', 'Looking for your last run…')
      changed()
    },
    away(accepted) {
      stopClock()
      if (!away) why = ''
      away = true
      kept = accepted ? 'Your program is kept, and what it writes will be shown here.' : 'Your program is kept and will run.'
      showAway()
    },
    back() {
      if (!away) return
      const { text, detail } = busy
      say('busy', text, detail)
      if (began !== null) startClock(began)
    },
    forgotten() {
      clear()
      placeholder(intro)
      say('idle', 'Ready')
      changed()
    },
    queued(position, estimate) {
      const place = position && position > 0 ? `, ${ordinal(position)} in line` : ''
      const wait = estimate && estimate >= 1 ? `About ${Math.ceil(estimate)} s to wait.` : ''
      say('busy', `Queued${place}`, wait)
      changed()
    },
    started(attempt) {
      if (attempt > 1) began = null
      say('busy', 'Starting…', attempt > 1 ? 'The machine it ran on was lost, so it starts again.' : '')
      changed()
    },
    stage(stage: StageName) {
      compiling = stage === 'compile'
      say('busy', compiling ? 'Compiling…' : 'Running…', busy.detail)
      if (compiling) startClock(Date.now())
      else startClock((began ??= Date.now()))
      changed()
    },
    output(stage, stream, data) {
      if (why !== '') say('busy', busy.text, busy.detail)
      parts[stage].write(stream, data)
    },
    finished(result: Result) {
      const outcome = decisive(result)
      usage(outcome)
      const left = shown(result)
      page.pictures.replaceChildren(...left)
      placeholder(left.length > 0 ? '' : nothing(result))
      page.result.classList.toggle('compiled-only', result.run === null)
      ended(verdict(result, result.verdict === 'runtime_error' ? output.text().slice(-4096) : ''))
    },
    refused: (problem: Problem) => ended(refusal(problem)),
    lost: (problem: Problem) =>
      ended({ tone: 'ours', text: 'Lost sight of this run', detail: problem.detail ?? problem.title }),
  }
}

function flash(button: HTMLButtonElement, text: string): void {
  const before = (button.dataset['text'] ??= button.textContent ?? '')
  button.textContent = text
  setTimeout(() => {
    button.textContent = before
  }, 1200)
}
