/** An element with what it has and what is in it. */
export function make<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  has: Partial<Record<string, string>> = {},
  ...inside: (Node | string)[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag)
  for (const [name, value] of Object.entries(has)) if (value !== undefined) element.setAttribute(name, value)
  element.append(...inside)
  return element
}
