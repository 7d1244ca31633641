const link = () => (typeof document === 'undefined' ? null : document.querySelector<HTMLAnchorElement>('#sign-in'))

/** The page keeps what was written, and is loaded again when its user comes back. */
export function signIn(): void {
  const to = link()
  if (to !== null) location.assign(to.href)
}

/** Whether this server knows people. */
export const canSignIn = () => link() !== null
