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

// A browser lays out anew what is set again to what it is. Also it keeps all that comes from a server back until it has
// drawn what a key has changed.

export function setText(element: HTMLElement, text: string): void {
  if (element.textContent !== text) element.textContent = text
}

export function setHidden(element: HTMLElement, hidden: boolean): void {
  if (element.hidden !== hidden) element.hidden = hidden
}

export function setState(element: HTMLElement, state: string): void {
  if (element.dataset['state'] !== state) element.dataset['state'] = state
}
