import { EmacsHandler, emacs } from '@replit/codemirror-emacs'
import type { Extension } from '@codemirror/state'

/** For what the editor does better itself: the key is left to it. */
const leave = { exec: () => false }

/** `save` is what Ctrl-X Ctrl-S does. */
export function keys(save: () => void): Extension {
  EmacsHandler.bindKey('C-x C-s', save)
  EmacsHandler.bindKey('Return|M-x|M-S-f', leave)
  return emacs()
}
