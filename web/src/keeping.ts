import { downloadProgram } from './download'
import { newNotice } from './notice'
import { say } from './say'
import type { Phrase } from './say'
import type { Store } from './store'
import type { Workspace } from './workspace'

/** About half of what a browser keeps for one site. */
const large = 2_000_000

/** Says, once, that the browser does not keep what was written, and keeps the page from being closed unasked. */
export function newKeeping(store: Store, element: HTMLElement, retry: () => void): { show(workspace: Workspace): void } {
  const notice = newNotice(element)
  const said = new Set<Phrase>()
  /** The languages of the programs that are not kept: each that was shown can be lost. */
  const losing = new Set<string>()
  let shown: Phrase | null = null

  function ask(leaving: BeforeUnloadEvent): void {
    leaving.preventDefault()
  }

  function why(workspace: Workspace): Phrase | null {
    if (!workspace.unkept) return null
    if (!store.works()) return 'unkept_none'
    return workspace.text.length > large ? 'unkept_large' : 'unkept_full'
  }

  return {
    show(workspace) {
      const phrase = why(workspace)
      if (phrase === null) losing.delete(workspace.language.id)
      else losing.add(workspace.language.id)
      if (losing.size === 0) removeEventListener('beforeunload', ask)
      else addEventListener('beforeunload', ask)
      if (phrase === shown) return
      shown = phrase
      if (phrase === null) return notice.hide()
      if (said.has(phrase)) return
      said.add(phrase)
      const save = {
        label: say('file_download'),
        do() {
          downloadProgram(workspace.program, workspace.language).catch(() => notice.say(say('not_downloaded'), save))
        },
      }
      const forget = {
        label: say('forget_versions'),
        do() {
          for (const id of store.keys('versions:')) store.set(`versions:${id}`, null)
          retry()
        },
      }
      notice.say(say(phrase), save, ...(phrase === 'unkept_full' ? [forget] : []))
    },
  }
}
