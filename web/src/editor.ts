import { defaultKeymap, history, historyKeymap, indentWithTab, isolateHistory } from '@codemirror/commands'
import { bracketMatching, indentOnInput } from '@codemirror/language'
import { highlightSelectionMatches, searchKeymap } from '@codemirror/search'
import { Compartment, EditorState, Prec, Transaction } from '@codemirror/state'
import type { Extension } from '@codemirror/state'
import {
  EditorView,
  drawSelection,
  highlightActiveLine,
  highlightActiveLineGutter,
  highlightSpecialChars,
  keymap,
  lineNumbers,
} from '@codemirror/view'
import type { ViewUpdate } from '@codemirror/view'
import { difference } from './difference'
import type { Edit } from './edits'
import { newMarks } from './marks'
import type { TextOf } from './marks'
import { loadMode, readyMode } from './modes'
import type { Place, Problem } from './problems'
import { allOf, say } from './say'
import { theme } from './theme'
import { typeover } from './typeover'

export interface Editor {
  /** Shows `text`, with the history that this file had here before. */
  open(file: string, mode: string, text: string): void
  /** A file has another name now, and keeps its history. */
  renamed(from: string, to: string): void
  text(): string
  /** Replaces the text in a way that can be undone. */
  replace(text: string): void
  /** Changes some of it, also so; the cursor stays at its place. */
  change(edits: readonly Edit[]): void
  /** The keys of another editor. */
  useKeys(keys: Extension): void
  focus(): void
  /** This runs: the text that is shown, and others by the names under which they are opened. */
  ran(textOf: TextOf): void
  /** Marks the problems of the run, for each text by the name under which it is opened. */
  mark(problemsOf: (name: string) => readonly Problem[]): void
  /** Marks a problem of the text as it is now, or none any more. */
  note(problem: Problem | null): void
  /** Goes to a place in the text that is shown, as that was when it ran. */
  go(place: Place): void
}

export interface EditorEvents {
  changed(byPerson: boolean): void
  /** The person is writing over at least half of a text, as by a paste. */
  overwriting(text: string): void
  /** Counted from one. */
  moved(line: number, column: number): void
}

export function newEditor(parent: HTMLElement, nonce: string, on: EditorEvents): Editor {
  const mode = new Compartment()
  const keys = new Compartment()
  let keysNow: Extension = []
  const states = new Map<string, EditorState>()
  const marks = newMarks()
  let opened = ''

  const extensions = [
    EditorView.cspNonce.of(nonce),
    EditorView.contentAttributes.of({ 'aria-label': say('program'), 'aria-describedby': 'editor-hint', tabindex: '0' }),
    // Its own words are those of words.json, which has them under what it says by itself.
    EditorState.phrases.of(allOf('editor')),
    lineNumbers(),
    highlightActiveLineGutter(),
    highlightSpecialChars(),
    history(),
    drawSelection(),
    EditorState.allowMultipleSelections.of(true),
    indentOnInput(),
    bracketMatching(),
    highlightActiveLine(),
    highlightSelectionMatches(),
    theme,
    marks.extension,
    typeover,
    mode.of([]),
    Prec.high(keys.of([])),
    keymap.of([...defaultKeymap, ...searchKeymap, ...historyKeymap, indentWithTab]),
    EditorView.updateListener.of((update) => {
      if (isOverwriting(update)) on.overwriting(update.startState.doc.toString())
      if (update.docChanged) on.changed(isByPerson(update))
      if (update.docChanged || update.selectionSet) tellCursor(update.state)
    }),
  ]

  const view = new EditorView({ parent, state: EditorState.create({ extensions }) })

  function tellCursor({ doc, selection }: EditorState): void {
    const line = doc.lineAt(selection.main.head)
    on.moved(line.number, selection.main.head - line.from + 1)
  }

  /** What stays keeps its marks. */
  function replace(text: string): void {
    view.dispatch({ changes: difference(view.state.doc.toString(), text), selection: { anchor: 0 }, scrollIntoView: true })
  }

  return {
    open(file, modeName, text) {
      if (opened === file) {
        if (view.state.doc.toString() !== text) replace(text)
        return
      }
      if (opened !== '') states.set(opened, view.state)
      opened = file
      const state = states.get(file) ?? EditorState.create({ doc: text, extensions })
      const ready = readyMode(modeName)
      view.setState(state.update({ effects: [mode.reconfigure(ready), keys.reconfigure(keysNow)] }).state)
      if (view.state.doc.toString() !== text) replace(text)
      marks.opened(view, file)
      tellCursor(view.state)
      // Without its colours a program can be written and run all the same.
      loadMode(modeName).then(
        (extension) => {
          if (opened === file && extension !== ready) view.dispatch({ effects: mode.reconfigure(extension) })
        },
        (error: unknown) => console.warn(`no editor mode ${modeName}:`, error),
      )
    },
    renamed(from, to) {
      if (opened === from) opened = to
      const state = states.get(from)
      states.delete(from)
      if (state !== undefined) states.set(to, state)
    },
    text: () => view.state.doc.toString(),
    replace,
    change(edits) {
      view.dispatch({ changes: edits, userEvent: 'format', annotations: isolateHistory.of('full'), scrollIntoView: true })
    },
    useKeys(found) {
      keysNow = found
      view.dispatch({ effects: keys.reconfigure(keysNow) })
    },
    focus: () => view.focus(),
    ran: (textOf) => marks.ran(view, textOf),
    mark: (problemsOf) => marks.found(view, opened, problemsOf),
    note: (problem) => marks.note(view, problem),
    go: (place) => marks.go(view, place),
  }
}

/** Not so when the page itself shows another text. */
const isByPerson = ({ transactions }: ViewUpdate): boolean => transactions.some((transaction) => transaction.annotation(Transaction.userEvent) !== undefined)

function isOverwriting(update: ViewUpdate): boolean {
  if (!isByPerson(update)) return false
  const { changes, startState } = update
  let gone = 0
  changes.iterChanges((from, to) => (gone += to - from))
  return gone > 0 && gone * 2 >= startState.doc.length
}
