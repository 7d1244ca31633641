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
      if (phrase === shown) return
      shown = phrase
      if (phrase === null) {
        removeEventListener('beforeunload', ask)
        return notice.hide()
      }
      addEventListener('beforeunload', ask)
      if (said.has(phrase)) return
      said.add(phrase)
      const save = { label: say('file_download'), do: () => void downloadProgram(workspace.program, workspace.language) }
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
