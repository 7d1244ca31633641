// The page of the server's status: whether programs run, how busy it is, and for administrators each node.

import { deadLetters, me, overview, ProblemError, requeue } from './api'
import { followAppearance } from './appearance'
import type { Line } from './chart'
import { newChart } from './chart'
import type { DeadLetter, Load, Overview, SeenNode } from './messages'
import { kind } from './messages'
import { say, sayOf } from './say'
import { visible } from './visible'

/** In milliseconds. */
const every = 2_000

const part = (id: string) => document.getElementById(id) as HTMLElement
const ready = part('ready')
const problems = part('problems')
const updated = part('updated')
const signIn = document.getElementById('sign-in')

const charts = {
  waiting: newChart(say('overview_chart_waiting')),
  slots: newChart(say('overview_chart_slots')),
  ended: newChart(say('overview_chart_ended')),
}
part('charts').append(...Object.values(charts).map(({ element }) => element))

let answered: Date | null = null
/** The number of dead letters whose list is shown. */
let lettersShown: number | null = null
let asking: Promise<void> | null = null
/** An administrator's. Nothing keeps it but this page, until the page is closed. */
let key: string | null = null

async function look(): Promise<void> {
  if (document.visibilityState !== 'visible') return
  asking ??= ask().finally(() => {
    asking = null
  })
  await asking
}

async function ask(): Promise<void> {
  try {
    const found = await overview(key)
    if (key !== null && found.nodes === undefined) forget(say('overview_key_less'))
    show(found)
    answered = new Date()
    says(updated, say('overview_updated', { time: clock(answered) }))
    updated.dataset['state'] = 'up'
    await showLetters(found.dead_letters)
  } catch (error) {
    if (key !== null && error instanceof ProblemError && error.problem.status < 500) forget(say('overview_key_refused', { reason: error.message }))
    else away(error)
  }
}

/** Then the page is everybody's again, or that of the person who signed in. */
function forget(reason: string): void {
  key = null
  lettersShown = null
  fill(part('letters'))
  part('nodes-part').hidden = part('letters-part').hidden = part('forget').hidden = true
  part('key-part').hidden = false
  says(part('key-said'), reason)
}

function askForKey(): void {
  const form = document.getElementById('key-form')
  const field = document.getElementById('key') as HTMLInputElement
  form?.addEventListener('submit', (event) => {
    event.preventDefault()
    void take(field)
  })
  document.getElementById('forget')?.addEventListener('click', () => {
    forget('')
    part('key-part').querySelector('summary')?.focus()
    void look()
  })
}

async function take(field: HTMLInputElement): Promise<void> {
  const given = field.value.trim()
  says(part('key-said'), '')
  // No header may hold other characters.
  if (!/^[!-~]+$/.test(given)) return forget(say('overview_key_less'))
  await asking
  key = given
  await look()
  if (key === null) return field.select()
  field.value = ''
  if (!part('nodes-part').hidden) part('nodes').focus()
}

/** Who signed in, and is no administrator, need not sign in again. */
async function greet(): Promise<void> {
  const { kind: who, name } = await me()
  if (who !== 'person') return
  says(part('who'), visible(name ?? ''))
  part('who').hidden = false
}

function away(error: unknown): void {
  updated.dataset['state'] = 'down'
  const refused = error instanceof ProblemError && error.problem.status < 500
  if (refused) {
    if (kind(error.problem) === 'signed-out' && signIn !== null) {
      signIn.hidden = false
      part('who').hidden = true
    }
    says(updated, error.problem.title)
  } else says(updated, answered === null ? say('overview_away_yet') : say('overview_away', { time: clock(answered) }))
}

function show(found: Overview): void {
  ready.dataset['state'] = found.ready ? 'good' : 'bad'
  says(ready, say(found.ready ? 'overview_ready' : 'overview_unready'))
  fill(problems, ...found.problems.map((problem) => make('li', problem)))
  problems.hidden = found.problems.length === 0
  fill(part('tiles'), ...tiles(found))
  const { at, waiting, slots, slots_used, ended, every_s } = found.history
  const seconds = Math.max(60, (at.at(-1) ?? 0) - (at[0] ?? 0))
  says(part('charts-title'), seconds < 120 ? say('overview_charts_begin') : say('overview_charts', { n: Math.round(seconds / 60) }))
  const lines: Record<keyof typeof charts, Line> = {
    waiting: { at, values: waiting },
    slots: { at, values: slots_used, all: slots },
    ended: { at, values: aMinute(ended, every_s) },
  }
  for (const [name, chart] of Object.entries(charts)) chart.draw(lines[name as keyof typeof charts], seconds)
  says(part('verdicts-title'), say('overview_verdicts', { time: duration(found.recent.seconds) }))
  fill(part('verdicts'), verdicts(found.recent.verdicts))
  fill(part('languages'), languages(found))
  part('nodes-part').hidden = found.nodes === undefined
  fill(part('nodes'), nodes(found.nodes ?? []))
  if (signIn !== null) signIn.hidden = found.nodes !== undefined || !part('who').hidden
  for (const [name, hidden] of [['key-part', found.nodes !== undefined], ['forget', key === null || found.nodes === undefined]] as const) {
    const element = document.getElementById(name)
    if (element !== null) element.hidden = hidden
  }
  part('told').hidden = false
}

/** By a minute around it, because what ends comes in bursts. */
function aMinute(ended: number[], every_s: number): number[] {
  const span = Math.round(60 / every_s)
  return ended.map((_, n) => {
    const minute = ended.slice(Math.max(0, n + 1 - span), n + 1)
    return (minute.reduce((sum, each) => sum + each, 0) / minute.length) * span
  })
}

function tiles({ queue, load, recent }: Overview): HTMLElement[] {
  const { started, half_within_s: half, most_within_s: most } = recent
  const waits = started === 0 ? say('overview_no_waits') : most === null ? say('overview_waits_long', { time: duration(300) }) : say('overview_waits_line', { time: duration(most) })
  const oldest = queue === null || queue.waiting === 0 || queue.oldest_s === null ? say('overview_nothing_waits') : say('overview_oldest', { time: duration(queue.oldest_s) })
  return [
    tile('queue', say('overview_queue'), queue === null ? null : String(queue.waiting), oldest),
    tile('slots', say('overview_slots'), load && used(load.slots_used, load.slots), say('overview_slots_line', { n: load?.nodes ?? 0 })),
    tile('seats', say('overview_seats'), load && used(load.seats_used, load.seats), say('overview_seats_line')),
    tile('waits', say('overview_waits'), started === 0 ? '–' : half === null ? say('overview_longer', { time: duration(300) }) : duration(half), waits),
  ]
}

function tile(name: string, label: string, value: string | null, line: string): HTMLElement {
  const made = document.createElement('div')
  made.dataset['testid'] = `tile-${name}`
  made.append(make('dt', label), make('dd', value ?? say('overview_unknown')), make('dd', value === null ? '' : line))
  return made
}

const used = (of: number, all: number) => say('overview_of', { used: of, all })

function verdicts(found: Record<string, number>): HTMLElement {
  const counts = Object.entries(found).sort(([, a], [, b]) => b - a)
  if (counts.length === 0) return make('p', say('overview_no_verdicts'))
  const most = Math.max(...counts.map(([, count]) => count))
  return table(
    [say('overview_verdict'), say('overview_count')],
    counts.map(([verdict, count]) => {
      const bar = document.createElement('progress')
      bar.max = most
      bar.value = count
      bar.dataset['tone'] = verdict === 'ok' || verdict === 'accepted' ? 'good' : verdict === 'internal_error' ? 'ours' : 'bad'
      bar.setAttribute('aria-hidden', 'true')
      const cell = make('span', String(count))
      cell.className = 'counted'
      cell.prepend(bar)
      return [sayOf('overview_verdict', verdict) ?? verdict, cell]
    }),
  )
}

function languages({ languages, load }: Overview): HTMLElement {
  if (languages === null || languages.length === 0) return make('p', say(languages === null ? 'overview_unknown' : 'overview_no_languages'))
  return table(
    [say('overview_language'), say('overview_language_nodes'), say('overview_language_running')],
    languages.map(({ id, name, nodes }) => [name, String(nodes), String(load?.running[id] ?? 0)]),
  )
}

function nodes(found: SeenNode[]): HTMLElement {
  return table(
    [
      say('overview_node'),
      say('overview_node_state'),
      say('overview_node_roles'),
      say('overview_slots'),
      say('overview_seats'),
      say('overview_node_connections'),
      say('overview_node_since'),
    ],
    found.map(({ name, live, roles, load, connections, started_at, seen_at }) => {
      const drained = roles.includes('draining')
      const state = make('span', live ? say(drained ? 'overview_node_draining' : 'overview_node_live') : say('overview_node_gone', { time: clock(new Date(seen_at)) }))
      state.className = 'health'
      state.dataset['state'] = !live ? 'bad' : drained ? 'drained' : 'good'
      const places = (of: (load: Load) => string) => (load === null || !live ? '–' : of(load))
      return [
        name,
        state,
        roles.filter((role) => role !== 'draining').join(', ') || '–',
        places((each) => used(each.slots_used, each.slots)),
        places((each) => used(each.seats_used, each.seats)),
        live ? String(connections) : '–',
        started_at === null ? say('overview_unknown') : moment(started_at),
      ]
    }),
  )
}

/** `count` is undefined for who may not see them, and null where the queue did not answer. */
async function showLetters(count: number | null | undefined): Promise<void> {
  part('letters-part').hidden = count === undefined
  if (count === undefined || count === null || count === lettersShown) return
  const found = await deadLetters(key)
  fill(part('letters'), letters(found))
  lettersShown = count
}

function letters(found: DeadLetter[]): HTMLElement {
  if (found.length === 0) return make('p', say('overview_no_letters'))
  return table(
    [say('overview_letter'), say('overview_letter_at'), say('overview_letter_reason'), ''],
    found.map(({ id, at, reason }) => {
      const button = document.createElement('button')
      button.type = 'button'
      button.textContent = say('overview_requeue')
      button.setAttribute('aria-label', say('overview_requeue_which', { id }))
      button.addEventListener('click', () => void again(id, button))
      return [id, at === null ? say('overview_unknown') : moment(at), reason ?? '–', button]
    }),
  )
}

async function again(id: string, button: HTMLButtonElement): Promise<void> {
  if (button.getAttribute('aria-disabled') === 'true') return
  button.setAttribute('aria-disabled', 'true')
  const told = part('requeued')
  try {
    told.textContent = say('overview_requeued', { id, to: await requeue(id, key) })
    // Where the focus was is gone.
    if (button.contains(document.activeElement)) part('letters').focus()
    button.closest('tr')?.remove()
    lettersShown = null
    void look()
  } catch (error) {
    button.removeAttribute('aria-disabled')
    told.textContent = say('overview_not_requeued', { id, reason: error instanceof Error ? error.message : String(error) })
  }
}

function table(heads: string[], rows: (string | HTMLElement)[][]): HTMLTableElement {
  const made = document.createElement('table')
  const head = made.createTHead().insertRow()
  for (const text of heads) {
    const cell = make(text === '' ? 'td' : 'th', text) as HTMLTableCellElement
    if (text !== '') cell.scope = 'col'
    head.append(cell)
  }
  const body = made.createTBody()
  for (const [first, ...others] of rows) {
    const row = body.insertRow()
    const name = make('th', String(first)) as HTMLTableCellElement
    name.scope = 'row'
    row.append(name)
    for (const each of others) row.insertCell().append(each)
  }
  return made
}

function make(type: string, text: string): HTMLElement {
  const made = document.createElement(type)
  made.textContent = text
  return made
}

/** Nothing moves, and nobody's selection is lost, where nothing has changed. */
function fill(element: HTMLElement, ...children: HTMLElement[]): void {
  const same = element.children.length === children.length && children.every((child, n) => element.children[n]?.isEqualNode(child))
  if (!same) element.replaceChildren(...children)
}

function says(element: HTMLElement, text: string): void {
  if (element.textContent !== text) element.textContent = text
}

const clock = (time: Date) => time.toLocaleTimeString('en-GB')

const moments = new Intl.DateTimeFormat('en-GB', { dateStyle: 'medium', timeStyle: 'short' })
const moment = (text: string) => moments.format(new Date(text))

function duration(seconds: number): string {
  if (seconds < 1) return say('overview_ms', { n: Math.round(seconds * 1000) })
  if (seconds < 120) return say('overview_s', { n: Math.round(seconds) })
  return seconds < 7200 ? say('overview_min', { n: Math.round(seconds / 60) }) : say('overview_h', { n: Math.round(seconds / 3600) })
}

followAppearance()
document.addEventListener('visibilitychange', () => void look())
setInterval(() => void look(), every)
askForKey()
if (signIn === null) void look()
else
  greet()
    .catch(() => undefined) // the look says what is wrong
    .finally(() => void look())
