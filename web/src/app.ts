import { ProblemError, languages, unready } from './api'
import { bindings, loadBindings } from './bindings'
import type { Bindings } from './bindings'
import { ceilings, learnBounds, mostBytes } from './bounds'
import { followAppearance, setTheme, theme, themes } from './appearance'
import { remedy, watchCatalogue } from './catalogue'
import { breath } from './breath'
import { newCalm } from './calm'
import { chunk } from './chunk'
import { newCommands } from './commands'
import { newContest } from './contest'
import { openVersions } from './dialog'
import { newEditor } from './editor'
import { setHidden, setState, setText } from './elements'
import { newFiles } from './files'
import { gathered } from './gathered'
import { mac, runKey } from './keys'
import { newFinding } from './finding'
import { newPicker } from './languages'
import { newLinks } from './links'
import { newLayout } from './layout'
import { newPanes, newAttention, typeByTouch } from './focus'
import { fingerprint } from './fingerprint'
import { goneLanguages, isLimits, rememberLanguage } from './gone'
import { sayKept, showCursor, showLimits, showNote, showSaved } from './foot'
import { format } from './format'
import { linked, mostOfLink, readLink } from './link'
import type { Typed } from './input'
import type { Link } from './link'
import { newKeeping } from './keeping'
import { bytes } from './measures'
import type { Language } from './messages'
import { isAkin, modeOf } from './modes'
import { newNotice } from './notice'
import { faults, limitsOf, newOptions, submitted } from './options'
import { newOptionsButton } from './optionsbutton'
import { enable, enabled, page } from './page'
import { has, isList, isNumber, isText, isYesOrNo, orNull, parsed } from './parsed'
import { newPassing } from './passing'
import { pictures } from './pictures'
import type { Sources } from './problems'
import { read, sent, sizeOf, unixLines } from './program'
import { newResults } from './results'
import type { Facts } from './results'
import { newRunner } from './run'
import type { Resumed } from './run'
import { say, sayOf } from './say'
import { newScreen } from './screen'
import { signIn } from './signin'
import { openSocket } from './socket'
import { showStatus } from './status'
import { steady } from './steady'
import { store, tab } from './store'
import { onOffers } from './strip'
import { newTwins } from './twins'
import { unfailing } from './unfailing'
import { newWatch } from './watch'
import { newWorkspace } from './workspace'
import type { Workspace } from './workspace'
import { newWrapping } from './wrapping'

const nonce = document.querySelector<HTMLScriptElement>('script[nonce]')?.nonce ?? ''
const saveAfter = 300
const rememberAfter = 100
/** So many connections that carry nothing are no accident. */
const mostMute = 2
/** How the server closes a connection whose session has ended. */
const signedOut = 4401

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

interface Origin {
  language: string
  fileName: string
  parts: string[]
}

const isRemembered = has<Remembered>({
  id: isText,
  tty: isYesOrNo,
  seen: isNumber,
  typed: isList(has<Typed>({ writer: isText, offset: isNumber, waiting: isList(isText) })),
  over: isYesOrNo,
  made: has<Made>({ language: isText, fileName: isText, print: isText }),
  facts: has<Facts>({ began: orNull(isNumber), typed: isNumber, limits: orNull(isLimits), hadInput: isYesOrNo, size: isNumber }),
})

let offered: Language[] = []
let link = readLink(location)
let made: Made | null = null
let asking = false
/** Run was asked for before the languages were there. */
let wanted = false
let saving: ReturnType<typeof setTimeout> | undefined
let remembering: ReturnType<typeof setTimeout> | undefined
const workspaces = new Map<string, Workspace>()
let workspace: Workspace | null = null
/** The file that the editor has, and what the input box was given: what differs from them, a person wrote. */
let editing: { workspace: Workspace; name: string } | null = null
let given = ''

const layout = newLayout()
const screen = newScreen(page.terminal, {
  typed: type,
  resized: (size) => runner.resize(size),
  answers: () => twins.first(),
  pastedTooMuch() {
    if (runner.current()?.over === false) results.tooMuch()
  },
})
const links = newLinks((named) => finding.goTo(named))
/** Where the server has accounts. */
const account = document.getElementById('account') === null ? null : chunk(import('./account')).then(({ newAccount }) => newAccount()).catch(() => null)
const lookAtAccount = (now = false) => void account?.then((found) => found?.look(now))
const results = newResults(screen, links.linked, () => {
  showControls()
  remembering ??= setTimeout(remember, rememberAfter)
  if (runner.current() === null) lookAtAccount()
})
const editor = newEditor(page.editor, nonce, {
  changed: edited,
  // What was written a moment ago is not noted yet.
  overwriting: (text) => editing?.workspace.edit(editing.name, text),
  moved: showCursor,
})
const finding = newFinding(editor, links, {
  sources: () => (workspace !== null && workspace.language.id === made?.language ? { language: workspace.language, sources: sourcesOf(workspace) } : null),
  go(place, file) {
    layout.show('code')
    noteEdits()
    if (workspace?.program.files.some(({ name }) => name === file) !== true) return notice.say(say('place_gone', { name: file }))
    workspace.show(file)
    showWorkspace()
    editor.go(place)
  },
  name: (id, file) => `${id}/${file}`,
})
const drawn = newCalm(unfailing(finding.watch(results), results.broken), page.result)
const runner = newRunner((frame) => socket.send(frame), drawn)
const twins = newTwins(() => runner.current()?.id ?? null)
const watch = newWatch(askWhy)
const picker = newPicker(store, () => whole, open, () => notice.say(say('language_failed')))
const socket = openSocket('api/v1/ws', {
  open() {
    showStatus(socket.mute > 0 ? 'mute' : 'up')
    runner.opened()
    watchRun()
  },
  closed(code) {
    showStatus('down')
    runner.closed(code)
    if (socket.mute >= mostMute && runner.current() !== null) results.stuck(say('mute'))
    watch.stop()
    lookAtAccount(code === signedOut)
  },
  frame(frame) {
    showStatus('up')
    if (frame.type === 'event') attention.heard()
    const goesOn = runner.frame(frame)
    if (frame.type !== 'event') remember()
    if (goesOn || runner.current() === null) watchRun()
  },
  late: () => void askWhy(),
  wanted: () => runner.current() !== null,
})
/** The terminal takes the keys of who only watches a program that runs. */
const attention = newAttention(() => {
  const current = runner.current()
  if (current === null || current.over || !current.tty) return true
  return results.facts.began !== null && screen.focus()
}, () => screen.plays)
const showContest = newContest(page.programContest, (side) => {
  settle(() => workspace?.choose(side))
  editor.focus()
})
const notice = newPassing(page.done)
const files = newFiles(notice, {
  workspace: () => workspace,
  languages: () => whole.then(() => offered),
  choose: (language) => picker.choose(language),
  note: noteEdits,
  changed,
  renamed(from, to) {
    editor.renamed(editorKey(from), editorKey(to))
    finding.renamed(from, to)
  },
})
const options = newOptions(store)
const optionsButton = newOptionsButton(options, {
  language: () => workspace?.language ?? null,
  keys,
  chooseKeys(chosen) {
    store.set('keys', chosen === 'default' ? null : chosen)
    void useKeys()
  },
  changed() {
    showChosen()
    showAge()
  },
})
const keeping = newKeeping(store, page.unkept, save)
const gone = newNotice(page.gone)

function open(picked: Language): void {
  save()
  const known = workspaces.get(picked.id)
  // A language that was away is another one when it is back.
  if (known !== undefined && known.language !== picked) known.leave()
  workspace = known?.language === picked ? known : newWorkspace(picked, { store, tab })
  workspaces.set(picked.id, workspace)
  workspace.look()
  showWorkspace()
  showChosen()
  page.stdin.readOnly = !picked.flags.reads_stdin
  page.stdin.placeholder = say(picked.flags.reads_stdin ? 'input_empty' : 'input_unread', { language: picked.name })
  layout.drawer.suit(workspace.stdin !== '')
  if (isGone()) gone.say(say('gone', { name: picked.name }), { label: say('file_download'), do: () => files.download() })
  else gone.hide()
  showControls()
  // Who has not gone elsewhere meanwhile can write at once. By touch a keyboard would come up.
  if (!layout.narrow && document.activeElement === document.body) editor.focus()
  finding.show(picked)
}

/** What compilers and tracebacks name. */
function sourcesOf({ language, main, program }: Workspace): Sources {
  const texts = program.files.flatMap(({ name, content }) => (typeof content === 'string' ? [[name, content] as const] : []))
  return { main: main ?? language.file_name, files: new Map(texts), renamed: language.flags.named_by_source && program.files.length === 1 }
}

const isGone = () => workspace?.language.versions.length === 0

const editorKey = (name: string) => `${workspace?.language.id}/${name}`

/** The tabs, the editor and the input box as the workspace has them. */
function showWorkspace(): void {
  if (workspace === null) return
  const { active, language, stdin } = workspace
  const text = typeof active.content === 'string' ? unixLines(active.content) : ''
  editing = { workspace, name: active.name }
  editor.open(editorKey(active.name), modeOf(active.name, [language, ...offered]), text)
  if (page.stdin.value !== stdin) page.stdin.value = stdin
  given = page.stdin.value
  files.show()
  results.file(active.name)
  showContest(workspace.contested)
  setHidden(page.restore, workspace.untouched || isGone())
  setHidden(page.versions, workspace.earlier().length === 0)
  showInputState()
  // For the next time that the page is drawn.
  store.set('input', stdin === '' ? 'none' : null)
  showSaved(workspace)
  keeping.show(workspace)
  showAge()
}

/** Beside the tab's name, for who does not see the input. */
function showInputState(): void {
  const text = page.stdin.value
  const n = text.split('\n').length - (text.endsWith('\n') ? 1 : 0)
  setText(page.inputState, text !== '' ? say('lines', { n }) : say(workspace?.language.flags.reads_stdin === false ? 'input_none' : 'input_live'))
}

/** Marks a result that was made from something else than what is there now. */
function showAge(): void {
  const from = made === null ? null : origin()
  const now = from === null ? null : makes(from)
  if (made === null || now === null || made.print === now.print) results.old('')
  else results.old(made.language === now.language ? say('old') : say('old_from', { name: made.fileName }))
}

/** What a run would be made from now. */
function origin(): Origin | null {
  const choice = picker.choice()
  if (choice === null || workspace === null) return null
  const { id, file_name } = choice.language
  const parts = [id, choice.version ?? '', workspace.text, workspace.stdin, JSON.stringify(options.of(id))]
  return { language: id, fileName: workspace.main ?? file_name, parts }
}

function makes({ language, fileName, parts }: Origin): Made {
  return { language, fileName, print: parts.map(fingerprint).join(' ') }
}

function edited(byPerson: boolean): void {
  if (byPerson) notice.wrote()
  clearTimeout(saving)
  saving = setTimeout(save, saveAfter)
}

/** What was written in the last moment is noted first, or the drafts would be shown over it. */
function settle(choose: () => void): void {
  noteEdits()
  choose()
  showWorkspace()
}

function look(): void {
  settle(() => workspace?.look())
}

function noteEdits(): void {
  if (editing === null) return
  editing.workspace.edit(editing.name, editor.text())
  if (page.stdin.value !== given) editing.workspace.feed((given = page.stdin.value))
}

/** Something was done to the program. */
function changed(): void {
  showWorkspace()
  save()
}

function save(): void {
  clearTimeout(saving)
  noteEdits()
  workspace?.save()
  if (workspace !== null && !workspace.untouched) rememberLanguage(store, workspace.language)
  showWorkspace()
}

/** `live`: what stands under Input is left out, for this once. */
function run(live = false): void {
  const choice = picker.choice()
  if (isGone()) return
  if (choice === null || workspace === null) {
    wanted = true
    return results.waiting()
  }
  wanted = false
  noteEdits()
  const chosen = options.of(choice.language.id)
  if (faults(chosen, ceilings()).length > 0) return optionsButton.open()
  const size = sizeOf(workspace.program.files)
  // Another run that goes on stays in sight.
  if (size > mostBytes() && runner.current()?.over === false) return notice.say(say('too_large_now', { most: bytes(mostBytes()) }))
  layout.show('output')
  drawn.now()
  const stdin = live ? '' : workspace.stdin
  const talks = stdin === '' && choice.language.flags.reads_stdin
  const facts = { began: null, typed: 0, limits: { ...choice.language.limits, ...limitsOf(chosen.limits) }, hadInput: stdin !== '', size }
  Object.assign(results.facts, facts)
  if (size > mostBytes()) return results.refused({ type: 'too-large', title: say('too_large'), status: 413, detail: String(mostBytes()) })
  const from = origin()
  runner.submit({
    language: choice.language.id,
    ...(choice.version === undefined ? {} : { version: choice.version }),
    ...sent(workspace.program, choice.language),
    stdin,
    ...submitted(chosen),
    ...(chosen.trace && choice.language.trace === true ? { trace: true } : {}),
    // One rule: what gets input reads that, then its end; what gets none talks to the person.
    ...(talks ? { tty: results.terminal() } : {}),
    artifacts: pictures,
  })
  socket.hurry()
  watchRun()
  finding.ran(choice.language, sourcesOf(workspace))
  notice.passed()
  if (talks) attention.ask()
  if (from !== null) void note(workspace, from)
}

/** Keeps what was run, when that is on its way. Of a large program each part takes its time. */
async function note(of: Workspace, from: Origin): Promise<void> {
  await breath()
  made = makes(from)
  await breath()
  of.keepVersion()
  await breath()
  save()
}

/** What was chosen under Options for this language. */
function showChosen(): void {
  if (workspace === null) return
  const { language } = workspace
  optionsButton.show(options.changed(language.id))
  showLimits(language, limitsOf(options.of(language.id).limits))
  page.format.hidden = !language.format
}

function saveAndSay(): void {
  save()
  if (workspace !== null) results.say(sayKept(workspace))
}

async function useKeys(): Promise<void> {
  try {
    editor.useKeys(await loadBindings(keys(), saveAndSay))
  } catch {
    notice.say(say('keys_failed'))
  }
}

function keys(): Bindings {
  return bindings.find((each) => each === store.get('keys')) ?? 'default'
}

async function formatShown(): Promise<void> {
  noteEdits()
  const before = workspace?.active
  if (workspace === null || typeof before?.content !== 'string') return
  // A formatter may take for a program what is none: black writes trailing commas into JSON.
  if (before.name !== workspace.main && !isAkin(before.name, workspace.language)) {
    return notice.say(say('format_alien', { name: before.name, language: workspace.language.name }))
  }
  const text = editor.text()
  await format(
    {
      language: workspace.language,
      version: picker.choice()?.version,
      name: before.name,
      text,
      same: () => editing?.workspace === workspace && editing?.name === before.name && editor.text() === text,
      change: editor.change,
      complain: (told) => finding.note(before.name, told && { line: told.line, message: say('format_problem', { text: told.text }) }),
    },
    (words, well) => {
      showNote(well ? words : '')
      if (well) notice.hide()
      else notice.say(words)
    },
  )
}

/** Does what the page's address asks for. */
function follow(link: Link): void {
  const language = link.language === null ? workspace?.language : linked(link.language, offered)
  if (language === undefined) return notice.say(say('link_language', { language: link.language ?? '' }))
  if (language !== workspace?.language) picker.choose(language)
  // The address goes, so that the page loaded again has what was written since.
  history.replaceState(null, '', location.pathname)
  if (workspace === null || (link.source === null && link.stdin === null && link.args === null)) return
  const { program, untouched } = workspace
  const chosen = options.of(language.id)
  const sources = link.source === null ? program.files : [{ name: language.file_name, content: link.source }]
  const back = workspace.change({ files: sources, stdin: link.stdin ?? (link.source === null ? program.stdin : '') }, sources[0]?.name)
  const replaces = !untouched || (link.args !== null && options.changed(language.id))
  if (link.args !== null) options.choose(language.id, { ...chosen, args: link.args })
  if (replaces) {
    files.did(say('link_opened'), () => {
      back()
      options.choose(language.id, chosen)
      showChosen()
    })
  }
  showChosen()
  changed()
}

function stop(): void {
  const current = runner.current()
  if (current === null || current.over || current.cancelled) return
  drawn.now()
  results.stopping()
  runner.cancel()
  showControls()
}

function type(text: string): void {
  results.facts.typed = steady()
  if (!runner.type(text)) results.tooMuch()
}

/** What can be done now. */
function showControls(): void {
  const current = runner.current()
  const busy = current !== null && !current.over
  setState(page.run, busy ? 'stop' : 'run')
  setText(page.runWord, say(busy ? 'stop' : 'run'))
  if (!busy) page.runKey.textContent = runKey
  else if (page.runKey.textContent === runKey) page.runKey.textContent = ''
  enable(page.run, busy ? !current.cancelled : !isGone())
  setHidden(page.keys, !(busy && current.tty))
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

/** Nothing has been heard of the run for a while: the server may know why, or the connection carries nothing. */
async function askWhy(): Promise<void> {
  const waiting = runner.current()
  const after = waiting?.after
  if (asking || (waiting === null && !socket.late)) return
  asking = true
  try {
    const [problem, offered] = await Promise.all([unready(), languages()])
    const why = problem !== null ? remedy(problem) : offered.length === 0 ? say('no_machine') : ''
    if (why === '') test()
    else if (waiting !== null && runner.current() === waiting && waiting.after === after) results.stuck(why)
  } catch (error) {
    // No answer at all: then the connection carries nothing either, unless something large fills the line.
    if (!(error instanceof ProblemError) && (socket.late || !socket.waits)) socket.renew()
  } finally {
    asking = false
  }
}

/** The server is well: does the connection carry anything? */
function test(): void {
  if (socket.late) socket.giveUp()
  else if (!socket.waits) runner.probe()
}

function remember(): void {
  clearTimeout(remembering)
  remembering = undefined
  const shown = runner.shown()
  if (shown === null || made === null) {
    tab.set('shown', null)
    return
  }
  const remembered: Remembered = { ...shown, made, facts: results.facts }
  tab.set('shown', JSON.stringify(remembered))
}

function resume(): void {
  const remembered = parsed(tab.get('shown'), isRemembered)
  tab.set('shown', null)
  if (remembered === null) return
  made = remembered.made
  const { began, typed } = remembered.facts
  // Somebody may have set the clock back since.
  const past = (time: number) => Math.min(time, steady())
  Object.assign(results.facts, remembered.facts, { began: began === null ? null : past(began), typed: past(typed) })
  runner.resume(remembered)
  twins.joined()
  attention.ask()
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
  if (workspace === null) return
  noteEdits()
  files.did(say('example_back'), workspace.toExample())
  changed()
  editor.focus()
})
page.versions.addEventListener('click', () => {
  if (workspace === null) return
  const { language, earlier, toVersion } = workspace
  save()
  openVersions(earlier(), (text) => read(text, language), (version) => {
    noteEdits()
    files.did(say('version_back'), toVersion(version))
    changed()
    editor.focus()
  })
})
page.format.addEventListener('click', () => void formatShown())
onOffers({
  'try-now'() {
    socket.hurry()
    runner.hurry()
  },
  'run-again': () => run(),
  'type-live': () => run(true),
  'sign-in-now': signIn,
  'write-input'() {
    layout.show('input')
    page.stdin.focus()
  },
})
page.stdin.addEventListener('input', () => {
  showInputState()
  edited(true)
})
page.theme.addEventListener('click', () => {
  setTheme(themes[(themes.indexOf(theme()) + 1) % themes.length] ?? 'system')
  showTheme()
})
page.version.addEventListener('change', showAge)
// What else a tab keeps, it may keep because it was told of this: two tabs would tell each other for ever.
const lookSoon = gathered(look)
store.watch((key) => {
  if (key === null || /^(draft|versions):/.test(key)) lookSoon()
})
addEventListener('pagehide', () => {
  save()
  // Also those of languages that are not shown.
  for (const each of workspaces.values()) each.leave()
  remember()
})
// A page that comes back as it was has heard of no other tab meanwhile; one in the background may be
// ended without a word.
addEventListener('pageshow', look)
document.addEventListener('visibilitychange', save)

page.run.setAttribute('aria-keyshortcuts', mac ? 'Meta+Enter' : 'Control+Enter')
typeByTouch(page.keys, type)
newWrapping(page.wrap, page.output, 'wrap', true)
// Compilers point at columns.
newWrapping(page.compileWrap, page.compileOutput, 'wrap-compiler', false)
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
  ...files.does,
  run: () => run(),
  stop,
  save: saveAndSay,
  format: () => void formatShown(),
  language: () => picker.open(),
  options: () => optionsButton.open(),
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
  wrap: () => page.wrap.click(),
  versions: () => page.versions.click(),
  example: () => page.restore.click(),
  theme: () => page.theme.click(),
  // Emacs begins its own chords with Ctrl-X, and searches with Ctrl-S.
}, (id, target) => id === 'save' && keys() === 'emacs' && page.editor.contains(target), () =>
  files.others().map(({ name, show }) => ({
    label: say('go_to_file', { name }),
    do() {
      layout.show('code')
      show()
      editor.focus()
    },
  })),
)
followAppearance()
showTheme()
showControls()
void useKeys()
resume()
/** Where the list in brief has all of the languages that are shown first. */
function suffices(brief: Language[]): boolean {
  const asked = link === null || typeof link === 'string' ? null : link.language
  const first = [picker.first(brief, goneLanguages(store, brief)), ...(asked === null ? [] : [linked(asked, brief)])]
  return brief.length === 0 || first.every((language) => language?.support === 'core')
}

const whole = watchCatalogue(suffices, (found) => {
  offered = found
  void learnBounds()
  picker.fill(found, goneLanguages(store, found))
  if (link !== null && found.length > 0) {
    if (typeof link === 'string') notice.say(say('link_long', { part: link, most: mostOfLink.toLocaleString('en') }))
    else follow(link)
    link = null
  }
  if (wanted) run()
  if (runner.current() === null) results.idle(found.length > 0)
  showControls()
  screen.prepare()
})
