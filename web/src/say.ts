import words from '../../templates/words.json'
import { visible } from './visible'

// Each word that a person reads is in templates/words.json, so that the page can be put into another language.
// A key with `_one` and `_other` is one phrase, chosen by the number `n`.

type Key = keyof typeof words
type Stem<K> = K extends `${infer stem}_one` | `${infer stem}_other` ? stem : K
export type Phrase = Stem<Key>
export type Values = Record<string, string | number>

const all: Partial<Record<string, string>> = words
const plurals = new Intl.PluralRules('en')

/** Of a value, in characters: a sentence stays one that can be read. */
const mostSaid = 500

function told(value: string | number): string {
  const text = String(value)
  return visible(text.length <= mostSaid ? text : `${text.slice(0, mostSaid).replace(/[\ud800-\udbff]$/, '')}…`)
}

/** The phrase with its `{name}`s filled in. A number that decides the plural is called `n`. */
export function say(phrase: Phrase, values: Values = {}): string {
  const text = all[phrase] ?? all[`${phrase}_${plurals.select(Number(values['n']))}`] ?? all[`${phrase}_other`] ?? phrase
  return text.replace(/\{(\w+)\}/g, (hole, name: string) => told(values[name] ?? hole))
}

/** The phrases of a kind, by the names behind it. */
export function allOf(kind: 'editor'): Record<string, string> {
  const beginning = `${kind}_`
  return Object.fromEntries(Object.entries(words).flatMap(([key, text]) => (key.startsWith(beginning) ? [[key.slice(beginning.length), text]] : [])))
}

/** The phrase of a name that may have none, such as a signal's. */
export const sayOf = (kind: 'signal' | 'crash' | 'flush' | 'theme' | 'trace_ended' | 'overview_verdict', name: string): string | undefined => all[`${kind}_${name}`]
