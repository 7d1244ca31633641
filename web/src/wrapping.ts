import { store } from './store'

/** A switch for the lines of a text that are longer than the text is wide: they go on in the next row, or are reached
 * by scrolling. It is remembered under `key`. `usual`: whether they are wrapped while nobody has said so. */
export function newWrapping(button: HTMLButtonElement, pane: HTMLElement, key: string, usual: boolean): void {
  const wrapped = () => (store.get(key) ?? (usual ? 'yes' : 'no')) === 'yes'

  function show(): void {
    button.setAttribute('aria-pressed', String(wrapped()))
    pane.classList.toggle('wrapped', wrapped())
  }

  button.addEventListener('click', () => {
    const next = !wrapped()
    store.set(key, next === usual ? null : next ? 'yes' : 'no')
    show()
  })
  show()
}
