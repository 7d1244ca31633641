const telling = /error|exception|fatal|panic|fail|denied|cannot|not found/i
const longest = 200

/** The line that tells most of why a program ended, of the end of what it wrote to stderr: the last one that speaks of
 * an error, or else the last one. Places, source lines and marks under them are indented, or have no words. */
export function lastWords(written: string): string {
  const lines = written.split('\n').map((line) => line.trimEnd()).filter((line) => line !== '')
  const said = lines.filter((line) => /^(?=\S).*\p{L}/u.test(line))
  const found = said.filter((line) => telling.test(line)).at(-1) ?? said.at(-1) ?? lines.at(-1)?.trim() ?? ''
  return found.length > longest ? `${found.slice(0, longest)}…` : found
}
