// Figures as people read them.

const short = (n: number, digits: number) => String(Number(n.toFixed(digits)))

export function seconds(s: number): string {
  if (s < 1) return `${short(s * 1000, s < 0.1 ? 1 : 0)} ms`
  return `${short(s, s < 10 ? 2 : 1)} s`
}

/** By 1,024, as most programs show sizes. */
export function bytes(n: number): string {
  if (n < 1024) return `${n} B`
  if (n < 1024 ** 2) return `${short(n / 1024, 0)} kB`
  return `${short(n / 1024 ** 2, n < 100 * 1024 ** 2 ? 1 : 0)} MB`
}

export function ordinal(n: number): string {
  const ending = n % 100 >= 11 && n % 100 <= 13 ? 'th' : (['th', 'st', 'nd', 'rd'][n % 10] ?? 'th')
  return `${n}${ending}`
}

/** Of seconds, as on a clock. */
export function minutes(s: number): string {
  const whole = Math.ceil(s)
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, '0')}`
}
