// The elements that templates/index.html promises.

function find<E extends HTMLElement>(id: string, type: new () => E): E {
  const element = document.getElementById(id)
  if (!(element instanceof type)) throw new Error(`the page has no ${type.name} #${id}`)
  return element
}

export const page = {
  banner: find('banner', HTMLElement),
  language: find('language', HTMLSelectElement),
  version: find('version', HTMLSelectElement),
  versionField: find('version-field', HTMLElement),
  status: find('status', HTMLElement),
  tabs: find('tabs', HTMLElement),
  addFile: find('add-file', HTMLButtonElement),
  fileMenuButton: find('file-menu-button', HTMLButtonElement),
  fileMenu: find('file-menu', HTMLElement),
  filePicker: find('file-picker', HTMLInputElement),
  nameDialog: find('name-dialog', HTMLDialogElement),
  nameForm: find('name-form', HTMLFormElement),
  nameTitle: find('name-title', HTMLElement),
  name: find('name', HTMLInputElement),
  nameWrong: find('name-wrong', HTMLElement),
  nameOk: find('name-ok', HTMLButtonElement),
  nameCancel: find('name-cancel', HTMLButtonElement),
  drop: find('drop', HTMLElement),
  gone: find('gone', HTMLElement),
  unkept: find('unkept', HTMLElement),
  done: find('done', HTMLElement),
  binary: find('binary', HTMLElement),
  binaryDownload: find('binary-download', HTMLButtonElement),
  main: find('main', HTMLElement),
  code: find('code', HTMLElement),
  switch: find('switch', HTMLElement),
  toOutput: find('to-output', HTMLElement),
  split: find('split', HTMLElement),
  drawer: find('drawer', HTMLElement),
  drawerSplit: find('drawer-split', HTMLElement),
  drawerToggle: find('drawer-toggle', HTMLButtonElement),
  problemsTab: find('problems-tab', HTMLElement),
  problems: find('problems', HTMLElement),
  inputTab: find('input-tab', HTMLElement),
  inputPanel: find('input-panel', HTMLElement),
  inputState: find('input-state', HTMLElement),
  theme: find('theme', HTMLButtonElement),
  saved: find('saved', HTMLElement),
  cursor: find('cursor', HTMLElement),
  limits: find('limits', HTMLElement),
  versions: find('versions', HTMLButtonElement),
  versionsDialog: find('versions-dialog', HTMLDialogElement),
  versionsList: find('versions-list', HTMLElement),
  versionsClose: find('versions-close', HTMLButtonElement),
  programContest: find('program-contest', HTMLElement),
  restore: find('restore', HTMLButtonElement),
  editor: find('editor', HTMLElement),
  run: find('run', HTMLButtonElement),
  runWord: find('run-word', HTMLElement),
  runKey: find('run-key', HTMLElement),
  verdict: find('verdict', HTMLElement),
  detail: find('detail', HTMLElement),
  stdin: find('stdin', HTMLTextAreaElement),
  result: find('result', HTMLElement),
  usage: find('usage', HTMLElement),
  cpuTime: find('cpu-time', HTMLElement),
  wallTime: find('wall-time', HTMLElement),
  memory: find('memory', HTMLElement),
  left: find('left', HTMLElement),
  old: find('old', HTMLElement),
  away: find('away', HTMLElement),
  tryNow: find('try-now', HTMLButtonElement),
  copy: find('copy', HTMLButtonElement),
  compilePart: find('compile-part', HTMLElement),
  compileOutput: find('compile-output', HTMLElement),
  output: find('output', HTMLElement),
  pictures: find('pictures', HTMLElement),
  terminal: find('terminal', HTMLElement),
  keys: find('keys', HTMLElement),
}

/** Unlike `disabled`, this keeps the keyboard focus where it is. */
export function enable(button: HTMLButtonElement, enabled: boolean): void {
  button.setAttribute('aria-disabled', String(!enabled))
}

export const enabled = (button: HTMLButtonElement) => button.getAttribute('aria-disabled') !== 'true'
