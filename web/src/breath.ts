const longest = 12
let since = 0

/** Waits for nothing, so that the page can do other work, if the work here goes on for long. */
export async function breath(): Promise<void> {
  const now = performance.now()
  if (now - since < longest) return
  await new Promise((resolve) => setTimeout(resolve))
  since = performance.now()
}
