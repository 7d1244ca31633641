/** In milliseconds, by a clock that nobody sets. A page that is loaded again has about the same. */
export const steady = (): number => performance.timeOrigin + performance.now()
