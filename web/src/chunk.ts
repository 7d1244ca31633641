// A part of the page that is fetched when it is wanted. The server may have been upgraded, or rolled back, since the
// page was loaded: then the part as this page knows it is not there, and another one would not fit.

/** What was imported. Where that fails because the server has another version of the page, the page says so. */
export async function chunk<T>(imported: Promise<T>): Promise<T> {
  try {
    return await imported
  } catch (error) {
    void compare()
    throw error
  }
}

/** The address of each file names its content. */
export async function compare(): Promise<void> {
  const own = document.querySelectorAll<HTMLScriptElement | HTMLLinkElement>('script[type=module], link[rel=modulepreload]')
  const there = Array.from(own, async (each): Promise<number> => {
    const address = each instanceof HTMLScriptElement ? each.src : each.href
    return (await fetch(address, { method: 'HEAD', cache: 'no-store' })).status
  })
  const says = document.getElementById('other-version')
  // No answer is no other version.
  const gone = await Promise.all(there).then((all) => all.includes(404), () => false)
  if (says !== null && gone) says.hidden = false
}
