import { hex } from './binary'
import type { Binary } from './binary'
import { copyText } from './copying'
import { download } from './download'
import { bytes } from './measures'
import { page } from './page'
import { say } from './say'

const mostHex = 16_384
const flashFor = 1_200

/** What can be taken away of a run: its output, as text or as bytes. */
export interface Taking {
  /** Shows what cannot be read as what it is. */
  showBinary(is: boolean): void
}

export function newTaking(written: () => string, raw: Binary, tell: (what: string) => void): Taking {
  function save(): void {
    if (raw.isBinary) download(new Blob([raw.bytes()], { type: 'application/octet-stream' }), 'output.bin')
    else download(new Blob([written()], { type: 'text/plain' }), 'output.txt')
  }

  function showHex(is: boolean): void {
    page.hex.hidden = !is
    page.hex.textContent = is ? hex(raw.bytes().subarray(0, mostHex)) : ''
    page.binaryHex.setAttribute('aria-expanded', String(is))
  }

  page.copy.addEventListener('click', async () => {
    const word = say((await copyText(written())) ? 'copied' : 'not_copied')
    flash(page.copy, word)
    tell(word)
  })
  page.download.addEventListener('click', save)
  page.binaryDownload.addEventListener('click', save)
  page.binaryHex.addEventListener('click', () => showHex(page.binaryHex.getAttribute('aria-expanded') !== 'true'))
  return {
    showBinary(is) {
      page.binary.hidden = !is
      page.binarySize.textContent = is ? say('binary', { size: bytes(raw.size) }) : ''
      showHex(false)
    },
  }
}

function flash(button: HTMLButtonElement, text: string): void {
  const word = button.querySelector('span')
  if (word === null) return
  const before = (button.dataset['text'] ??= word.textContent ?? '')
  word.textContent = text
  button.classList.add('said')
  setTimeout(() => {
    word.textContent = before
    button.classList.remove('said')
  }, flashFor)
}
