/** How many warnings a compiler told of: the word, and behind it in its line a colon. The text is anybody's, so each
 * line is looked through twice, however many of the words it has. */
export function warnings(text: string): number {
  let n = 0
  for (const line of text.split('\n')) n += line.slice(0, line.lastIndexOf(':') + 1).match(/\bwarning\b/gi)?.length ?? 0
  return n
}
