import { newKey } from './key'
import { has, isNumber, isText, isYesOrNo, parsed } from './parsed'

// A tab that is duplicated while a program runs follows that run, too. What a person types in either goes to the
// program. What the program asks of its terminal only one of them answers, or it would read two answers.

/** A page that follows a run. The one that was opened first answers. */
interface Page {
  id: string
  key: string
  opened: number
  /** It wants to know who else does. */
  asks: boolean
  leaves: boolean
}

const isPage = has<Page>({ id: isText, key: isText, opened: isNumber, asks: isYesOrNo, leaves: isYesOrNo })

export interface Twins {
  /** A run is followed that another page began. */
  joined(): void
  /** Whether no other page answers for the run that this one follows. */
  first(): boolean
}

/** `following`: the id of the run that this page follows now. */
export function newTwins(following: () => string | null): Twins {
  const channel = new BroadcastChannel('occd:following')
  const me = { key: newKey(), opened: performance.timeOrigin }
  const others = new Map<string, Page>()

  function tell(asks: boolean, leaves: boolean): void {
    const id = following()
    if (id !== null) channel.postMessage(JSON.stringify({ id, ...me, asks, leaves } satisfies Page))
  }

  const joined = () => tell(true, false)
  channel.addEventListener('message', ({ data }: MessageEvent<unknown>) => {
    const other = parsed(isText(data) ? data : null, isPage)
    if (other === null || other.id !== following()) return
    if (other.leaves) others.delete(other.key)
    else others.set(other.key, other)
    if (other.asks) tell(false, false)
  })
  addEventListener('pagehide', () => tell(false, true))
  addEventListener('pageshow', ({ persisted }) => persisted && joined())

  return {
    joined,
    first() {
      const id = following()
      const before = (other: Page) => other.opened < me.opened || (other.opened === me.opened && other.key < me.key)
      return ![...others.values()].some((other) => other.id === id && before(other))
    },
  }
}
