import type { Editor } from './editor'
import type { Language, Result } from './messages'
import { page } from './page'
import { firstProblem, newFinder, survived } from './problems'
import type { Finder, Problem, Sources } from './problems'
import type { RunView } from './run'
import { newSaid } from './said'
import { say } from './say'

/** The problems of the last run: in the editor, in a list, and one after the other. */
export interface Finding {
  /** What the page shows of a run, which from now on also tells of problems. */
  watch(view: RunView): RunView
  /** This runs now. */
  ran(language: Language, sources: Sources): void
  /** The languages are known, or another one is chosen. */
  show(language: Language): void
}

export interface FindingEvents {
  /** The program of this language as it is, for a run of which only its language is known. */
  sources(language: string): { language: Language; sources: Sources } | null
  /** Brings the place into the editor, and the editor into sight. */
  go(problem: Problem): void
  /** The name under which the editor has a file. */
  name(language: string, file: string): string
}

export function newFinding(editor: Editor, on: FindingEvents): Finding {
  const finders = new WeakMap<Language, Finder>()
  const list = document.createElement('ol')
  let said = newSaid()
  let running: { language: Language; sources: Sources } | null = null
  let result: Result | null = null
  let chosen: string | null = null
  let language: string | null = null
  let problems: Problem[] = []
  let at = -1

  function clear(): void {
    said = newSaid()
    result = null
    put([])
  }

  function find(): void {
    if (result === null) return
    if (running === null) {
      running = result.language === null ? null : on.sources(result.language.id)
      if (running === null) return
      editor.ran()
    }
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
    const files = new Map<string, Problem[]>()
    for (const problem of problems) {
      const name = on.name(language ?? '', problem.file)
      files.set(name, [...(files.get(name) ?? []), problem])
    }
    const none: Problem[] = []
    editor.mark((name) => files.get(name) ?? none)
    draw()
  }

  function draw(): void {
    const shown = chosen === language ? problems : []
    page.problems.classList.toggle('filled', shown.length > 0)
    list.replaceChildren(...shown.map(row))
    for (const count of page.problemCounts) {
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
      part('where', place(problem)),
    )
    button.addEventListener('click', () => go(index))
    const item = document.createElement('li')
    item.append(button)
    return item
  }

  function go(index: number): void {
    const problem = problems[index]
    if (problem === undefined) return
    at = index
    for (const [i, item] of [...list.children].entries()) {
      if (i === index) item.setAttribute('aria-current', 'true')
      else item.removeAttribute('aria-current')
    }
    list.children[index]?.scrollIntoView({ block: 'nearest' })
    on.go(problem)
    page.problemTold.textContent = say('problem_told', {
      at: index + 1,
      n: problems.length,
      severity: say(`severity_${problem.severity}`),
      message: problem.message,
      place: place(problem),
    })
  }

  function decisive(ended: Result): Decisive | null {
    const problem = ended.verdict === 'ok' ? null : firstProblem(ended.run === null ? 'compile' : 'run', problems)
    if (problem === null) return null
    const more = problems.filter(({ severity, source }) => severity === 'error' && source === problem.source).length - 1
    return { problem, more, go: () => go(problems.indexOf(problem)) }
  }

  document.addEventListener('keydown', (key) => {
    if (key.key !== 'F8' || key.ctrlKey || key.altKey || key.metaKey) return
    key.preventDefault()
    const { length } = list.children
    if (length === 0) page.problemTold.textContent = say('no_problems')
    else go(key.shiftKey ? (at <= 0 ? length : at) - 1 : (at + 1) % length)
  })
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
      output(stage, stream, data, old) {
        said.add(stage, stream, data)
        view.output(stage, stream, data, old)
      },
      finished(ended) {
        result = ended
        find()
        view.finished(ended, decisive(ended))
      },
    }),
    ran(of, sources) {
      running = { language: of, sources }
      editor.ran()
    },
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
  more: number
  go(): void
}

function part(name: string, text: string): HTMLElement {
  const span = document.createElement('span')
  span.className = name
  span.textContent = text
  return span
}

/** As compilers write it. */
function place({ file, line, col }: Problem): string {
  return col === null ? `${file}:${line}` : `${file}:${line}:${col}`
}
