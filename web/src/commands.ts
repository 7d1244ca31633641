import { chunk } from './chunk'
import { commands, matches } from './keys'
import type { CommandId } from './keys'
import { page } from './page'

/** In milliseconds, after all that is wanted at once. */
const soon = 3_000

export type Does = Partial<Record<CommandId, () => void>>

/** What can be done now and has no key: only the palette has it. */
export interface More {
  label: string
  do(): void
}

/** A key of these held down goes on. */
const repeated = new Set<CommandId>(['next_pane', 'previous_pane', 'next_problem', 'previous_problem'])

/** Does what the keys of keys.ts say, unless the one who gets the key has a better use for it. The palette and the
 * table of keys are fetched when they are wanted. */
export function newCommands(does: Does, better: (id: CommandId, target: Node) => boolean, more: () => More[]): void {
  const all: Does = {
    ...does,
    palette: async () => (await chunk(import('./palette'))).openPalette(all, more()),
    keys: async () => (await chunk(import('./palette'))).openKeys(() => all.palette?.()),
  }

  // Before the editor and the terminal see it.
  addEventListener(
    'keydown',
    (key) => {
      if (document.querySelector('dialog[open]') !== null) return
      const command = commands.find(({ keys }) => matches(key, keys))
      const act = command === undefined ? undefined : all[command.id]
      if (command === undefined || act === undefined) return
      if (!('always' in command) && isPrograms(key.target as Node)) return
      if (command.keys.length === 1 && writes(key.target as HTMLElement)) return
      if (better(command.id, key.target as Node)) return
      key.preventDefault()
      key.stopPropagation()
      if (!key.repeat || repeated.has(command.id)) act()
    },
    { capture: true },
  )
  // Who opens it goes on to write at once.
  addEventListener('load', () => setTimeout(() => void chunk(import('./palette')).catch(() => undefined), soon))
  page.help.addEventListener('click', () => all.keys?.())
}

/** Keys go to a program that runs in the terminal. One that has ended takes none. */
const isPrograms = (target: Node) => page.run.dataset['state'] === 'stop' && page.terminal.contains(target)

const writes = (target: HTMLElement) => target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName)
