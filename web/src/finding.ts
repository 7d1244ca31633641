import { attempt } from './attempt'
import type { Editor } from './editor'
import type { Links, Named } from './links'
import type { Language, Result } from './messages'
import { page } from './page'
import { unixLines } from './program'
import { compilersPlace, firstProblem, newFinder, survived, toldOnStdout } from './problems'
import type { Finder, Place, Problem, Sources } from './problems'
import type { RunView } from './run'
import { newSaid } from './said'
import { say } from './say'
import { visible } from './visible'

/** In characters: who tells of a failure does so at the end. */
const mostSaid = 4096

/** The problems of the last run: in the editor, in a list, and one after the other. */
export interface Finding {
  /** What the page shows of a run, which from now on also tells of problems. */
  watch(view: RunView): RunView
  /** This runs now. */
  ran(language: Language, sources: Sources): void
  /** The languages are known, or another one is chosen. */
  show(language: Language): void
  /** Something is wrong in the file that is shown, whatever ran; or nothing is any more. */
  note(file: string, wrong: Pick<Problem, 'line' | 'message'> | null): void
  /** A file of the program that is shown has another name now. */
  renamed(from: string, to: string): void
  /** Goes to the next problem, or to the one before. */
  next(step: 1 | -1): void
  /** Goes to a place that the compiler named. */
  goTo(named: Named): void
}

export interface Program {
  language: Language
  sources: Sources
}

export interface FindingEvents {
  /** The program as it is, if it is shown and the result that is shown is of its language. */
  sources(): Program | null
  /** Brings the place into the editor, and the editor into sight. `file` is the file's name now. */
  go(place: Place, file: string): void
  /** The name under which the editor has a file. */
  name(language: string, file: string): string
}

export function newFinding(editor: Editor, links: Links, on: FindingEvents): Finding {
  const finders = new WeakMap<Language, Finder>()
  const list = document.createElement('ol')
  let said = newSaid()
  let running: Program | null = null
  let result: Result | null = null
  let chosen: string | null = null
  let language: string | null = null
  let problems: Problem[] = []
  /** What the files that ran are called now, where that is another name. */
  let names = new Map<string, string>()
  /** What is wrong whatever ran, and what its file is called now. */
  let noted: { problem: Problem; file: string; language: string }[] = []
  let at = -1

  const nameNow = (file: string) => names.get(file) ?? file
  const notedOf = (problem: Problem) => noted.find((each) => each.problem === problem)
  const fileOf = (problem: Problem) => notedOf(problem)?.file ?? nameNow(problem.file)

  /** All of the language that is shown. */
  function listed(): Problem[] {
    const own = noted.filter((each) => each.language === chosen)
    return [...own.map(({ problem }) => problem), ...(chosen === language ? problems : [])]
  }

  function clear(): void {
    said = newSaid()
    result = null
    noted = []
    put([])
  }

  /** What runs is known, or looked for after the page was loaded again. */
  function know(program: Program | null): void {
    if (program === null) return
    running = program
    names = new Map()
    links.of(program.sources)
    const { language: of, sources } = program
    editor.ran((name) => {
      const text = [...sources.files].find(([file]) => on.name(of.id, nameNow(file)) === name)?.[1]
      return text === undefined ? null : unixLines(text)
    })
  }

  /** A fault here takes nothing from the run, only its problems. */
  const find = () => attempt(look, () => put([]))

  function look(): void {
    if (running === null) know(on.sources())
    if (running === null || result === null) return
    const { sources } = running
    const finder = finders.get(running.language) ?? newFinder(running.language.problems)
    finders.set(running.language, finder)
    const found = [...finder('compile', said.text('compile'), sources), ...finder('run', said.text('run'), sources)]
    language = running.language.id
    put(result.verdict === 'ok' ? survived(found) : found)
  }

  function put(found: Problem[]): void {
    problems = found
    at = -1
    mark()
    draw()
  }

  function mark(): void {
    const files = new Map<string, Problem[]>()
    for (const problem of problems) {
      const name = on.name(language ?? '', nameNow(problem.file))
      files.set(name, [...(files.get(name) ?? []), problem])
    }
    const none: Problem[] = []
    editor.mark((name) => files.get(name) ?? none)
  }

  function draw(): void {
    const shown = listed()
    page.problems.classList.toggle('filled', shown.length > 0)
    list.replaceChildren(...shown.map(row))
    const worst = (['error', 'warning', 'note'] as const).find((each) => shown.some(({ severity }) => severity === each))
    for (const count of page.problemCounts) {
      count.dataset['severity'] = worst ?? ''
      count.textContent = String(shown.length)
      count.hidden = shown.length === 0
    }
    page.toProblems.hidden = shown.length === 0
  }

  function row(problem: Problem, index: number): HTMLElement {
    const button = document.createElement('button')
    button.type = 'button'
    button.dataset['severity'] = problem.severity
    button.dataset['testid'] = 'problem'
    button.append(
      part('hidden', `${say(`severity_${problem.severity}`)}: `),
      part('what', problem.message),
      part('where', place(problem, fileOf(problem))),
    )
    button.addEventListener('click', () => go(index))
    const item = document.createElement('li')
    item.append(button)
    return item
  }

  function go(index: number): void {
    const problem = listed()[index]
    if (problem === undefined) return
    at = index
    for (const [i, item] of [...list.children].entries()) {
      if (i === index) item.setAttribute('aria-current', 'true')
      else item.removeAttribute('aria-current')
    }
    list.children[index]?.scrollIntoView({ block: 'nearest' })
    on.go(problem, fileOf(problem))
    page.problemTold.textContent = say('problem_told', {
      at: index + 1,
      n: listed().length,
      severity: say(`severity_${problem.severity}`),
      message: problem.message,
      place: place(problem, fileOf(problem)),
    })
  }

  function decisive(ended: Result): Decisive | null {
    const problem = ended.verdict === 'ok' ? null : firstProblem(ended.run === null ? 'compile' : 'run', problems)
    if (problem === null) return null
    const more = problems.filter(({ severity, source }) => severity === 'error' && source === problem.source).length - 1
    const file = problem.file === running?.sources.main ? null : problem.file
    return { problem, file, more, go: () => go(listed().indexOf(problem)) }
  }

  /** From one problem to the next, and around. */
  function next(step: 1 | -1): void {
    const { length } = list.children
    if (length === 0) page.problemTold.textContent = say('no_problems')
    else go(step === -1 ? (at <= 0 ? length : at) - 1 : (at + 1) % length)
  }

  page.problems.append(list)

  return {
    watch: (view) => ({
      ...view,
      clear() {
        clear()
        view.clear()
      },
      sending(tty) {
        clear()
        view.sending(tty)
      },
      resuming(tty) {
        running = null
        clear()
        view.resuming(tty)
      },
      forgotten() {
        clear()
        view.forgotten()
      },
      stage(stage) {
        if (running === null) know(on.sources())
        view.stage(stage)
      },
      output(stage, stream, data, old) {
        const tells = stage !== 'run' || stream !== 'stdout' || (running !== null && toldOnStdout(running.language.problems))
        if (tells) said.add(stage, stream, data)
        view.output(stage, stream, data, old)
      },
      finished(ended) {
        result = ended
        find()
        view.finished(ended, decisive(ended), ended.verdict === 'runtime_error' ? said.text('run').slice(-mostSaid) : '')
      },
    }),
    ran: (of, sources) => know({ language: of, sources }),
    goTo({ file, line, col }) {
      // Another language's program may be in the editor by now.
      if (running === null || running.language.id !== chosen) return
      const { sources } = running
      const place = compilersPlace(running.language.problems, file, line, col, sources)
      if (place === null) return
      const known = listed().findIndex((each) => notedOf(each) === undefined && each.file === place.file && each.line === place.line && each.col === place.col)
      if (known === -1) on.go(place, nameNow(place.file))
      else go(known)
    },
    note(file, wrong) {
      if (chosen === null) return
      const problem: Problem | null = wrong && { ...wrong, file, col: null, endCol: null, severity: 'error', code: null, source: 'compile' }
      noted = noted.filter((each) => each.file !== file || each.language !== chosen)
      if (problem !== null) noted.push({ problem, file, language: chosen })
      editor.note(problem)
      at = -1
      draw()
    },
    renamed(from, to) {
      for (const each of noted) if (each.file === from && each.language === chosen) each.file = to
      draw()
      const [ran = from] = [...names].find(([, name]) => name === from) ?? []
      if (running === null || running.language.id !== chosen || !running.sources.files.has(ran)) return
      names.set(ran, to)
      mark()
      draw()
    },
    next,
    show({ id }) {
      chosen = id
      if (running === null) find()
      draw()
    },
  }
}

/** The problem that made the program fail, and how many others of its stage there are. */
export interface Decisive {
  problem: Problem
  /** Where it is, unless in the file that runs. */
  file: string | null
  more: number
  go(): void
}

function part(name: string, text: string): HTMLElement {
  const span = document.createElement('span')
  span.className = name
  span.textContent = visible(text)
  return span
}

/** As compilers write it. */
function place({ line, col }: Problem, file: string): string {
  return col === null ? `${file}:${line}` : `${file}:${line}:${col}`
}
