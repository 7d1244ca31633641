import type { Extension } from '@codemirror/state'
import { chunk } from './chunk'

export type Bindings = 'default' | 'vim' | 'emacs'
export const bindings: readonly Bindings[] = ['default', 'vim', 'emacs']

const load: Record<Bindings, () => Promise<{ keys(save: () => void): Extension }>> = {
  default: async () => ({ keys: () => [] }),
  vim: () => chunk(import('./keys-vim')),
  emacs: () => chunk(import('./keys-emacs')),
}

/** The keys of another editor. `save` is what its key to write a file does. */
export async function loadBindings(name: Bindings, save: () => void): Promise<Extension> {
  return (await load[name]()).keys(save)
}
