import { mostCounted, newAnnouncer } from './announce'
import { newBinary } from './binary'
import { chunk } from './chunk'
import { newCompiled } from './compiled'
import { setHidden } from './elements'
import type { Decisive } from './finding'
import { newHeadline } from './headline'
import { keyName } from './keys'
import { bytes, ordinal, seconds } from './measures'
import type { Outcome, Problem, Result, Size, StageName } from './messages'
import { newOutput } from './output'
import { page } from './page'
import { shown } from './pictures'
import { refusal } from './refusal'
import type { RunView } from './run'
import { say } from './say'
import type { Screen } from './screen'
import { steady } from './steady'
import { store } from './store'
import { newStrip } from './strip'
import { newTaking } from './taking'
import { decisive, nothing, verdict } from './verdict'
import type { Limits, Tone, Verdict } from './verdict'

/** What the page knows of a run that the server does not tell. Times by `steady.ts`. */
export interface Facts {
  /** When the program began. */
  began: number | null
  /** When something was typed last. */
  typed: number
  limits: Limits | null
  /** There was something under Input. */
  hadInput: boolean
  /** Of the submission, in bytes. */
  size: number
}

export interface Results extends RunView {
  /** Shows an empty terminal for the next run, and says what it has room for. */
  terminal(): Size
  readonly facts: Facts
  /** Says where an old result is from; an empty text says that it is not old. */
  old(from: string): void
  /** Nothing is heard of the run, and this is why. */
  stuck(why: string): void
  /** The end of the run could not be shown. */
  broken(): void
  idle(ready: boolean): void
  /** Run was asked for, and the languages are not yet there. */
  waiting(): void
  stopping(): void
  /** To who hears the page. */
  say(what: string): void
  /** The name of the program. */
  file(name: string): void
  /** Too much was typed or pasted. */
  tooMuch(): void
}

/** The end of what was written to the pipes that tells why a program failed, in characters. */
const mostRead = 4096

/** Everything the page shows of a run. `changed` is told when one began, moved on, or ended. */
export function newResults(screen: Screen, linked: (text: string) => HTMLElement | null, changed: () => void): Results {
  const output = newOutput(page.output, true, (empty) => page.output.classList.toggle('empty', empty))
  const compileOutput = newCompiled(linked)
  const raw = newBinary()
  const announcer = newAnnouncer(page.announce)
  const headline = newHeadline()
  const strip = newStrip((tone, words) => {
    headline.tone(tone)
    if (tone === 'busy') announcer.busy(words)
    else if (tone === 'idle') announcer.idle()
  })
  const taking = newTaking(written, raw, announcer.say)
  let clock: ReturnType<typeof setInterval> | undefined
  const facts: Facts = { began: null, typed: 0, limits: null, hadInput: false, size: 0 }
  // In seconds, if they are to be counted down.
  let wall: number | null = null
  let idle: number | null = null
  let compiling = false
  let busy = { headline: '', line: '' }
  let traced: Result | null = null
  let complained = false
  let away = false
  let kept = ''
  // Where the program writes: the terminal, or the plain pane.
  let tty = false
  let why = ''

  function tell(tone: Tone, headline: string, line = '', offers: Verdict['offers'] = [], go: (() => void) | null = null): void {
    if (tone === 'busy') busy = { headline, line }
    away = false
    why = ''
    strip.show(tone, headline, line, offers, go)
  }

  function showAway(): void {
    strip.show('busy', say('away'), why === '' ? kept : `${kept} ${why}`, ['try-now'])
  }

  /** What the run wrote, or the compiler when there was no run. */
  function written(): string {
    return (tty ? screen : output).text() || compileOutput.text()
  }

  function usage(outcome: Outcome | null): void {
    const figure = (value: number | null | undefined, format: (n: number) => string) =>
      value === null || value === undefined ? '–' : format(value)
    page.usage.hidden = outcome === null
    page.cpuTime.textContent = figure(outcome?.cpu_time, seconds)
    page.wallTime.textContent = figure(outcome?.wall_time, seconds)
    page.memory.textContent = figure(outcome?.memory, bytes)
  }

  /** Few want it, so what draws it comes when it is wanted. */
  async function showTrace(result: Result): Promise<void> {
    traced = result
    const { trace } = result
    if (trace === undefined || trace === null) return
    const { draw } = await chunk(import('./traced'))
    if (traced === result) draw(page.trace, { ...result, trace })
  }

  function clear(): void {
    output.clear()
    compileOutput.clear()
    compileOutput.fold(false)
    raw.clear()
    taking.showBinary(false)
    complained = false
    pane(tty)
    if (tty) screen.begin()
    page.pictures.replaceChildren()
    traced = null
    setHidden(page.trace, true)
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
      page.runKey.textContent = `${(Math.max(0, steady() - since) / 1000).toFixed(1)} s`
      strip.left(left)
    }, 100)
  }

  /** Until the program is ended. A program that is busy has longer than we know. */
  function secondsLeft(since: number): number | null {
    const ends = [
      ...(wall === null ? [] : [since + 1000 * wall]),
      ...(idle === null ? [] : [Math.max(since, facts.typed) + 1000 * idle]),
    ]
    const left = (Math.min(...ends) - steady()) / 1000
    return ends.length > 0 && left > 0 ? left : null
  }

  function pane(terminal: boolean): void {
    setHidden(page.terminal, !terminal)
    setHidden(page.output, terminal)
  }

  function stopClock(): void {
    clearInterval(clock)
    clock = undefined
    strip.left(null)
  }

  function ended(how: Verdict, go: (() => void) | null = null): void {
    stopClock()
    output.end()
    compileOutput.end()
    if (tty) screen.end()
    if (tty && screen.empty) pane(false)
    if (raw.isBinary) {
      page.output.hidden = page.terminal.hidden = true
      taking.showBinary(true)
    }
    tell(how.tone, how.headline, how.line, how.offers, go)
    const much = (tty ? screen : output).length > mostCounted
    announcer.ended(how.headline, how.line, raw.isBinary ? '' : much ? null : written())
    changed()
  }

  clear()
  placeholder(say('intro', { key: keyName('Mod-Enter') }))

  return {
    clear,
    terminal() {
      // What it had is older than what was shown until now.
      if (page.terminal.hidden) screen.begin()
      pane(true)
      return screen.size()
    },
    broken() {
      stopClock()
      tell('ours', say('page_failed'), say('page_failed_line'), ['run-again'])
      changed()
    },
    idle(ready) {
      if (page.verdict.dataset['tone'] === 'idle') tell('idle', say(ready ? 'ready' : 'cannot_run'))
    },
    waiting: () => tell('busy', say('connecting_first')),
    stopping: () => tell('busy', say('stopping')),
    tooMuch: () => strip.show('busy', busy.headline, say('too_much')),
    facts,
    file: headline.file,
    say: announcer.say,
    old(from) {
      if (page.old.textContent === from) return
      page.old.textContent = from
      page.old.hidden = from === ''
      document.body.classList.toggle('old', from !== '')
    },
    stuck(reason) {
      why = reason
      if (away) showAway()
      else strip.show('busy', busy.headline, reason)
    },
    sending(terminal) {
      tty = terminal
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
      tell('busy', busy.headline, busy.line)
      if (facts.began !== null) startClock(facts.began)
    },
    forgotten() {
      tty = false
      clear()
      placeholder(say('intro', { key: keyName('Mod-Enter') }))
      tell('idle', say('ready'))
      changed()
    },
    queued(position, estimate) {
      const place = position && position > 0 ? say('queued_at', { place: ordinal(position) }) : say('queued')
      tell('busy', estimate && estimate >= 1 ? say('queued_soon', { queued: place, n: Math.ceil(estimate) }) : place)
      changed()
    },
    started(attempt, mostWall, mostIdle) {
      if (attempt > 1) facts.began = null
      wall = mostWall
      idle = mostIdle
      tell('busy', say('starting'), attempt > 1 ? say(tty ? 'starts_again_typed' : 'starts_again') : '')
      changed()
    },
    stage(stage: StageName) {
      compiling = stage === 'compile'
      if (!compiling) compileOutput.fold(true)
      tell('busy', say(compiling ? 'compiling' : 'running'), busy.line)
      if (compiling) startClock(steady())
      else startClock((facts.began ??= steady()))
      changed()
    },
    output(stage, stream, data, old) {
      if (why !== '') tell('busy', busy.headline, busy.line)
      if (stage === 'run') {
        raw.add(data)
        complained ||= stream === 'stderr'
      }
      if (stream === 'tty') screen.write(data, old)
      else if (stage === 'compile') compileOutput.write(stream, data)
      else output.write(stream, data)
    },
    finished(result: Result, decided: Decisive | null, said: string) {
      const outcome = decisive(result)
      usage(outcome)
      const left = shown(result)
      page.pictures.replaceChildren(...left)
      showTrace(result).catch(() => undefined)
      placeholder(left.length > 0 ? '' : nothing(result, tty, store.get('has-printed') === null))
      page.result.classList.toggle('compiled-only', result.run === null)
      if (raw.size > 0) store.set('has-printed', 'yes')
      const end = result.verdict === 'runtime_error' && !tty ? output.last(mostRead) : ''
      const first = decided === null ? null : { ...decided.problem, file: decided.file, more: decided.more }
      ended(verdict(result, { first, output: end, said, complained, hadInput: facts.hadInput, limits: facts.limits }), decided?.go ?? null)
    },
    refused: (problem: Problem) => ended(refusal(problem, facts.size)),
    lost: (problem: Problem) => ended({ tone: 'ours', headline: say('lost'), line: problem.detail ?? problem.title }),
  }
}
