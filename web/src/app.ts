import { watchCatalogue } from './catalogue'
import { draft, input, keepDraft, keepInput, starter } from './drafts'
import { newEditor } from './editor'
import { newPicker } from './languages'
import type { Language } from './messages'
import { enable, enabled, page } from './page'
import { newResults } from './results'
import { newRunner } from './run'
import { openSocket } from './socket'
import { showStatus } from './status'
import { store, tab } from './store'

const nonce = document.querySelector<HTMLScriptElement>('script[nonce]')?.nonce ?? ''
const mac = /Mac|iPhone|iPad/.test(navigator.platform)
const saveAfter = 300

let language: Language | null = null
let saving: ReturnType<typeof setTimeout> | undefined

const results = newResults(showControls)
const runner = newRunner((frame) => socket.send(frame), results)
const editor = newEditor(page.editor, nonce, { run, changed: saveSoon })
const picker = newPicker(page.language, page.version, page.versionField, store, open)
const socket = openSocket('/api/v1/ws', {
  open() {
    showStatus(true)
    runner.opened()
  },
  closed(code) {
    showStatus(false)
    runner.closed(code)
  },
  frame: (frame) => runner.frame(frame),
})

function open(picked: Language): void {
  save()
  if (language === null || page.stdin.value === (language.example_stdin ?? '')) page.stdin.value = input(store, picked)
  language = picked
  page.fileName.textContent = picked.file_name
  editor.open(picked.id, picked.editor_mode, draft(store, picked))
  page.restore.hidden = editor.text() === starter(picked)
}

function saveSoon(): void {
  clearTimeout(saving)
  saving = setTimeout(save, saveAfter)
}

function save(): void {
  clearTimeout(saving)
  if (language === null) return
  const text = editor.text()
  keepDraft(store, language, text)
  keepInput(store, language, page.stdin.value)
  page.restore.hidden = text === starter(language)
}

function run(): void {
  const choice = picker.choice()
  if (choice === null || runner.current() !== null) return
  save()
  runner.submit({
    language: choice.language.id,
    ...(choice.version === undefined ? {} : { version: choice.version }),
    source: editor.text(),
    stdin: page.stdin.value,
    interactive: page.interactive.checked,
  })
  page.result.scrollIntoView({ block: 'nearest' })
  if (page.interactive.checked) page.liveInput.focus()
}

function type(data: string, eof: boolean): void {
  const current = runner.current()
  if (current === null || !current.interactive || current.input.ended) return
  if (data !== '') results.echo(data)
  runner.type(data, eof)
  showControls()
}

/** What can be done now, and what a reload of the page would have to know. */
function showControls(): void {
  const current = runner.current()
  enable(page.run, current === null && language !== null)
  enable(page.stop, current !== null && !current.cancelled)
  page.live.hidden = !(current === null ? page.interactive.checked : current.interactive)
  page.stdinLabel.textContent = page.interactive.checked ? 'First input (stdin)' : 'Input (stdin)'
  const typing = current !== null && current.interactive && !current.input.ended
  page.liveInput.disabled = !typing
  enable(page.send, typing)
  enable(page.eof, typing)
  document.body.classList.toggle('running', current !== null)
}

function remember(): void {
  const current = runner.current()
  const followed = current?.id ? { id: current.id, interactive: current.interactive, offset: current.input.offset } : null
  tab.set('following', followed && JSON.stringify(followed))
}

function resume(): void {
  const followed = tab.get('following')
  if (followed === null) return
  tab.set('following', null)
  const { id, interactive, offset } = JSON.parse(followed) as { id: string; interactive: boolean; offset: number }
  runner.resume(id, interactive, offset)
}

page.run.addEventListener('click', run)
page.stop.addEventListener('click', () => {
  if (!enabled(page.stop)) return
  results.stopping()
  runner.cancel()
  showControls()
})
page.restore.addEventListener('click', () => {
  if (language === null) return
  editor.replace(starter(language))
  page.stdin.value = language.example_stdin ?? ''
  save()
  editor.focus()
})
page.stdin.addEventListener('input', saveSoon)
page.interactive.checked = store.get('interactive') === 'yes'
page.interactive.addEventListener('change', () => {
  store.set('interactive', page.interactive.checked ? 'yes' : null)
  showControls()
})
page.live.addEventListener('submit', (submit) => {
  submit.preventDefault()
  if (!enabled(page.send)) return
  type(`${page.liveInput.value}\n`, false)
  page.liveInput.value = ''
})
page.eof.addEventListener('click', () => {
  if (enabled(page.eof)) type('', true)
})
page.liveInput.addEventListener('keydown', (key) => {
  if (key.key !== 'd' || !key.ctrlKey) return
  key.preventDefault()
  // As in a terminal: first what stands in the line, then, on an empty one, the end.
  if (page.liveInput.value === '') type('', true)
  else type(page.liveInput.value, false)
  page.liveInput.value = ''
})
document.addEventListener('keydown', (key) => {
  if (key.key !== 'Enter' || !(mac ? key.metaKey : key.ctrlKey) || key.defaultPrevented) return
  key.preventDefault()
  run()
})
addEventListener('pagehide', () => {
  save()
  remember()
})

page.runKey.textContent = mac ? '⌘ Enter' : 'Ctrl Enter'
page.run.setAttribute('aria-keyshortcuts', mac ? 'Meta+Enter' : 'Control+Enter')
showControls()
resume()
watchCatalogue((languages) => {
  picker.fill(languages)
  if (runner.current() === null) results.idle(languages.length > 0)
  showControls()
})
