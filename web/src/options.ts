import type { Limits, LimitName, Submission } from './messages'
import { say } from './say'
import { split } from './shellwords'
import type { Store } from './store'

// How the program of a language is compiled and run. All is kept as it was written, also what is wrong: then it is
// said at its place, and nothing is lost.

export interface Variable {
  name: string
  value: string
}

export interface Chosen {
  compileArgs: string
  args: string
  env: Variable[]
  /** Times in seconds, sizes in MB, of 2^20 bytes. */
  limits: Partial<Record<LimitName, string>>
  /** The system calls are listed. */
  trace: boolean
}

export const nothing: Chosen = { compileArgs: '', args: '', env: [], limits: {}, trace: false }

export const limitNames: readonly LimitName[] = ['cpu_time', 'wall_time', 'memory', 'processes', 'output', 'file_size']
export const unitOf = (name: LimitName): number => (name === 'memory' || name === 'output' || name === 'file_size' ? 2 ** 20 : 1)

/** `compile_args`, `args`, `env.0`, `limits.memory`. */
export interface Fault {
  field: string
  text: string
}

const wordBytes = 128 * 1024
const mostWords = 1000
const leastMemory = 1

/** What is wrong. `ceilings` are those of the server, where they are known. */
export function faults(chosen: Chosen, ceilings: Limits | null): Fault[] {
  return [...faultsOfWords(chosen), ...faultsOfEnv(chosen.env), ...faultsOfLimits(chosen.limits, ceilings)]
}

function faultsOfWords({ compileArgs, args, env }: Chosen): Fault[] {
  const found: Fault[] = []
  let size = new TextEncoder().encode(env.map(({ name, value }) => name + value).join('')).length
  for (const [field, text] of [['compile_args', compileArgs], ['args', args]] as const) {
    const { words, open } = split(text)
    size += new TextEncoder().encode(text).length
    if (open === '\\') found.push({ field, text: say('fault_backslash') })
    else if (open !== null) found.push({ field, text: say('fault_quote', { quote: open }) })
    else if (words.length > mostWords) found.push({ field, text: say('fault_words', { most: mostWords }) })
    else if (size > wordBytes) found.push({ field, text: say('fault_long') })
  }
  return found
}

function faultsOfEnv(env: Variable[]): Fault[] {
  const seen = new Set<string>()
  return env.flatMap(({ name, value }, at) => {
    const field = `env.${at}`
    if (name === '') return value === '' ? [] : [{ field, text: say('fault_no_name') }]
    if (!/^[A-Za-z_][A-Za-z0-9_]{0,127}$/.test(name)) return [{ field, text: say('fault_name', { name }) }]
    if (seen.has(name)) return [{ field, text: say('fault_twice', { name }) }]
    seen.add(name)
    return []
  })
}

function faultsOfLimits(limits: Chosen['limits'], ceilings: Limits | null): Fault[] {
  return limitNames.flatMap((name) => {
    const text = limits[name] ?? ''
    if (text === '') return []
    const field = `limits.${name}`
    const number = read(text)
    const whole = name === 'processes'
    if (number === null || (whole && !Number.isInteger(number))) return [{ field, text: say(whole ? 'fault_whole' : 'fault_number') }]
    if (number <= 0) return [{ field, text: say('fault_zero') }]
    if (name === 'memory' && number < leastMemory) return [{ field, text: say('fault_least', { least: sayLimit(name, leastMemory) }) }]
    const most = ceilings === null ? Infinity : ceilings[name] / unitOf(name)
    return number > most ? [{ field, text: say('fault_ceiling', { most: sayLimit(name, most) }) }] : []
  })
}

/** With a point or a comma, as people write it. */
function read(text: string): number | null {
  return /^\d{1,12}([.,]\d{1,6})?$/.test(text) ? Number(text.replace(',', '.')) : null
}

/** `number` as the page writes it: in seconds, MB, or pieces. */
export function sayLimit(name: LimitName, number: number): string {
  if (name === 'processes') return String(number)
  return unitOf(name) > 1 ? `${number} MB` : `${number} s`
}

/** What goes into the submission, of what has no fault. */
export function submitted({ compileArgs, args, env, limits }: Chosen): Pick<Submission, 'compile_args' | 'args' | 'env' | 'limits'> {
  const asked = limitsOf(limits)
  const named = env.filter(({ name }) => name !== '')
  const compile = split(compileArgs).words
  const words = split(args).words
  return {
    ...(compile.length > 0 ? { compile_args: compile } : {}),
    ...(words.length > 0 ? { args: words } : {}),
    ...(named.length > 0 ? { env: Object.fromEntries(named.map(({ name, value }) => [name, value])) } : {}),
    ...(Object.keys(asked).length > 0 ? { limits: asked } : {}),
  }
}

/** In the server's units. */
export function limitsOf(limits: Chosen['limits']): Partial<Limits> {
  const asked: Partial<Limits> = {}
  for (const name of limitNames) {
    const number = read(limits[name] ?? '')
    if (number !== null) asked[name] = unitOf(name) > 1 ? Math.round(number * unitOf(name)) : number
  }
  return asked
}

export interface Options {
  of(language: string): Chosen
  choose(language: string, chosen: Chosen): void
  /** Whether something is not as it would be without a choice. */
  changed(language: string): boolean
}

export function newOptions(store: Store): Options {
  const key = (language: string) => `options:${language}`
  return {
    of(language) {
      try {
        return sound(JSON.parse(store.get(key(language)) ?? '{}'))
      } catch {
        return nothing
      }
    },
    choose(language, chosen) {
      const plain = sound(chosen)
      store.set(key(language), isDefault(plain) ? null : JSON.stringify(plain))
    },
    changed(language) {
      return !isDefault(this.of(language))
    },
  }
}

function isDefault({ compileArgs, args, env, limits, trace }: Chosen): boolean {
  return !trace && compileArgs === '' && args === '' && env.length === 0 && Object.keys(limits).length === 0
}

/** What was kept may have been written by another version of the page. Empty rows and fields are no choice. */
function sound(value: unknown): Chosen {
  const { compileArgs, args, env, limits, trace } = (value ?? {}) as Partial<Record<keyof Chosen, unknown>>
  const kept = (limits ?? {}) as Partial<Record<LimitName, unknown>>
  return {
    compileArgs: text(compileArgs),
    args: text(args),
    env: (Array.isArray(env) ? env : [])
      .map((each: Partial<Variable> | null) => ({ name: text(each?.name), value: text(each?.value) }))
      .filter(({ name, value }) => name !== '' || value !== ''),
    limits: Object.fromEntries(limitNames.map((name) => [name, text(kept[name]).trim()]).filter(([, each]) => each !== '')),
    trace: trace === true,
  }
}

const text = (value: unknown): string => (typeof value === 'string' ? value : '')

/** Adds an argument to those that are written, or takes it out. One of its kind, such as `-std=`, gives way to it. */
export function toggled(written: string, argument: string, quoted: (word: string) => string): string {
  const { words, open } = split(written)
  if (open !== null) return written
  const others = words.filter((word) => kind(word) !== kind(argument))
  const next = words.includes(argument) ? words.filter((word) => word !== argument) : [...others, argument]
  return next.map(quoted).join(' ')
}

const kind = (word: string): string => /^(-O|-[\w-]*=)/.exec(word)?.[1] ?? word
