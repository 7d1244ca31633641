/** Gives a file to the browser to save. */
export function download(content: Blob, name: string): void {
  const link = document.createElement('a')
  link.href = URL.createObjectURL(content)
  link.download = name
  link.click()
  // A browser may read it only after the click.
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000)
}

