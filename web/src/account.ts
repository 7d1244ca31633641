// Who uses the page and what is left, where the server has accounts.

import { ProblemError, me, signOut } from './api'
import type { Me } from './messages'
import { kind } from './messages'
import { newNotice } from './notice'
import { leftOf } from './quota'
import { say } from './say'
import { signIn } from './signin'
import { visible } from './visible'

export interface Account {
  /** Something may have changed: a run has ended, the connection was lost. `now`: it surely has. */
  look(now: boolean): void
}

/** In milliseconds: what nobody sees is looked at so often at most. */
const seldom = 60_000

export function newAccount(): Account {
  const link = document.getElementById('sign-in')
  const button = document.getElementById('me') as HTMLButtonElement
  const name = document.getElementById('me-name') as HTMLElement
  const menu = document.getElementById('me-menu') as HTMLElement
  const strip = document.getElementById('signed-out')
  const notice = strip === null ? null : newNotice(strip)
  let looked = Number.NEGATIVE_INFINITY

  async function look(): Promise<void> {
    looked = performance.now()
    try {
      show(await me())
    } catch (error) {
      if (error instanceof ProblemError && kind(error.problem) === 'signed-out') ended()
      // Otherwise the server is away, which the page says elsewhere.
    }
  }

  function show(found: Me): void {
    const known = found.kind === 'person'
    const quotas = Object.entries(found.quotas).flatMap(([each, quota]) => leftOf(each, quota) ?? [])
    if (link !== null) link.hidden = known
    const called = visible(found.name ?? '')
    name.textContent = known ? called : ''
    button.hidden = !known && quotas.length === 0
    menu.replaceChildren(
      element('strong', known ? called : say('not_signed_in')),
      ...(found.class === null ? [] : [element('p', say('class_is', { name: found.class }))]),
      ...(quotas.length === 0 ? [] : [element('h2', say('left_now')), list(quotas)]),
      ...(known ? [action('sign_out', leave)] : link === null ? [] : [action('sign_in', signIn)]),
    )
    notice?.hide()
  }

  function ended(): void {
    if (link !== null) link.hidden = false
    button.hidden = true
    menu.hidePopover()
    notice?.say(say('sign_in_ended_line'), { label: say('sign_in'), do: signIn }, { label: say('go_on_without'), do: leave })
  }

  function leave(): void {
    // Loaded again, the page has nothing of the one who was here but what the browser keeps.
    signOut().then(
      () => location.reload(),
      () => notice?.say(say('sign_out_failed')),
    )
  }

  menu.addEventListener('beforetoggle', () => {
    const { bottom, right } = button.getBoundingClientRect()
    menu.style.top = `${bottom + 2}px`
    menu.style.setProperty('--right', `${innerWidth - right}px`)
  })
  menu.addEventListener('toggle', () => {
    if (menu.matches(':popover-open')) void look()
  })
  void look()
  return {
    look(now) {
      if (now || menu.matches(':popover-open') || performance.now() - looked > seldom) void look()
    },
  }
}

function element(type: string, text: string): HTMLElement {
  const made = document.createElement(type)
  made.textContent = text
  return made
}

function list(quotas: { label: string; left: string }[]): HTMLElement {
  const made = document.createElement('dl')
  made.append(
    ...quotas.map(({ label, left }) => {
      const pair = document.createElement('div')
      pair.append(element('dt', label), element('dd', left))
      return pair
    }),
  )
  return made
}

function action(words: 'sign_in' | 'sign_out', act: () => void): HTMLElement {
  const made = document.createElement('button')
  made.type = 'button'
  made.dataset['testid'] = words.replace('_', '-').concat('-here')
  made.textContent = say(words)
  made.addEventListener('click', act)
  return made
}
