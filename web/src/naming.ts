import type { NameFault } from './names'
import { page } from './page'
import { say } from './say'

export interface Question {
  title: string
  name: string
  button: string
  /** What is wrong with this name, in words. */
  wrong(name: string): string | null
  named(name: string): void
}

let asked: Question | null = null

/** Asks for the name of a file. */
export function askName(question: Question): void {
  asked = question
  page.nameTitle.textContent = question.title
  page.nameOk.textContent = question.button
  page.name.value = question.name
  show(null)
  page.nameDialog.showModal()
  // The part before the suffix is what is changed most often.
  const from = question.name.lastIndexOf('/') + 1
  const dot = question.name.lastIndexOf('.')
  page.name.setSelectionRange(from, dot > from ? dot : question.name.length)
}

function show(wrong: string | null): void {
  page.nameWrong.textContent = wrong ?? ''
  page.name.setAttribute('aria-invalid', String(wrong !== null))
}

export function nameWords(fault: NameFault, name: string, suffixes: readonly string[]): string {
  return say(`name_${fault}`, { name, suffix: suffixes[0] ?? '' })
}

page.nameForm.addEventListener('submit', (submit) => {
  submit.preventDefault()
  const name = page.name.value.trim()
  const wrong = asked?.wrong(name) ?? null
  show(wrong)
  if (wrong !== null) return page.name.focus()
  page.nameDialog.close()
  asked?.named(name)
})
page.name.addEventListener('input', () => show(null))
page.nameCancel.addEventListener('click', () => page.nameDialog.close())
