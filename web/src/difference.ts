/** The one part of a text that must be replaced to make another of it. */
export function difference(before: string, after: string): { from: number; to: number; insert: string } {
  const shorter = Math.min(before.length, after.length)
  let from = 0
  while (from < shorter && before[from] === after[from]) from++
  let behind = 0
  while (behind < shorter - from && before[before.length - behind - 1] === after[after.length - behind - 1]) behind++
  return { from, to: before.length - behind, insert: after.slice(from, after.length - behind) }
}
