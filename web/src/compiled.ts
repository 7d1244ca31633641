import { newOutput } from './output'
import type { Output } from './output'
import { page } from './page'
import { say } from './say'
import { warnings } from './warnings'

/** What the compiler says. It can be folded away, as it is when the program runs all the same. */
export interface Compiled extends Output {
  fold(folded: boolean): void
}

export function newCompiled(linked: (text: string) => HTMLElement | null): Compiled {
  const empty = (is: boolean) => {
    page.compilePart.hidden = is
  }
  const output = newOutput(page.compileOutput, false, empty, linked)

  function fold(folded: boolean): void {
    page.compileOutput.hidden = folded
    page.compileFold.setAttribute('aria-expanded', String(!folded))
    page.compileWord.textContent = folded ? notes(output.text()) : say('compiler')
  }

  page.compileFold.addEventListener('click', () => fold(!page.compileOutput.hidden))
  return { ...output, fold }
}

function notes(text: string): string {
  const n = warnings(text)
  return n === 0 ? say('compiler_notes') : say('warnings', { n })
}
