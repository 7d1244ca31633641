import { StreamLanguage, indentUnit } from '@codemirror/language'
import type { StreamParser } from '@codemirror/language'
import type { Extension } from '@codemirror/state'
import { isSource } from './program'

const legacy = (parser: StreamParser<unknown>): Extension => StreamLanguage.define(parser)

// Each is loaded when its language is chosen for the first time.
const modes: Record<string, () => Promise<Extension>> = {
  python: async () => (await import('./mode-python')).mode(),
  c: async () => (await import('./mode-cpp')).mode(),
  cpp: async () => (await import('./mode-cpp')).mode(),
  java: async () => (await import('./mode-java')).mode(),
  javascript: async () => (await import('./mode-javascript')).mode(false),
  typescript: async () => (await import('./mode-javascript')).mode(true),
  go: async () => (await import('./mode-go')).mode(),
  rust: async () => (await import('./mode-rust')).mode(),
  php: async () => (await import('./mode-php')).mode(),
  sql: async () => (await import('./mode-sql')).mode(),
  ruby: async () => legacy((await import('./mode-ruby')).ruby),
  perl: async () => legacy((await import('./mode-perl')).perl),
  shell: async () => legacy((await import('./mode-shell')).shell),
  lua: async () => legacy((await import('./mode-lua')).lua),
}

const indents: Record<string, string> = {
  go: '\t',
  javascript: '  ',
  typescript: '  ',
  ruby: '  ',
  lua: '  ',
  shell: '  ',
  sql: '  ',
}

/** For files that are no language's sources. */
const others: Record<string, string> = { h: 'c', hpp: 'cpp', hh: 'cpp', json: 'javascript', jsx: 'javascript', tsx: 'typescript' }

interface Moded {
  suffixes: readonly string[]
  editor_mode: string
}

/** The mode of a file, by its suffix. */
export function modeOf(name: string, languages: readonly Moded[]): string {
  const of = languages.find(({ suffixes }) => isSource(name, suffixes))
  return of?.editor_mode ?? others[name.slice(name.lastIndexOf('.') + 1)] ?? ''
}

export async function loadMode(name: string): Promise<Extension> {
  const indent = indentUnit.of(indents[name] ?? '    ')
  const load = modes[name]
  return load === undefined ? indent : [await load(), indent]
}
