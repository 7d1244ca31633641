import { indentUnit } from '@codemirror/language'
import type { Extension } from '@codemirror/state'
import { chunk } from './chunk'
import { isSource } from './program'

// Each is loaded when its language is chosen for the first time, and so is the table of all others.
const modes: Record<string, () => Promise<Extension>> = {
  plain: async () => [],
  python: async () => (await chunk(import('./mode-python'))).mode(),
  c: async () => (await chunk(import('./mode-cpp'))).mode(false),
  cpp: async () => (await chunk(import('./mode-cpp'))).mode(true),
  java: async () => (await chunk(import('./mode-java'))).mode(),
  javascript: async () => (await chunk(import('./mode-javascript'))).mode(false),
  typescript: async () => (await chunk(import('./mode-javascript'))).mode(true),
  go: async () => (await chunk(import('./mode-go'))).mode(),
  rust: async () => (await chunk(import('./mode-rust'))).mode(),
  php: async () => (await chunk(import('./mode-php'))).mode(),
  sql: async () => (await chunk(import('./mode-sql'))).mode(),
  ruby: async () => (await chunk(import('./mode-ruby'))).mode(),
  perl: async () => (await chunk(import('./mode-perl'))).mode(),
  shell: async () => (await chunk(import('./mode-shell'))).mode(),
  lua: async () => (await chunk(import('./mode-lua'))).mode(),
}

const other = async (name: string) => (await chunk(import('./mode-more'))).mode(name)

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
const others: Record<string, string> = { h: 'c', hpp: 'cpp', hh: 'cpp', json: 'javascript', jsx: 'javascript', tsx: 'typescript', htm: 'html', yml: 'yaml' }
const asTheirSuffix = new Set(['css', 'html', 'toml', 'xml', 'yaml'])

interface Moded {
  suffixes: readonly string[]
  editor_mode: string
}

/** The mode of a file, by its suffix. */
export function modeOf(name: string, languages: readonly Moded[]): string {
  const of = languages.find(({ suffixes }) => isSource(name, suffixes))
  const suffix = name.slice(name.lastIndexOf('.') + 1)
  return of?.editor_mode ?? others[suffix] ?? (asTheirSuffix.has(suffix) ? suffix : 'plain')
}

const like: Record<string, string> = { cpp: 'c', typescript: 'javascript' }

/** Whether the tools of the language read such a file: its sources, headers, and others of its kin. */
export function isAkin(name: string, language: Moded): boolean {
  const kin = (mode: string) => like[mode] ?? mode
  return kin(modeOf(name, [language])) === kin(language.editor_mode)
}

/** What helps to write, once it is there. A text must have it from the moment when it is shown: CodeMirror's
 * completion asks for its own state when it has a word from the text that was shown before. */
let help: Extension = []
const ready = new Map<string, Extension>()

/** How a language is written, as far as that is known by now. */
export const readyMode = (name: string): Extension => ready.get(name) ?? help

/** How a language is written, and what helps to write. */
export async function loadMode(name: string): Promise<Extension> {
  const known = ready.get(name)
  if (known !== undefined) return known
  const [{ assist }, language] = await Promise.all([chunk(import('./assist')), modes[name]?.() ?? other(name)])
  const mode = [language, indentUnit.of(indents[name] ?? '    '), assist]
  help = assist
  ready.set(name, mode)
  return mode
}
