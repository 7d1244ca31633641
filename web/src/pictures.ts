import { bytes } from './measures'
import type { Artifact, Result } from './messages'
import { visible } from './visible'

/** What is asked of each run. */
export const pictures = ['png', 'jpg', 'jpeg', 'gif', 'webp'].map((suffix) => `**/*.${suffix}`)

/** The pictures that a run left, as elements. The server tells their types from their bytes. */
export function shown(result: Result): HTMLElement[] {
  return (result.artifacts ?? []).filter((each) => each.type.startsWith('image/')).map((each) => figure(result.id, each))
}

function figure(id: string, artifact: Artifact): HTMLElement {
  const address = `api/v1/submissions/${id}/artifacts/${artifact.name.split('/').map(encodeURIComponent).join('/')}`
  const image = document.createElement('img')
  image.src = address
  image.alt = visible(artifact.name)
  const link = document.createElement('a')
  link.href = address
  link.target = '_blank'
  link.rel = 'noopener'
  link.append(image)
  const caption = document.createElement('figcaption')
  caption.textContent = `${image.alt}, ${bytes(artifact.bytes)}`
  const figure = document.createElement('figure')
  figure.append(link, caption)
  return figure
}
