import { Vim, vim } from '@replit/codemirror-vim'
import type { Extension } from '@codemirror/state'

/** `save` is what `:w` does. */
export function keys(save: () => void): Extension {
  Vim.defineEx('write', 'w', save)
  return vim({ status: true })
}
