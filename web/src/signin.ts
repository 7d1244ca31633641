/** The page keeps what was written, and is loaded again when its user comes back. */
export const signIn = () => location.assign('sign-in')

/** Whether this server knows people. */
export const canSignIn = () => typeof document !== 'undefined' && document.getElementById('sign-in') !== null
