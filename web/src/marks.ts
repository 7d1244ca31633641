import { ChangeSet, RangeSet, StateEffect, StateField, Text } from '@codemirror/state'
import type { ChangeDesc, Extension, Range, Transaction } from '@codemirror/state'
import { Decoration, EditorView, GutterMarker, gutterLineClass, hoverTooltip, showTooltip } from '@codemirror/view'
import type { DecorationSet, Tooltip } from '@codemirror/view'
import { difference } from './difference'
import type { Place, Problem, Severity } from './problems'
import { say } from './say'
import { visible } from './visible'

/** Shows problems of the last run in the text that it ran, whatever has been written since. */
export interface Marks {
  readonly extension: Extension
  /** The text that is shown is what runs, and so are others by their names: no mark of an earlier run stays. */
  ran(view: EditorView, textOf: TextOf): void
  /** The problems of the run, for each text by its name. */
  found(view: EditorView, name: string, problemsOf: (name: string) => readonly Problem[]): void
  /** Another text is shown. It may have become another one since the run while it was not shown. */
  opened(view: EditorView, name: string): void
  /** A problem of the text as it is now, or none any more. */
  note(view: EditorView, problem: Problem | null): void
  /** Goes to where a place of the run is now. A problem is told. */
  go(view: EditorView, place: Place): void
}

/** The text that ran under a name, or null. */
export type TextOf = (name: string) => string | null

interface Placed {
  problem: Problem
  from: number
  to: number
  /** Nothing was changed there since. */
  live: boolean
  /** Not of the run. */
  noted: boolean
}

interface Marked {
  run: number
  /** The text that ran, and what has been changed since. */
  ran: Text | null
  since: ChangeDesc | null
  problems: readonly Problem[]
  placed: readonly Placed[]
  /** The problems that are told at the cursor. */
  told: readonly Placed[]
  decorations: DecorationSet
  gutter: RangeSet<GutterMarker>
}

const began = StateEffect.define<Pick<Marked, 'run' | 'ran' | 'since'>>()
const found = StateEffect.define<readonly Problem[]>()
const notes = StateEffect.define<Problem | null>()
const tells = StateEffect.define<Place>()

const severities: readonly Severity[] = ['note', 'warning', 'error']
const none: readonly Problem[] = []

class Sign extends GutterMarker {
  override elementClass: string
  constructor(severity: Severity) {
    super()
    this.elementClass = `cm-sign-${severity}`
  }
}

const signs = { note: new Sign('note'), warning: new Sign('warning'), error: new Sign('error') }
const squiggles = {
  note: Decoration.mark({ class: 'cm-problem cm-problem-note' }),
  warning: Decoration.mark({ class: 'cm-problem cm-problem-warning' }),
  error: Decoration.mark({ class: 'cm-problem cm-problem-error' }),
}

const empty: Marked = {
  ...{ run: 0, ran: null, since: null, problems: none, placed: [], told: [] },
  decorations: Decoration.none,
  gutter: RangeSet.empty,
}

const marked = StateField.define<Marked>({
  create: () => empty,
  update(value, transaction) {
    if (transaction.docChanged) value = changed(value, transaction)
    if (transaction.selection !== undefined) value = { ...value, told: pointed(value, transaction) }
    for (const effect of transaction.effects) {
      if (effect.is(began)) value = { ...empty, ...effect.value }
      if (effect.is(found)) value = drawn({ ...value, problems: effect.value, placed: [...value.placed.filter(({ noted }) => noted), ...places(value, effect.value)], told: [] }, transaction.newDoc)
      if (effect.is(notes)) value = drawn({ ...value, placed: [...note(effect.value, transaction.newDoc), ...value.placed.filter(({ noted }) => !noted)], told: [] }, transaction.newDoc)
      if (effect.is(tells)) value = { ...value, told: value.placed.filter(({ problem, live }) => live && problem === effect.value) }
    }
    return value
  },
  provide: (field) => [
    EditorView.decorations.from(field, ({ decorations }) => decorations),
    gutterLineClass.from(field, ({ gutter }) => gutter),
    showTooltip.from(field, ({ told }) => tooltip(told)),
  ],
})

function changed(value: Marked, { changes, newDoc }: Transaction): Marked {
  const since = value.ran === null ? null : (value.since?.composeDesc(changes.desc) ?? changes.desc)
  if (value.placed.length === 0) return { ...value, since }
  return drawn({ ...value, since, placed: value.placed.map((each) => moved(each, changes)), told: [] }, newDoc)
}

function moved(placed: Placed, changes: ChangeDesc | ChangeSet): Placed {
  const from = changes.mapPos(placed.from, 1)
  return {
    ...placed,
    from,
    to: Math.max(from, changes.mapPos(placed.to, -1)),
    live: placed.live && !changes.touchesRange(placed.from, placed.to),
  }
}

/** Those that were clicked on. */
function pointed({ placed }: Marked, transaction: Transaction): Placed[] {
  const at = transaction.newSelection.main
  if (!transaction.isUserEvent('select.pointer') || !at.empty) return []
  return placed.filter(({ from, to, live }) => live && from <= at.head && at.head <= to)
}

function places({ ran, since }: Marked, problems: readonly Problem[]): Placed[] {
  if (ran === null) return []
  return problems.map((problem) => {
    const placed = { problem, ...range(problem, ran), live: true, noted: false }
    return since === null ? placed : moved(placed, since)
  })
}

function note(problem: Problem | null, doc: Text): Placed[] {
  return problem === null ? [] : [{ problem, ...range(problem, doc), live: true, noted: true }]
}

function whereNow({ ran, since, placed }: Marked, place: Place): number | null {
  const noted = placed.find((each) => each.noted && each.problem === place)
  if (noted !== undefined) return noted.from
  if (ran === null) return null
  const { from } = range(place, ran)
  return since?.mapPos(from, 1) ?? from
}

/** What is marked: what is told, or else the word there, or else the line. */
function range({ line: number, col, endCol }: Place, doc: Text): { from: number; to: number } {
  const line = doc.line(Math.min(number, doc.lines))
  const trimmed = { from: line.from + line.text.search(/\S|$/), to: line.from + line.text.trimEnd().length }
  if (col === null || number > doc.lines) return trimmed.from < trimmed.to ? trimmed : { from: line.from, to: line.to }
  const at = Math.min(col - 1, line.text.trimEnd().length)
  if (endCol !== null && endCol - 1 > at) return { from: line.from + at, to: Math.min(line.from + endCol - 1, line.to) }
  const word = /[\p{L}\p{N}\p{M}_$]+|[^]/uy
  word.lastIndex = at
  const length = word.exec(line.text)?.[0].length ?? 0
  // Behind the line's end something is missing: the last of what is there is marked.
  return length === 0 || /^\s/.test(line.text.slice(at)) ? { from: Math.max(trimmed.from, line.from + at - 1), to: line.from + at } : { from: line.from + at, to: line.from + at + length }
}

function drawn(value: Marked, doc: Text): Marked {
  const live = value.placed.filter((each) => each.live)
  const lines = new Map<number, Severity>()
  for (const { from, problem } of live) {
    const { from: line } = doc.lineAt(Math.min(from, doc.length))
    const before = lines.get(line)
    if (before === undefined || severities.indexOf(before) < severities.indexOf(problem.severity)) lines.set(line, problem.severity)
  }
  const squiggled = live.filter(({ from, to }) => from < to)
  return {
    ...value,
    decorations: Decoration.set(squiggled.map(({ problem, from, to }) => squiggles[problem.severity].range(from, to)), true),
    gutter: RangeSet.of([...lines].map(([line, severity]): Range<GutterMarker> => signs[severity].range(line)), true),
  }
}

function tooltip(told: readonly Placed[]): Tooltip | null {
  const [first] = told
  if (first === undefined) return null
  return { pos: first.from, end: first.to, above: false, create: () => ({ dom: message(told) }) }
}

function message(told: readonly Placed[]): HTMLElement {
  const dom = document.createElement('div')
  dom.className = 'problem-told'
  for (const { problem } of told) {
    const line = document.createElement('p')
    line.dataset['severity'] = problem.severity
    line.textContent = `${say(`severity_${problem.severity}`)}: ${visible(problem.message)}`
    dom.append(line)
  }
  return dom
}

const hovered = hoverTooltip((view, at) => {
  const { placed, told } = view.state.field(marked)
  if (told.length > 0) return null
  return tooltip(placed.filter(({ from, to, live }) => live && from <= at && at <= to))
})

const look = EditorView.theme({
  '.cm-problem': { textDecoration: 'underline wavy var(--sign)', textDecorationSkipInk: 'none', textUnderlineOffset: '3px' },
  '.cm-problem-error, .cm-sign-error': { '--sign': 'var(--bad)' },
  '.cm-problem-warning, .cm-sign-warning': { '--sign': 'var(--ours)' },
  '.cm-problem-note, .cm-sign-note': { '--sign': 'var(--accent)' },
  '.cm-lineNumbers .cm-gutterElement[class*="cm-sign-"]': { position: 'relative', color: 'var(--sign)', fontWeight: '700' },
  // Before the number, so that nothing moves.
  '.cm-gutterElement[class*="cm-sign-"]::before': { position: 'absolute', left: '3px', font: '700 9px/1 var(--sans)', top: '0.75em' },
  '.cm-sign-error::before': { content: '"✕" / ""' },
  '.cm-sign-warning::before': { content: '"▲" / ""' },
  '.cm-sign-note::before': { content: '"●" / ""' },
  '.cm-tooltip-hover': { border: '0', backgroundColor: 'transparent' },
  '.cm-tooltip.problem-told': { border: '1px solid var(--border-strong)', backgroundColor: 'var(--surface)', zIndex: '20' },
})

export function newMarks(): Marks {
  let run = 0
  let problemsOf: (name: string) => readonly Problem[] = () => none
  let textOf: TextOf = () => null

  function opened(view: EditorView, name: string): void {
    const { run: known, problems } = view.state.field(marked)
    const now = problemsOf(name)
    view.dispatch({
      effects: [...(known === run ? [] : [began.of(beginning(view.state.doc, textOf(name)))]), ...(known === run && problems === now ? [] : [found.of(now)])],
    })
  }

  /** For a text that was not shown when it ran. */
  function beginning(doc: Text, text: string | null) {
    if (text === null) return { run, ran: null, since: null }
    const ran = Text.of(text.split('\n'))
    const { from, to, insert } = difference(text, doc.toString())
    return { run, ran, since: from === to && insert === '' ? null : ChangeSet.of({ from, to, insert }, ran.length).desc }
  }

  return {
    extension: [marked, hovered, look],
    ran(view, texts) {
      run++
      problemsOf = () => none
      textOf = texts
      view.dispatch({ effects: began.of({ run, ran: view.state.doc, since: null }) })
    },
    found(view, name, of) {
      problemsOf = of
      opened(view, name)
    },
    opened,
    note: (view, problem) => view.dispatch({ effects: notes.of(problem) }),
    go(view, place) {
      const now = whereNow(view.state.field(marked), place)
      if (now === null) return
      view.dispatch({
        selection: { anchor: now },
        effects: [EditorView.scrollIntoView(now, { y: 'center' }), tells.of(place)],
      })
      view.focus()
    },
  }
}
