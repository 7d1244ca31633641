import { setHidden } from './elements'
import { visible } from './visible'

/** A line that says something, with what can be done about it. */
export interface Notice {
  say(text: string, ...actions: Action[]): void
  hide(): void
}

export interface Action {
  label: string
  do(): void
}

/** The element has a text, a place for actions, and a button that takes the line away. */
export function newNotice(element: HTMLElement): Notice {
  const text = element.querySelector('span')
  const close = element.querySelector('button')
  const hide = () => {
    setHidden(element, true)
  }
  close?.addEventListener('click', hide)
  return {
    hide,
    say(words, ...actions) {
      for (const old of element.querySelectorAll('.action')) old.remove()
      const buttons = actions.map(({ label, do: act }) => {
        const button = document.createElement('button')
        button.type = 'button'
        button.className = 'action'
        button.textContent = label
        button.addEventListener('click', () => {
          hide()
          act()
        })
        return button
      })
      element.hidden = false
      if (text !== null) text.textContent = visible(words)
      text?.after(...buttons)
    },
  }
}
