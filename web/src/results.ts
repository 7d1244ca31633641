import { bytes, ordinal, seconds } from './measures'
import type { Outcome, Problem, Result, StageName } from './messages'
import { newOutput } from './output'
import { page } from './page'
import type { RunView } from './run'
import { decisive, refusal, verdict } from './verdict'
import type { Tone, Verdict } from './verdict'

export interface Results extends RunView {
  idle(ready: boolean): void
  stopping(): void
  echo(text: string): void
}

/** Everything the page shows of a run. `changed` is told when one began, moved on, or ended. */
export function newResults(changed: () => void): Results {
  const output = newOutput(page.output, (empty) => page.output.classList.toggle('empty', empty))
  const compileOutput = newOutput(page.compileOutput, (empty) => {
    page.compilePart.hidden = empty
  })
  const parts = { compile: compileOutput, run: output }
  let clock: ReturnType<typeof setInterval> | undefined
  let since = 0

  function say(tone: Tone, text: string, detail = ''): void {
    page.verdict.dataset['tone'] = tone
    // Setting the same words again would have them read aloud again.
    if (page.verdict.textContent !== text) page.verdict.textContent = text
    page.detail.textContent = detail
    page.detail.hidden = detail === ''
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
    stopClock()
    usage(null)
    placeholder('')
  }

  function placeholder(text: string): void {
    page.output.dataset['placeholder'] = text
  }

  function startClock(): void {
    stopClock()
    since = performance.now()
    clock = setInterval(() => {
      page.wallTime.textContent = `${((performance.now() - since) / 1000).toFixed(1)} s`
    }, 100)
  }

  function stopClock(): void {
    clearInterval(clock)
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
  placeholder('What the program writes appears here.')

  return {
    clear,
    echo: (text) => output.echo(text),
    idle(ready) {
      if (page.verdict.dataset['tone'] === 'idle') say('idle', ready ? 'Ready' : 'Cannot run programs now')
    },
    stopping: () => say('busy', 'Stopping…'),
    sending() {
      clear()
      say('busy', 'Sending…')
      changed()
    },
    queued(position, estimate) {
      const place = position && position > 0 ? `, ${ordinal(position)} in line` : ''
      const wait = estimate && estimate >= 1 ? `About ${Math.ceil(estimate)} s to wait.` : ''
      say('busy', `Queued${place}`, wait)
      changed()
    },
    started(attempt) {
      say('busy', 'Starting…', attempt > 1 ? 'The machine it ran on was lost, so it starts again.' : '')
      changed()
    },
    stage(stage: StageName) {
      say('busy', stage === 'compile' ? 'Compiling…' : 'Running…', page.detail.textContent)
      startClock()
      changed()
    },
    output: (stage, stream, data) => parts[stage].write(stream, data),
    finished(result: Result) {
      const outcome = decisive(result)
      usage(outcome)
      placeholder(result.run === null ? 'The program did not run.' : 'The program wrote nothing.')
      ended(verdict(result))
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
