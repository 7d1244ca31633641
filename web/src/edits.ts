export interface Edit {
  from: number
  to: number
  insert: string
}

/** So far it is looked for where two texts are the same again. */
const farthest = 60
/** So many letters must be the same there. */
const agreement = 4

/** What makes `after` of `before`, and leaves the rest untouched: cursor, marks and folds stay at their places.
 * Formatters mostly change blanks, so the texts are laid beside each other without them. */
export function edits(before: string, after: string): Edit[] {
  const found: Edit[] = []
  const old = inked(before)
  const now = inked(after)
  let [from, fromNow] = [0, 0]

  /** What lies between the last letter that stays and the next. */
  function between(to: number, toNow: number): void {
    const edit = trimmed(before.slice(from, to), after.slice(fromNow, toNow))
    if (edit !== null) found.push({ ...edit, from: from + edit.from, to: from + edit.to })
  }

  for (let [at, atNow] = [0, 0]; at < old.text.length && atNow < now.text.length; ) {
    if (old.text[at] === now.text[atNow]) {
      const [place, placeNow] = [old.places[at] ?? 0, now.places[atNow] ?? 0]
      between(place, placeNow)
      ;[from, fromNow] = [place + 1, placeNow + 1]
      ;[at, atNow] = [at + 1, atNow + 1]
    } else {
      const skip = sameAgain(old.text, at, now.text, atNow)
      if (skip === null) break
      ;[at, atNow] = [at + skip[0], atNow + skip[1]]
    }
  }
  between(before.length, after.length)
  return found
}

/** The letters that leave a mark, and their places. */
function inked(text: string): { text: string; places: number[] } {
  const places: number[] = []
  for (let at = 0; at < text.length; at += 1) if (!/\s/.test(text.charAt(at))) places.push(at)
  return { text: text.replace(/\s/g, ''), places }
}

/** How many letters of each to leave out. A letter in the place of another is the most usual: quotes. */
function sameAgain(old: string, at: number, now: string, atNow: number): [number, number] | null {
  for (let both = 1; both <= farthest; both += 1) {
    if (both === 2 && old[at + 1] === now[atNow + 1]) return [1, 1]
    for (let skip = 0; skip <= both; skip += 1) {
      const [there, thereNow] = [at + skip, atNow + both - skip]
      if (old.slice(there, there + agreement) === now.slice(thereNow, thereNow + agreement)) return [skip, both - skip]
    }
  }
  return null
}

/** Null when both are the same. */
function trimmed(old: string, now: string): Edit | null {
  if (old === now) return null
  const least = Math.min(old.length, now.length)
  let from = 0
  while (from < least && old[from] === now[from]) from += 1
  let end = 0
  while (end < least - from && old[old.length - 1 - end] === now[now.length - 1 - end]) end += 1
  return { from, to: old.length - end, insert: now.slice(from, now.length - end) }
}
