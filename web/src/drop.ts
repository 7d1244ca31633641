import { chunk } from './chunk'
import type { Item } from './incoming'

/** Files that a person drops onto the page, or pastes. Text that is dragged or pasted stays the editor's. */
export function onFiles(cover: HTMLElement, come: (get: () => Promise<{ items: Item[]; folder: string | null }>) => void): void {
  const hasFiles = ({ dataTransfer }: DragEvent) => dataTransfer?.types.includes('Files') === true
  /** Enters and leaves are told for each element on the way; only this says that the drag is over. */
  let over: ReturnType<typeof setTimeout> | undefined

  function show(shown: boolean): void {
    cover.hidden = !shown
    clearTimeout(over)
    if (shown) over = setTimeout(() => show(false), 500)
  }

  addEventListener(
    'dragover',
    (drag) => {
      if (!hasFiles(drag)) return
      drag.preventDefault()
      drag.stopPropagation()
      if (drag.dataTransfer !== null) drag.dataTransfer.dropEffect = 'copy'
      show(true)
    },
    { capture: true },
  )
  addEventListener(
    'drop',
    (drag) => {
      if (!hasFiles(drag) || drag.dataTransfer === null) return
      drag.preventDefault()
      drag.stopPropagation()
      show(false)
      take(drag.dataTransfer)
    },
    { capture: true },
  )
  addEventListener(
    'paste',
    (paste) => {
      const data = paste.clipboardData
      if (data === null || data.files.length === 0 || data.getData('text/plain') !== '') return
      paste.preventDefault()
      paste.stopPropagation()
      take(data)
    },
    { capture: true },
  )

  /** A browser forgets what was dropped when the event is over. */
  function take(data: DataTransfer): void {
    const entries = Array.from(data.items, (item) => (item.kind === 'file' ? item.webkitGetAsEntry() : null))
    const files = Array.from(data.files)
    come(async () => (await chunk(import('./incoming'))).listed(entries, files))
  }
}
