import type { Bindings } from './bindings'
import { chunk } from './chunk'
import type { Language } from './messages'
import type { Options } from './options'
import { page } from './page'
import { say } from './say'

export interface OptionsButton {
  /** Whether something of this language is not as it would be without a choice. */
  show(changed: boolean): void
  open(): void
}

export interface OptionsEvents {
  language(): Language | null
  keys(): Bindings
  chooseKeys(keys: Bindings): void
  changed(): void
}

export function newOptionsButton(options: Options, on: OptionsEvents): OptionsButton {
  let wasOpen = false

  async function open(): Promise<void> {
    const language = on.language()
    if (language === null) return
    const { openOptions } = await chunk(import('./optionsdialog'))
    openOptions({ language, options, keys: on.keys(), changed: on.changed, chooseKeys: on.chooseKeys })
  }

  // A press beside an open popover closes it; the click that follows must not open it again.
  page.options.addEventListener('pointerdown', () => {
    wasOpen = page.optionsDialog.matches(':popover-open')
  })
  page.options.addEventListener('click', (click) => {
    if (!wasOpen || click.detail === 0) void open()
    wasOpen = false
  })
  page.options.hidden = false
  return {
    open: () => void open(),
    show(changed) {
      page.options.dataset['changed'] = String(changed)
      page.options.setAttribute('aria-label', say(changed ? 'options_changed' : 'options'))
    },
  }
}
