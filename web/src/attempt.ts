/** Does it, or else what is for when that throws. The browser is told what went wrong, as if nothing had caught that. */
export function attempt<T>(act: () => T, otherwise: () => T): T {
  try {
    return act()
  } catch (error) {
    setTimeout(() => {
      throw error
    })
    return otherwise()
  }
}
