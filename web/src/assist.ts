import {
  acceptCompletion,
  autocompletion,
  closeBrackets,
  closeBracketsKeymap,
  closeCompletion,
  completionStatus,
  currentCompletions,
  moveCompletionSelection,
  startCompletion,
} from '@codemirror/autocomplete'
import { Prec } from '@codemirror/state'
import type { Extension } from '@codemirror/state'
import { keymap } from '@codemirror/view'
import type { Command, EditorView } from '@codemirror/view'

// What helps to write and is not needed to read: it is loaded after the program is shown.

const next = moveCompletionSelection(true)

/** Tab takes the first word that is offered, or the chosen one. Enter takes only a chosen one: the list comes by
 * itself, and Enter has to be a new line for who does not look at it. */
const take: Command = (view: EditorView) =>
  completionStatus(view.state) === 'active' && (acceptCompletion(view) || (next(view) && acceptCompletion(view)))

/** Escape closes what is seen, and nothing else. While nothing is seen yet it is free for others, such as the way out of
 * the editor. */
const leave: Command = (view: EditorView) => {
  const seen = currentCompletions(view.state).length > 0
  closeCompletion(view)
  return seen
}

export const assist: Extension = [
  closeBrackets(),
  autocompletion({
    selectOnOpen: false,
    interactionDelay: 0,
    icons: false,
    defaultKeymap: false,
    // All are in sight: the list is not scrolled but drawn anew.
    maxRenderedOptions: 10,
  }),
  Prec.high(
    keymap.of([
      { key: 'Ctrl-Space', run: startCompletion },
      { mac: 'Alt-`', run: startCompletion },
      { key: 'Escape', run: leave },
      { key: 'ArrowDown', run: next },
      { key: 'ArrowUp', run: moveCompletionSelection(false) },
      { key: 'PageDown', run: moveCompletionSelection(true, 'page') },
      { key: 'PageUp', run: moveCompletionSelection(false, 'page') },
      { key: 'Enter', run: acceptCompletion },
      { key: 'Tab', run: take },
    ]),
  ),
  keymap.of(closeBracketsKeymap),
]
