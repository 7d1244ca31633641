/** Letters and signs that a stranger wrote (a file's name, a program's message), for the page's own lines: signs that
 * would turn the direction of the text beside them are seen, and do nothing. */
export const visible = (text: string): string => text.replace(/[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g, '•')
