import { mostBytes } from './bounds'
import { chunk } from './chunk'
import { downloadFile, downloadProgram } from './download'
import { onFiles } from './drop'
import { setHidden } from './elements'
import { newFileTabs } from './filetabs'
import type { Incoming, IncomingFault, Item } from './incoming'
import { bytes } from './measures'
import type { Language } from './messages'
import { freeName, lacksMain, mostFiles, wrongBeside } from './names'
import { askName, nameWords } from './naming'
import type { Action, Notice } from './notice'
import type { Opened, OpeningFault } from './opening'
import { page } from './page'
import { bytesOf, isSource, mainOf } from './program'
import type { File, Program } from './program'
import { say } from './say'
import type { Workspace } from './workspace'

/** The files of the program that is shown: their tabs, and what can be done with them. */
export interface Files {
  show(): void
  /** Says what was done to the program, with a way back. */
  did(text: string, undo: () => void, ...more: Action[]): void
  download(): void
  /** What can be done, as commands. */
  readonly does: Record<'file_add' | 'file_open' | 'file_rename' | 'file_duplicate' | 'file_remove' | 'file_download' | 'program_download', () => void>
  /** The names of those that are not shown, each with what shows it. */
  others(): { name: string; show(): void }[]
}

export interface FilesEvents {
  workspace(): Workspace | null
  /** When each has its example. */
  languages(): Promise<readonly Language[]>
  /** Chooses a language; its workspace is there afterwards. */
  choose(language: Language): void
  /** What was written in the last moment is noted, so that nothing is done to an older text. */
  note(): void
  renamed(from: string, to: string): void
  /** Another file, or another program, is to be shown and kept. */
  changed(): void
}

type Get = () => Promise<{ items: Item[]; folder: string | null }>

export function newFiles(notice: Notice, on: FilesEvents): Files {
  const tabs = newFileTabs(page.tabs, page.editor, { chosen, remove, rename })

  function with_(act: (workspace: Workspace) => void): void {
    const workspace = on.workspace()
    if (workspace === null) return
    on.note()
    act(workspace)
    on.changed()
  }

  function chosen(name: string): void {
    with_((workspace) => workspace.show(name))
  }

  function did(text: string, undo: () => void, ...more: Action[]): void {
    const of = on.workspace()
    const back = () => {
      on.note()
      // Another language may be shown by now: what comes back is shown, and kept.
      if (of !== null && on.workspace() !== of) on.choose(of.language)
      undo()
      on.changed()
    }
    notice.say(text, ...more, { label: say('undo'), do: back })
  }

  /** Says which file runs, where that is another one than before. */
  function change(workspace: Workspace, program: Program, show: string | undefined, text: string): void {
    tell(workspace, text, () => workspace.change(program, show))
  }

  function tell(workspace: Workspace, text: string, act: () => () => void): void {
    const before = workspace.main
    const undo = act()
    const runs = workspace.main !== before && before !== null ? ` ${say('runs_now', { name: workspace.main ?? '' })}` : ''
    did(text + runs, undo)
  }

  function wrong(workspace: Workspace, name: string, others: readonly File[], made: readonly File[]): string | null {
    const fault = wrongBeside(name, others.map((file) => file.name)) ?? (lacksMain(made, workspace.language) ? 'no_main' : null)
    return fault === null ? null : nameWords(fault, name, workspace.language.suffixes)
  }

  function full(workspace: Workspace): boolean {
    if (workspace.program.files.length < mostFiles) return false
    notice.say(say('many_files', { most: mostFiles }))
    return true
  }

  function add(): void {
    const workspace = on.workspace()
    if (workspace === null || full(workspace)) return
    askName({
      title: say('file_add'),
      button: say('add'),
      name: '',
      wrong: (name) => wrong(workspace, name, workspace.program.files, [...workspace.program.files, { name, content: '' }]),
      named: (name) => put({ name, content: '' }, say('file_added', { name })),
    })
  }

  function put(file: File, text: string): void {
    with_((workspace) => {
      const { files, stdin } = workspace.program
      change(workspace, { files: [...files, file], stdin }, file.name, text)
    })
    page.editor.querySelector<HTMLElement>('.cm-content')?.focus()
  }

  function duplicate(): void {
    const workspace = on.workspace()
    if (workspace === null || full(workspace)) return
    on.note()
    const { active, program } = workspace
    const name = freeName(active.name, program.files.map((file) => file.name))
    put({ ...active, name }, say('file_added', { name }))
  }

  function rename(old: string): void {
    const workspace = on.workspace()
    if (workspace === null) return
    const renamed = (name: string) => workspace.program.files.map((file) => (file.name === old ? { ...file, name } : file))
    const others = () => workspace.program.files.filter((file) => file.name !== old)
    askName({
      title: say('file_rename_title', { name: old }),
      button: say('file_rename'),
      name: old,
      wrong: (name) => wrong(workspace, name, others(), renamed(name)),
      named(name) {
        if (name === old) return
        on.note()
        on.renamed(old, name)
        tell(workspace, say('file_renamed', { old, name }), () => {
          const undo = workspace.rename(old, name)
          return () => {
            undo()
            on.renamed(name, workspace.active.name)
          }
        })
        on.changed()
      },
    })
  }

  function remove(name: string): void {
    with_((workspace) => {
      const { files, stdin } = workspace.program
      const left = files.filter((file) => file.name !== name)
      const at = files.findIndex((file) => file.name === name)
      if (lacksMain(left, workspace.language)) {
        const [suffix = ''] = workspace.language.suffixes
        return notice.say(files.length === 1 ? say('file_last') : say('name_no_main', { suffix }))
      }
      const show = workspace.active.name === name ? (left[Math.min(at, left.length - 1)]?.name ?? '') : workspace.active.name
      change(workspace, { files: left, stdin }, show, say('file_deleted', { name }))
    })
  }

  /** Fails when a folder cannot be read, and when the server is away that has the means to read. */
  async function read(get: Get) {
    const [{ incoming }, { opening }] = await Promise.all([chunk(import('./incoming')), chunk(import('./opening'))])
    const { items, folder } = await get()
    return { items, opening, came: await incoming(items, folder, mostBytes()), languages: await on.languages() }
  }

  async function come(get: Get): Promise<void> {
    notice.say(say('opening'))
    const found = await read(get).catch(() => null)
    if (found === null) return notice.say(say('came_failed'))
    const { items, came, opening, languages } = found
    if ('why' in came) return notice.say(incomingWords(came, items))
    const workspace = on.workspace()
    if (workspace === null) return notice.hide()
    on.note()
    const { language, program, untouched } = workspace
    const opened = opening(came, { language, program, untouched }, languages, mostBytes())
    if ('why' in opened) return notice.say(openingWords(opened, came))
    take(workspace, came, opened)
  }

  function take(before: Workspace, came: Incoming, opened: Opened<Language>): void {
    if (opened.language.id !== before.language.id) on.choose(opened.language)
    const workspace = on.workspace()
    if (workspace === null) return
    const undo = workspace.change(opened.program, opened.show ?? mainOf(opened.program.files, workspace.language) ?? undefined)
    const back = () => {
      undo()
      if (opened.language.id !== before.language.id) on.choose(before.language)
    }
    const alone = came.files[0]
    const single = !opened.instead && came.files.length === 1 && alone !== undefined && isSource(alone.name, workspace.language.suffixes) && workspace.main !== alone.name
    const more = single ? [{ label: say('open_alone'), do: () => openAlone(workspace, alone) }] : []
    did(openedWords(workspace, came, opened), back, ...more)
    on.changed()
  }

  function openAlone(workspace: Workspace, file: File): void {
    on.note()
    change(workspace, { files: [file], stdin: null }, file.name, say('opened_file', { name: file.name }))
    on.changed()
  }

  function showBinary(file: File): void {
    const isText = typeof file.content === 'string'
    setHidden(page.fileBinary, isText)
    page.editor.classList.toggle('away', !isText)
    const words = page.fileBinary.querySelector('strong')
    if (!isText && words !== null) words.textContent = say('binary_file', { size: bytes(bytesOf(file.content)) })
  }

  page.addFile.addEventListener('click', add)
  page.fileBinaryDownload.addEventListener('click', () => withActive(downloadFile))
  page.filePicker.addEventListener('change', () => {
    const items = Array.from(page.filePicker.files ?? [], (file) => ({ path: file.name, file }))
    page.filePicker.value = ''
    void come(async () => ({ items, folder: null }))
  })
  onFiles(page.drop, (get) => void come(get))
  const does: Files['does'] = {
    file_add: add,
    file_open: () => page.filePicker.click(),
    file_rename: () => withActive(({ name }) => rename(name)),
    file_duplicate: duplicate,
    file_remove: () => withActive(({ name }) => remove(name)),
    file_download: () => withActive(downloadFile),
    program_download: downloadAll,
  }
  page.fileMenu.addEventListener('click', ({ target }) => {
    const act = (target as Element).closest('button')?.dataset['act'] as keyof typeof does | undefined
    if (act === undefined) return
    page.fileMenu.hidePopover()
    does[act]()
  })
  page.fileMenu.addEventListener('beforetoggle', () => {
    const { bottom, right } = page.fileMenuButton.getBoundingClientRect()
    page.fileMenu.style.top = `${bottom + 2}px`
    page.fileMenu.style.right = `${innerWidth - right}px`
  })

  function withActive(act: (file: File) => void): void {
    on.note()
    const workspace = on.workspace()
    if (workspace !== null) act(workspace.active)
  }

  function downloadAll(): void {
    on.note()
    const workspace = on.workspace()
    if (workspace === null) return
    downloadProgram(workspace.program, workspace.language).catch(() => notice.say(say('not_downloaded')))
  }

  return {
    did,
    download: downloadAll,
    does,
    others() {
      const workspace = on.workspace()
      const names = workspace?.program.files.map(({ name }) => name) ?? []
      return names.filter((name) => name !== workspace?.active.name).map((name) => ({ name, show: () => chosen(name) }))
    },
    show() {
      const workspace = on.workspace()
      if (workspace === null) return
      tabs.show(workspace.program.files, workspace.active.name, workspace.main)
      showBinary(workspace.active)
    },
  }
}

function incomingWords(fault: IncomingFault, items: readonly Item[]): string {
  switch (fault.why) {
    case 'many':
      return say('came_many', { most: mostFiles })
    case 'large':
      return say('came_large', { most: bytes(mostBytes()), over: bytes(fault.over) })
    case 'unreadable':
      return say('came_unreadable', { name: fault.name })
    case 'nothing':
      return say('came_nothing')
    case 'zip': {
      const name = items[0]?.path ?? ''
      const { fault: why, n } = fault.error
      return say(why, { name, n: n.toLocaleString('en'), most: why === 'zip_many' ? mostFiles : bytes(mostBytes()), size: bytes(n) })
    }
  }
}

function openingWords(fault: OpeningFault, came: Incoming): string {
  if (fault.why === 'many') return say('came_many', { most: mostFiles })
  if ('over' in fault) return say('came_large', { most: bytes(mostBytes()), over: bytes(fault.over) })
  return say('came_name', { title: came.title, name: 'name' in fault ? fault.name : '', why: 'name' in fault ? nameWords(fault.why, fault.name, []) : '' })
}

function openedWords(workspace: Workspace, { files: came, leftOut, title }: Incoming, { instead, replaced, program, input }: Opened<Language>): string {
  const files = instead ? program.files : came
  const [one] = files
  const what = files.length === 1 && one !== undefined ? one.name : say('n_files', { n: files.length })
  const sentences = [
    instead ? (came.length === 1 ? say('opened_file', { name: title }) : say('opened', { title, files: what })) : say('joined', { files: what }),
    ...(input ? [say('opened_input')] : []),
    ...(replaced.length > 0 ? [say('replaced', { names: few(replaced) })] : []),
    ...(workspace.program.files.length > 1 && files.some(({ name }) => isSource(name, workspace.language.suffixes)) ? [say('runs_now', { name: workspace.main ?? '' })] : []),
    ...(leftOut.length > 0 ? [say('left_out', { names: few(leftOut.map(({ name, why }) => `${name} (${say(`left_out_${why}`)})`)) })] : []),
  ]
  return sentences.join(' ')
}

/** The first few of a list. */
function few(names: readonly string[]): string {
  const shown = names.slice(0, 3).join(', ')
  return names.length > 3 ? say('names_and_more', { names: shown, n: names.length - 3 }) : shown
}
