import { ProblemError, languages, unready } from './api'
import { followAppearance, setTheme, theme, themes } from './appearance'
import { remedy, watchCatalogue } from './catalogue'
import { newCommands } from './commands'
import { newContest } from './contest'
import { openVersions } from './dialog'
import { newDraft, starter } from './drafts'
import type { Draft } from './drafts'
import { newEditor } from './editor'
import { mac, runKey } from './keys'
import { newFinding } from './finding'
import { newPicker } from './languages'
import { newLinks } from './links'
import { newLayout } from './layout'
import { newPanes, newAttention, typeByTouch } from './focus'
import { fingerprint } from './fingerprint'
import { showCursor, showLimits, showSaved } from './foot'
import type { Language } from './messages'
import { enable, enabled, page } from './page'
import { pictures } from './pictures'
import type { Sources } from './problems'
import { newResults } from './results'
import type { Facts } from './results'
import { newRunner } from './run'
import type { Resumed } from './run'
import { say, sayOf } from './say'
import { newScreen } from './screen'
import { openSocket } from './socket'
import { showStatus } from './status'
import { store, tab } from './store'
import { onOffers } from './strip'
import { newVersions, noVersions } from './versions'
import type { Version, Versions } from './versions'
import { newWatch } from './watch'

const nonce = document.querySelector<HTMLScriptElement>('script[nonce]')?.nonce ?? ''
const saveAfter = 300

/** One language's program in this tab. */
interface Work {
  draft: Draft
  versions: Versions
}

/** What a page loaded again has to know of the run that it shows. */
interface Remembered extends Resumed {
  made: Made
  facts: Facts
}

/** What a result was made from. */
interface Made {
  language: string
  fileName: string
  print: string
}

let language: Language | null = null
let made: Made | null = null
let asking = false
/** Run was asked for before the languages were there. */
let wanted = false
let saving: ReturnType<typeof setTimeout> | undefined
const works = new Map<string, Work>()
let program: Work | null = null
let input: Draft | null = null

const layout = newLayout()
const screen = newScreen(page.terminal, {
  typed: type,
  resized: (size) => runner.resize(size),
  pastedTooMuch: () => results.tooMuch(),
})
const links = newLinks((named) => finding.goTo(named))
const results = newResults(screen, links.linked, () => {
  showControls()
  remember()
})
const editor = newEditor(page.editor, nonce, { changed: edited, moved: showCursor })
const finding = newFinding(editor, links, {
  sources: () => (language !== null && language.id === made?.language ? { language, sources: sourcesOf(language) } : null),
  go(place) {
    layout.show('code')
    editor.go(place)
  },
  name: (id) => id,
})
const runner = newRunner((frame) => socket.send(frame), finding.watch(results))
const watch = newWatch(askWhy)
const picker = newPicker(page.language, page.version, page.versionField, store, open)
const socket = openSocket('api/v1/ws', {
  open() {
    showStatus(true)
    runner.opened()
    watchRun()
  },
  closed(code) {
    showStatus(false)
    runner.closed(code)
    watch.stop()
  },
  frame(frame) {
    runner.frame(frame)
    if (frame.type !== 'event') remember()
    // A refusal that the program waits out is no progress.
    if (runner.current() === null || frame.type !== 'error') watchRun()
  },
  wanted: () => runner.current() !== null,
})
/** The terminal takes the keys of who only watches a program that is still there. */
const attention = newAttention(() => {
  if (runner.current()?.tty === true) screen.focus()
})
const showProgramContest = newContest(page.programContest, (choice) => {
  settle(() => program?.draft[choice]())
  editor.focus()
})
const showInputContest = newContest(page.inputContest, (choice) => {
  settle(() => input?.[choice]())
  page.stdin.focus()
})

function open(picked: Language): void {
  save()
  language = picked
  program = works.get(picked.id) ?? newWork(picked)
  works.set(picked.id, program)
  if (!input?.contested) input = newDraft(store, noVersions, 'stdin', picked.example_stdin ?? '')
  page.fileName.textContent = picked.file_name
  results.file(picked.file_name)
  program.draft.look()
  editor.open(picked.id, picked.editor_mode, program.draft.text)
  showDrafts()
  showLimits(picked)
  layout.drawer.suit(input?.text !== '')
  // Who has not gone elsewhere meanwhile can write at once. By touch a keyboard would come up.
  if (!layout.narrow && document.activeElement === document.body) editor.focus()
  finding.show(picked)
}

function sourcesOf({ file_name, flags }: Language): Sources {
  return { main: file_name, files: new Map([[file_name, editor.text()]]), renamed: flags.named_by_source }
}

function newWork(of: Language): Work {
  const versions = newVersions(store, `versions:${of.id}`, starter(of))
  return { versions, draft: newDraft(store, versions, `draft:${of.id}`, starter(of)) }
}

/** The editor and the input box as the drafts have them. */
function showDrafts(): void {
  if (program === null || input === null) return
  if (editor.text() !== program.draft.text) editor.replace(program.draft.text)
  if (page.stdin.value !== input.text) page.stdin.value = input.text
  showProgramContest(program.draft.contested)
  showInputContest(input.contested)
  page.restore.hidden = program.draft.text === program.draft.starter
  page.versions.hidden = earlier(program).length === 0
  showInputState()
  showSaved()
  showAge()
}

/** Beside the tab's name, for who does not see the input. */
function showInputState(): void {
  const text = page.stdin.value
  const n = text.split('\n').length - (text.endsWith('\n') ? 1 : 0)
  page.inputState.textContent = text === '' ? say('input_live') : say('lines', { n })
}

function earlier({ draft, versions }: Work): Version[] {
  return versions.list().filter((version) => version.text !== draft.text)
}

/** Marks a result that was made from something else than what is there now. */
function showAge(): void {
  const now = made === null ? null : makes()
  if (made === null || now === null || made.print === now.print) results.old('')
  else results.old(made.language === now.language ? say('old') : say('old_from', { name: made.fileName }))
}

function makes(): Made | null {
  const choice = picker.choice()
  if (choice === null) return null
  const { id, file_name } = choice.language
  const print = fingerprint(JSON.stringify([id, choice.version ?? '', editor.text(), page.stdin.value]))
  return { language: id, fileName: file_name, print }
}

function edited(): void {
  clearTimeout(saving)
  saving = setTimeout(save, saveAfter)
}

/** What was written in the last moment is noted first, or the drafts would be shown over it. */
function settle(choose: () => void): void {
  noteEdits()
  choose()
  showDrafts()
}

function look(): void {
  settle(() => {
    program?.draft.look()
    input?.look()
  })
}

function noteEdits(): void {
  program?.draft.edit(editor.text())
  input?.edit(page.stdin.value)
}

function save(): void {
  clearTimeout(saving)
  noteEdits()
  program?.draft.save()
  input?.save()
  showDrafts()
}

/** `live`: what stands under Input is left out, for this once. */
function run(live = false): void {
  const choice = picker.choice()
  if (choice === null || program === null) {
    wanted = true
    return results.waiting()
  }
  wanted = false
  save()
  program.versions.keep(program.draft.text)
  const stdin = live ? '' : page.stdin.value
  made = makes()
  Object.assign(results.facts, { limits: choice.language.limits, hadInput: stdin !== '', size: new Blob([editor.text(), stdin]).size })
  finding.ran(choice.language, sourcesOf(choice.language))
  layout.show('output')
  runner.submit({
    language: choice.language.id,
    ...(choice.version === undefined ? {} : { version: choice.version }),
    source: editor.text(),
    stdin,
    // One rule: what gets input reads that, then its end; what gets none talks to the person.
    ...(stdin === '' ? { tty: results.terminal() } : {}),
    artifacts: pictures,
  })
  socket.hurry()
  watchRun()
  showDrafts()
  if (stdin === '') attention.ask()
}

function stop(): void {
  const current = runner.current()
  if (current === null || current.over || current.cancelled) return
  results.stopping()
  runner.cancel()
  showControls()
}

function type(text: string): void {
  results.facts.typed = Date.now()
  if (!runner.type(text)) results.tooMuch()
}

/** What can be done now. */
function showControls(): void {
  const current = runner.current()
  const busy = current !== null && !current.over
  page.run.dataset['state'] = busy ? 'stop' : 'run'
  page.runWord.textContent = say(busy ? 'stop' : 'run')
  if (!busy) page.runKey.textContent = runKey
  else if (page.runKey.textContent === runKey) page.runKey.textContent = ''
  enable(page.run, !busy || !current.cancelled)
  page.keys.hidden = !(busy && current.tty)
  document.body.classList.toggle('running', busy)
}

function showTheme(): void {
  page.theme.title = say('theme_is', { theme: sayOf('theme', theme()) ?? '' })
  page.theme.setAttribute('aria-label', page.theme.title)
}

function watchRun(): void {
  if (runner.current() === null) watch.stop()
  else watch.heard()
}

/** Nothing has been heard of the run for a while: the server may know why. */
async function askWhy(): Promise<void> {
  const waiting = runner.current()
  const after = waiting?.after
  if (waiting === null || asking) return
  asking = true
  try {
    const [problem, offered] = await Promise.all([unready(), languages()])
    const why = problem !== null ? remedy(problem) : offered.length === 0 ? say('no_machine') : ''
    if (why !== '' && runner.current() === waiting && waiting.after === after) results.stuck(why)
  } catch (error) {
    // No answer at all: then the connection carries nothing either.
    if (!(error instanceof ProblemError)) socket.renew()
  } finally {
    asking = false
  }
}

function remember(): void {
  const shown = runner.shown()
  if (shown === null || made === null) return tab.set('shown', null)
  const remembered: Remembered = { ...shown, made, facts: results.facts }
  tab.set('shown', JSON.stringify(remembered))
}

function resume(): void {
  const kept = tab.get('shown')
  if (kept === null) return
  tab.set('shown', null)
  const remembered = JSON.parse(kept) as Remembered
  made = remembered.made
  Object.assign(results.facts, remembered.facts)
  runner.resume(remembered)
}

/** What the button was when it was pressed: a run may end just then. */
let pressed = page.run.dataset['state']
page.run.addEventListener('pointerdown', () => {
  pressed = page.run.dataset['state']
})
page.run.addEventListener('click', (click) => {
  const { state } = page.run.dataset
  // The second click of two; and one that meant something else. A key has no clicks to count.
  if (!enabled(page.run) || click.detail > 1 || (click.detail === 1 && pressed !== state)) return
  if (state === 'run') run()
  else stop()
})
page.restore.addEventListener('click', () => {
  if (language === null || program === null) return
  program.versions.keep(editor.text())
  editor.replace(starter(language))
  page.stdin.value = language.example_stdin ?? ''
  save()
  editor.focus()
})
page.versions.addEventListener('click', () => {
  if (program === null) return
  const { versions } = program
  save()
  openVersions(earlier(program), ({ text }) => {
    versions.keep(editor.text())
    editor.replace(text)
    save()
    editor.focus()
  })
})
onOffers({
  'try-now'() {
    socket.hurry()
    runner.hurry()
  },
  'run-again': () => run(),
  'type-live': () => run(true),
  'write-input'() {
    layout.show('input')
    page.stdin.focus()
  },
})
page.stdin.addEventListener('input', () => {
  showInputState()
  edited()
})
page.theme.addEventListener('click', () => {
  setTheme(themes[(themes.indexOf(theme()) + 1) % themes.length] ?? 'system')
  showTheme()
})
page.version.addEventListener('change', showAge)
store.watch(look)
addEventListener('pagehide', () => {
  save()
  program?.draft.leave()
  input?.leave()
  remember()
})
// A page that comes back as it was has heard of no other tab meanwhile; one in the background may be
// ended without a word.
addEventListener('pageshow', look)
document.addEventListener('visibilitychange', save)

page.run.setAttribute('aria-keyshortcuts', mac ? 'Meta+Enter' : 'Control+Enter')
typeByTouch(page.keys, type)
const nextPane = newPanes([
  {
    in: page.editor,
    focus() {
      layout.show('code')
      editor.focus()
    },
  },
  {
    in: page.drawer,
    focus() {
      layout.show('input')
      page.stdin.focus()
    },
  },
  {
    in: page.result,
    focus() {
      layout.show('output')
      ;(page.terminal.hidden ? page.output : screen).focus()
    },
  },
])
newCommands({
  run: () => run(),
  stop,
  save() {
    save()
    results.say(say(store.whole ? 'saved' : 'not_saved'))
  },
  next_pane: () => nextPane(1),
  previous_pane: () => nextPane(-1),
  next_problem: () => finding.next(1),
  previous_problem: () => finding.next(-1),
  input() {
    layout.show('input')
    page.stdin.focus()
  },
  drawer: () => page.drawerToggle.click(),
  copy: () => page.copy.click(),
  download: () => page.download.click(),
  versions: () => page.versions.click(),
  example: () => page.restore.click(),
  theme: () => page.theme.click(),
})
followAppearance()
showTheme()
showControls()
resume()
watchCatalogue((offered) => {
  picker.fill(offered)
  if (wanted) run()
  if (runner.current() === null) results.idle(offered.length > 0)
  showControls()
})
