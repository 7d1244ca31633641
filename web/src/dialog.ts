import { page } from './page'
import type { Program } from './program'
import { label } from './versions'
import type { Version } from './versions'

/** Shows versions to choose from. */
export function openVersions(versions: Version[], read: (text: string) => Program, chosen: (version: Version) => void): void {
  page.versionsList.replaceChildren(
    ...versions.map((version) => {
      const item = document.createElement('li')
      const button = document.createElement('button')
      button.type = 'button'
      button.textContent = label(version.time, read(version.text), Date.now())
      button.addEventListener('click', () => {
        page.versionsDialog.close()
        chosen(version)
      })
      item.append(button)
      return item
    }),
  )
  page.versionsDialog.showModal()
}

page.versionsClose.addEventListener('click', () => page.versionsDialog.close())
