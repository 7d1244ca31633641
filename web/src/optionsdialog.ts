import { setTextSize, setTheme, textSize, theme, themes } from './appearance'
import { bindings } from './bindings'
import type { Bindings } from './bindings'
import { ceilings, learnBounds } from './bounds'
import { make } from './elements'
import type { Language, LimitName } from './messages'
import { faults, limitNames, nothing, sayLimit, toggled, unitOf } from './options'
import type { Chosen, Options, Variable } from './options'
import { page } from './page'
import { say } from './say'
import { quoted, split } from './shellwords'
import { visible } from './visible'

// What Options shows. Each choice counts at once; what is wrong is said at its field, and kept.

const sizes = [12, 13, 14, 15, 16, 18, 20, 24]

export interface Shown {
  language: Language
  options: Options
  keys: Bindings
  changed(): void
  chooseKeys(keys: Bindings): void
}

const narrow = matchMedia('(max-width: 719.98px)')
/** Says again what is wrong, when more is known. */
let check = () => {}

/** Opens it, at the field that has a fault if there is one. */
export function openOptions(shown: Shown): void {
  const dialog = page.optionsDialog
  draw(shown)
  if (narrow.matches) dialog.showModal()
  else {
    dialog.showPopover()
    place(dialog)
  }
  dialog.querySelector<HTMLElement>('[aria-invalid="true"]')?.focus()
  if (ceilings() === null) void learnBounds().then(() => check())
}

export function closeOptions(): void {
  if (page.optionsDialog.matches(':popover-open')) page.optionsDialog.hidePopover()
  else page.optionsDialog.close()
}

/** Below its button, and within the page. */
function place(dialog: HTMLElement): void {
  const button = page.options.getBoundingClientRect()
  dialog.style.top = `${button.bottom + 6}px`
  dialog.style.left = `${Math.max(8, Math.min(button.left, innerWidth - dialog.offsetWidth - 8))}px`
}

function draw(shown: Shown): void {
  const { language, options } = shown
  let chosen = options.of(language.id)
  const checks: (() => void)[] = []

  function choose(part: Partial<Chosen>): void {
    chosen = { ...chosen, ...part }
    options.choose(language.id, chosen)
    shown.changed()
    check()
  }

  check = () => checks.forEach((each) => each())

  /** A field's fault, beside what it is about. */
  function saysFaultOf(field: string, ...inputs: HTMLInputElement[]): HTMLElement {
    const fault = make('p', { class: 'fault', id: `fault-${field.replace('.', '-')}`, 'aria-live': 'polite' })
    checks.push(() => {
      const found = faults(chosen, ceilings()).find((each) => each.field === field)
      fault.textContent = found?.text ?? ''
      for (const input of inputs) {
        input.setAttribute('aria-invalid', String(found !== undefined))
        input.setAttribute('aria-describedby', fault.id)
      }
    })
    return fault
  }

  function writes(label: string, value: string, wrote: (text: string) => void, more: Record<string, string> = {}): HTMLInputElement {
    const input = make('input', { type: 'text', spellcheck: 'false', autocomplete: 'off', autocapitalize: 'off', ...more })
    if (label !== '') input.setAttribute('aria-label', label)
    input.value = value
    input.addEventListener('input', () => wrote(input.value))
    return input
  }

  /** Arguments, and the words that are made of them. */
  function words(name: 'compileArgs' | 'args', field: string, label: string, gets: string): HTMLElement[] {
    const input = writes('', chosen[name], (text) => choose({ [name]: text }), { id: `options-${field}`, 'data-testid': `options-${field}` })
    const made = make('p', { class: 'gets', 'data-testid': `options-${field}-gets` })
    checks.push(() => {
      const { words: found, open } = split(chosen[name])
      made.hidden = open !== null || found.length === 0
      made.replaceChildren(gets, ...found.flatMap((word) => [' ', make('code', {}, word === '' ? '\u00a0' : visible(word))]))
    })
    return [make('label', { for: input.id }, label), input, saysFaultOf(field, input), made]
  }

  function chips(): HTMLElement {
    const input = () => page.optionsDialog.querySelector<HTMLInputElement>('#options-compile_args')
    const buttons = language.compile_args.map((argument) => {
      const chip = make('button', { type: 'button', class: 'chip' }, argument)
      chip.addEventListener('click', () => {
        const compileArgs = toggled(chosen.compileArgs, argument, quoted)
        const field = input()
        if (field !== null) field.value = compileArgs
        choose({ compileArgs })
      })
      checks.push(() => chip.setAttribute('aria-pressed', String(split(chosen.compileArgs).words.includes(argument))))
      return chip
    })
    return make('div', { class: 'chips', role: 'group', 'aria-label': say('options_compile_args') }, ...buttons)
  }

  function environment(): HTMLElement[] {
    const rows = make('div', { class: 'rows' })
    const variables: Variable[] = chosen.env.map((each) => ({ ...each }))
    const keep = () => choose({ env: variables.filter(({ name, value }) => name !== '' || value !== '') })

    /** Of those that are kept, which leave out the empty ones. */
    const fieldOf = (variable: Variable) =>
      variables.filter((each) => each === variable || each.name !== '' || each.value !== '').indexOf(variable)

    function row(variable: Variable): HTMLElement {
      const name = writes(say('options_env_name'), variable.name, (text) => ((variable.name = text), keep()), { 'data-testid': 'env-name' })
      const value = writes(say('options_env_value'), variable.value, (text) => ((variable.value = text), keep()), { 'data-testid': 'env-value' })
      const remove = make('button', { type: 'button', class: 'quiet', 'aria-label': say('options_env_remove_row') }, '×')
      const fault = make('p', { class: 'fault', 'aria-live': 'polite' })
      const line = make('div', { class: 'row' }, name, '=', value, remove, fault)
      checks.push(() => {
        const found = faults(chosen, ceilings()).find(({ field }) => field === `env.${fieldOf(variable)}`)
        fault.textContent = line.isConnected ? (found?.text ?? '') : ''
        name.setAttribute('aria-invalid', String(found !== undefined))
      })
      remove.addEventListener('click', () => {
        const next = line.nextElementSibling ?? line.previousElementSibling
        variables.splice(variables.indexOf(variable), 1)
        line.remove()
        ;(next?.querySelector('input') ?? add).focus()
        keep()
      })
      return line
    }

    const add = make('button', { type: 'button', 'data-testid': 'env-add' }, say('options_env_add'))
    add.addEventListener('click', () => {
      const variable = { name: '', value: '' }
      variables.push(variable)
      const line = row(variable)
      rows.append(line)
      line.querySelector('input')?.focus()
    })
    rows.append(...variables.map(row))
    return [make('h3', {}, say('options_env')), rows, add]
  }

  function limit(name: LimitName): HTMLElement {
    const unit = unitOf(name)
    const input = writes(
      '',
      chosen.limits[name] ?? '',
      (text) => choose({ limits: { ...chosen.limits, [name]: text } }),
      { id: `options-${name}`, inputmode: 'decimal', placeholder: String(language.limits[name] / unit), 'data-testid': `options-${name}` },
    )
    const most = make('span', { class: 'most' })
    checks.push(() => {
      const ceiling = ceilings()?.[name]
      most.textContent = ceiling === undefined ? '' : say('options_at_most', { most: sayLimit(name, ceiling / unit) })
    })
    return make('div', { class: 'limit' }, make('label', { for: input.id }, say(`options_${name}`)), input, most, saysFaultOf(`limits.${name}`, input))
  }

  function picks<T extends string>(name: string, label: string, all: readonly T[], now: T, called: (each: T) => string, picked: (each: T) => void): HTMLElement {
    const select = make('select', { id: `options-${name}`, 'data-testid': `options-${name}` }, ...all.map((each) => new Option(called(each), each)))
    select.value = now
    select.addEventListener('change', () => picked(select.value as T))
    return make('div', { class: 'pick' }, make('label', { for: select.id }, label), select)
  }

  function traces(): HTMLElement[] {
    const box = make('input', { type: 'checkbox', id: 'options-trace', 'data-testid': 'options-trace', 'aria-describedby': 'options-trace-hint' })
    box.checked = chosen.trace
    box.addEventListener('change', () => choose({ trace: box.checked }))
    return [
      make('div', { class: 'check' }, box, make('label', { for: box.id }, say('options_trace'))),
      make('p', { class: 'hint', id: 'options-trace-hint' }, say('options_trace_hint')),
    ]
  }

  const reset = make('button', { type: 'button', 'data-testid': 'options-reset' }, say('options_reset'))
  reset.addEventListener('click', () => {
    options.choose(language.id, nothing)
    shown.changed()
    draw(shown)
    page.optionsDialog.querySelector<HTMLElement>('[data-testid="options-reset"]')?.focus()
  })
  // Who opens the options by a key and presses it once more has not lost them: without this, Reset has the focus.
  const close = make('button', { type: 'button', class: 'quiet close', autofocus: '', 'aria-label': say('close'), 'data-testid': 'options-close' }, '×')
  close.addEventListener('click', closeOptions)

  const size = String(textSize() ?? '')
  page.optionsDialog.replaceChildren(
    make('div', { class: 'title' }, make('h2', { id: 'options-title' }, say('options_title', { language: language.name })), reset, close),
    ...(language.flags.compiled ? [...words('compileArgs', 'compile_args', say('options_compile_args'), say('options_compiler_gets')), chips()] : []),
    ...words('args', 'args', say('options_args'), say('options_program_gets')),
    ...environment(),
    ...(language.trace === true ? traces() : []),
    make('h3', {}, say('options_limits')),
    make('div', { class: 'limits' }, ...limitNames.map(limit)),
    make('p', { class: 'hint' }, say('options_interactive')),
    make('h3', {}, say('options_page')),
    make(
      'div',
      { class: 'picks' },
      picks('theme', say('options_theme'), themes, theme(), (each) => say(`theme_${each}`), setTheme),
      picks('size', say('options_size'), ['', ...sizes.map(String)], size, (each) => each || say('options_size_default'), (each) => setTextSize(Number(each) || null)),
      picks('keys', say('options_keys'), bindings, shown.keys, (each) => say(`options_keys_${each}`), shown.chooseKeys),
    ),
  )
  check()
}
