/** What was kept as JSON, or null where it is not what was kept: another version of the page, or another page of the
 * same site, may have written there. */
export function parsed<T>(text: string | null, is: (value: unknown) => value is T): T | null {
  if (text === null) return null
  try {
    const value: unknown = JSON.parse(text)
    return is(value) ? value : null
  } catch {
    return null
  }
}

type Check = (value: unknown) => boolean

export const isText = (value: unknown): value is string => typeof value === 'string'
export const isNumber = (value: unknown): value is number => typeof value === 'number'
export const isYesOrNo = (value: unknown): value is boolean => typeof value === 'boolean'
export const orNull = (is: Check): Check => (value) => value === null || is(value)
export const orNothing = (is: Check): Check => (value) => value === undefined || is(value)
export const isList = (is: Check): Check => (value) => Array.isArray(value) && value.every(is)

/** An object with at least these fields. */
export const has =
  <T>(fields: Record<keyof T, Check>) =>
  (value: unknown): value is T =>
    typeof value === 'object' && value !== null && Object.entries<Check>(fields).every(([name, is]) => is((value as Record<string, unknown>)[name]))
