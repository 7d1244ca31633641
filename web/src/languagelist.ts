import { make } from './elements'
import type { Language } from './messages'
import { page } from './page'
import { say } from './say'
import { openSearch } from './searchlist'
import type { Entry, Group } from './searchlist'

export interface Listed {
  languages: readonly Language[]
  /** Those that the server does not have. */
  gone: readonly Language[]
  /** Ids, the last one first. */
  recent: readonly string[]
  current: string
  choose(language: Language): void
}

const support = ['core', 'popular', 'more', 'tried'] as const
const narrow = matchMedia('(max-width: 719.98px)')

/** A list of languages, narrowed by what is written. Enter chooses one. */
export function openLanguages(listed: Listed): void {
  const dialog = openSearch({
    className: 'palette languages',
    title: say('language'),
    filter: say('language_filter'),
    groups: groupsOf(listed),
    current: listed.current,
    quiet: matchMedia('(pointer: coarse)').matches,
  })
  if (narrow.matches) return
  const { left, bottom } = page.language.getBoundingClientRect()
  dialog.style.left = `${left}px`
  dialog.style.top = `${bottom + 6}px`
}

function groupsOf({ languages, gone, recent, choose }: Listed): Group[] {
  const entry = (language: Language, under = false): Entry => ({
    id: language.id,
    shown: [make('span', {}, language.name), make('small', {}, noteOf(language))],
    names: [language.id, language.name, ...language.aliases, language.implementation ?? '', ...language.suffixes].map((name) => name.toLowerCase()),
    under,
    act: () => choose(language),
  })
  const all = [...languages, ...gone]
  const families = familiesOf(languages)
  const groups = [
    { heading: say('language_recent'), entries: recent.flatMap((id) => all.filter((each) => each.id === id)).map((each) => entry(each)) },
    ...support.map((level) => ({
      heading: say(`language_${level}`),
      entries: families.flatMap((family) => (family[0]?.support === level ? family.map((each) => entry(each, each !== family[0])) : [])),
    })),
    { heading: say('gone_group'), entries: gone.map((each) => entry(each)) },
  ]
  return groups.filter(({ entries }) => entries.length > 0)
}

/** By their names; the implementations of one language together, first the one that is taken by default. */
function familiesOf(languages: readonly Language[]): Language[][] {
  const families = new Map<string, Language[]>()
  const rank = ({ id, family, support: level }: Language) => (id === (family ?? id) ? -1 : support.indexOf(level))
  for (const each of [...languages].sort((a, b) => rank(a) - rank(b) || a.name.localeCompare(b.name))) {
    const family = each.family ?? each.id
    families.set(family, [...(families.get(family) ?? []), each])
  }
  return [...families.values()].sort(([a], [b]) => (a?.name ?? '').localeCompare(b?.name ?? ''))
}

/** What tells it from others: the implementation, where the name does not say it, the version, and what it is worth. */
function noteOf({ name, implementation, versions, support: level }: Language): string {
  const which = implementation === null || name.includes(implementation) ? '' : implementation
  const worth = versions.length === 0 ? say('language_gone') : level === 'tried' ? say('language_only_tried') : ''
  return [worth, `${which} ${versions[0] ?? ''}`.trim()].filter(Boolean).join(' · ')
}
