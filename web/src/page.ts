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
  fileName: find('file-name', HTMLElement),
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
  problemCounts: ['problems-count', 'to-problems-count'].map((id) => find(id, HTMLElement)),
  problemTold: find('problem-told', HTMLElement),
  toProblems: find('to-problems', HTMLElement),
  inputTab: find('input-tab', HTMLElement),
  inputPanel: find('input-panel', HTMLElement),
  inputState: find('input-state', HTMLElement),
  help: find('help', HTMLButtonElement),
  theme: find('theme', HTMLButtonElement),
  saved: find('saved', HTMLElement),
  cursor: find('cursor', HTMLElement),
  limits: find('limits', HTMLElement),
  versions: find('versions', HTMLButtonElement),
  versionsDialog: find('versions-dialog', HTMLDialogElement),
  versionsList: find('versions-list', HTMLElement),
  versionsClose: find('versions-close', HTMLButtonElement),
  programContest: find('program-contest', HTMLElement),
  inputContest: find('input-contest', HTMLElement),
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
  offers: find('offers', HTMLElement),
  announce: find('announce', HTMLElement),
  download: find('download', HTMLButtonElement),
  binary: find('binary', HTMLElement),
  binarySize: find('binary-size', HTMLElement),
  binaryHex: find('binary-hex', HTMLButtonElement),
  binaryDownload: find('binary-download', HTMLButtonElement),
  hex: find('hex', HTMLElement),
  compileFold: find('compile-fold', HTMLButtonElement),
  compileWord: find('compile-word', HTMLElement),
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
