import { say } from './say'

export const mac = /Mac|iPhone|iPad/.test(navigator.platform)

/** What can be done by keys and from the palette, in the order in which both show it. `Mod` is ⌘ on a Mac, else Ctrl. */
export const commands = [
  { id: 'run', keys: 'Mod-Enter', always: true },
  { id: 'stop', keys: 'Mod-.', always: true },
  { id: 'save', keys: 'Mod-S' },
  { id: 'next_pane', keys: 'F6', always: true },
  { id: 'previous_pane', keys: 'Shift-F6', always: true },
  { id: 'next_problem', keys: 'F8' },
  { id: 'previous_problem', keys: 'Shift-F8' },
  { id: 'find', keys: 'Mod-F', editor: true },
  { id: 'comment', keys: 'Mod-/', editor: true },
  { id: 'complete', keys: 'Ctrl-Space', editor: true },
  { id: 'format', keys: 'Alt-Shift-F' },
  { id: 'language', keys: '' },
  { id: 'options', keys: '' },
  { id: 'leave', keys: 'Esc,Tab', editor: true },
  { id: 'input', keys: '' },
  { id: 'drawer', keys: '' },
  { id: 'copy', keys: '' },
  { id: 'download', keys: '' },
  { id: 'wrap', keys: '' },
  { id: 'file_add', keys: '' },
  { id: 'file_open', keys: '' },
  { id: 'file_rename', keys: '' },
  { id: 'file_duplicate', keys: '' },
  { id: 'file_remove', keys: '' },
  { id: 'file_download', keys: '' },
  { id: 'program_download', keys: '' },
  { id: 'versions', keys: '' },
  { id: 'example', keys: '' },
  { id: 'theme', keys: '' },
  { id: 'palette', keys: 'F1' },
  { id: 'keys', keys: '?' },
] as const satisfies readonly Command[]

export interface Command {
  id: string
  keys: string
  /** The page's own also where a program waits for keys. */
  always?: boolean
  /** The editor does it: it is only told of. */
  editor?: boolean
}

export type CommandId = (typeof commands)[number]['id']

const shown: Record<string, string> = mac
  ? { Mod: '⌘', Shift: '⇧', Alt: '⌥', Enter: '⏎' }
  : { Mod: say('key_ctrl'), Shift: say('key_shift'), Esc: say('key_esc'), Tab: say('key_tab'), Enter: say('key_enter') }

/** As a person reads it. */
export const keyName = (keys: string) =>
  keys
    .split(',')
    .map((chord) => chord.split('-').map((part) => shown[part] ?? part).join(mac ? '' : '-'))
    .join(mac ? ' ' : `${say('key_then')} `)

/** As it stands on a button. */
export const runKey = `${mac ? '⌘' : say('key_ctrl')} ⏎`

export function matches(key: KeyboardEvent, keys: string): boolean {
  const parts = keys.split('-')
  const name = parts.pop() ?? ''
  // With Alt, a Mac makes another letter of it.
  const same = key.key.toLowerCase() === name.toLowerCase() || (mac && key.altKey && key.code === `Key${name}`)
  if (name === '' || !same) return false
  const mod = parts.includes('Mod')
  // A sign is the sign, however it is typed.
  const shift = /^[^a-z0-9]$/i.test(name) || key.shiftKey === parts.includes('Shift')
  return shift && key.altKey === parts.includes('Alt') && key.ctrlKey === (mod && !mac) && key.metaKey === (mod && mac)
}
