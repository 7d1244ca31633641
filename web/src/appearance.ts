import { store } from './store'

export type Theme = 'system' | 'light' | 'dark'
export const themes: readonly Theme[] = ['system', 'light', 'dark']

const dark = matchMedia('(prefers-color-scheme: dark)')
const root = document.documentElement

export function theme(): Theme {
  return themes.find((each) => each === store.get('theme')) ?? 'system'
}

export function setTheme(theme: Theme): void {
  store.set('theme', theme === 'system' ? null : theme)
  applyAppearance()
}

/** Of the program and its output, in CSS pixels; null is the page's own choice. */
export function textSize(): number | null {
  return Number(store.get('text-size')) || null
}

export function setTextSize(pixels: number | null): void {
  store.set('text-size', pixels === null ? null : String(pixels))
  applyAppearance()
}

/** Dresses the page. `data-theme` is what is seen, also for who follows the system. */
export function applyAppearance(): void {
  const chosen = theme()
  root.dataset['theme'] = chosen === 'system' ? (dark.matches ? 'dark' : 'light') : chosen
  const size = textSize()
  if (size === null) root.style.removeProperty('--text-size')
  else root.style.setProperty('--text-size', String(size))
  const surface = getComputedStyle(root).getPropertyValue('--surface').trim()
  document.querySelector('meta[name="theme-color"]')?.setAttribute('content', surface)
}

/** Keeps to what the system and other tabs say. */
export function followAppearance(): void {
  dark.addEventListener('change', applyAppearance)
  store.watch(applyAppearance)
}
