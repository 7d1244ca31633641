import type { Language, Limits } from './messages'
import { has, isList, isNumber, isText, parsed } from './parsed'
import type { Store } from './store'

// A language may go from the server while somebody has a program in it. What the page needs to show the
// program is therefore kept beside it.

type About = Pick<Language, 'name' | 'file_name' | 'suffixes' | 'editor_mode' | 'limits'>

export const isLimits = has<Limits>({ cpu_time: isNumber, wall_time: isNumber, memory: isNumber, processes: isNumber, output: isNumber, file_size: isNumber })
/** A later version may know more of them. */
const isSome = (value: unknown) => typeof value === 'object' && value !== null && Object.values(value).every(isNumber)
const isAbout = has<About>({ name: isText, file_name: isText, suffixes: isList(isText), editor_mode: isText, limits: isSome })

export function rememberLanguage(store: Store, { id, name, file_name, suffixes, editor_mode, limits }: Language): void {
  const about: About = { name, file_name, suffixes, editor_mode, limits }
  const text = JSON.stringify(about)
  if (store.get(`about:${id}`) !== text) store.set(`about:${id}`, text)
}

const unknown = (id: string): About => ({
  name: id,
  file_name: 'program.txt',
  suffixes: [],
  editor_mode: 'plain',
  limits: { cpu_time: 0, wall_time: 0, memory: 0, processes: 0, output: 0, file_size: 0 },
})

const nothing: Omit<Language, keyof About | 'id'> = {
  support: 'tried',
  family: null,
  implementation: null,
  versions: [],
  aliases: [],
  example: '',
  compile_args: [],
  flags: { compiled: false, named_by_source: false, reads_stdin: true },
  problems: [],
  format: false,
}

/** The languages of programs that are kept, and that the server does not have. */
export function goneLanguages(store: Store, offered: readonly Language[]): Language[] {
  const here = new Set(offered.map(({ id }) => id))
  const kept = store.keys('draft:').filter((id) => !here.has(id))
  return kept.sort().map((id) => {
    const about = parsed(store.get(`about:${id}`), isAbout)
    return { ...(about ?? unknown(id)), ...nothing, id }
  })
}
