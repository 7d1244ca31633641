import { calls } from './api'
import { make } from './elements'
import { seconds } from './measures'
import type { Call, Result, Trace } from './messages'
import { say, sayOf } from './say'
import type { Phrase } from './say'
import { visible } from './visible'

// The table of the system calls that a program made: what was refused first, and each call when somebody wants them. A
// stranger's program chose the text.

const atOnce = 200

/** Draws the calls of a run into `into`. */
export function draw(into: HTMLElement, { id, trace }: Result & { trace: Trace }): void {
  const refused = trace.counts.filter((each) => each.refused > 0)
  const all = make('button', { type: 'button', 'data-testid': 'trace-all' }, say('trace_all'))
  all.addEventListener('click', () => void each(into, id, all))
  into.replaceChildren(
    make('h3', {}, say('trace_calls', { n: trace.calls })),
    make('p', {}, sayOf('trace_ended', trace.ended) ?? ''),
    ...refused.map(({ call }) => make('p', { class: 'refused' }, say('trace_refused', { call: visible(call) }))),
    ...(trace.calls > 0 ? [counts(trace), all] : []),
  )
  into.hidden = false
}

function counts(trace: Trace): HTMLElement {
  const rows = trace.counts.map(({ call, count, failed, refused, seconds: took }) =>
    make(
      'tr',
      refused > 0 ? { class: 'refused' } : {},
      make('th', { scope: 'row' }, make('code', {}, visible(call))),
      number(count.toLocaleString('en')),
      number(failed === 0 ? '' : failed.toLocaleString('en')),
      number(time(took)),
    ),
  )
  return table({ 'data-testid': 'trace-counts' }, ['trace_name', 'trace_count', 'trace_failed', 'trace_time'], rows)
}

async function each(into: HTMLElement, id: string, button: HTMLButtonElement): Promise<void> {
  button.disabled = true
  let found: Call[]
  try {
    found = await calls(id)
  } catch {
    return button.replaceWith(make('p', {}, say('trace_gone')))
  }
  const rows = make('tbody')
  const shown = table({ 'data-testid': 'trace-each' }, ['trace_number', 'trace_process', 'trace_what', 'trace_result', 'trace_time'], [])
  shown.prepend(make('caption', {}, say('trace_each')))
  shown.append(rows)
  const more = make('button', { type: 'button', 'data-testid': 'trace-more' })
  const add = () => {
    const from = rows.childElementCount
    rows.append(...found.slice(from, from + atOnce).map(row))
    const left = Math.min(atOnce, found.length - rows.childElementCount)
    more.hidden = left === 0
    more.textContent = say('trace_more', { n: left })
  }
  more.addEventListener('click', add)
  add()
  if (!button.isConnected) return
  const focused = document.activeElement === button
  button.replaceWith(shown, more)
  if (focused) into.focus()
}

function row({ number: at, process, call, arguments: given, result, error, refused, seconds: took }: Call): HTMLElement {
  const asked = `${call}(${given.join(', ')})`
  const answer = refused ? say('trace_refused', { call: error ?? '' }) : (error ?? result ?? '')
  return make(
    'tr',
    refused ? { class: 'refused' } : {},
    number(String(at)),
    number(String(process), 'process'),
    make('td', {}, make('code', {}, visible(asked))),
    make('td', { class: 'result' }, make('code', {}, visible(answer))),
    number(took === null ? '' : time(took)),
  )
}

const number = (text: string, kind = '') => make('td', { class: `number ${kind}` }, text)

/** Most calls take some millionths of a second. */
const time = (s: number) => (s < 0.0001 ? `${Math.round(s * 1e6)} µs` : seconds(s))

function table(has: Record<string, string>, heads: readonly Phrase[], rows: HTMLElement[]): HTMLTableElement {
  const head = heads.map((name) => make('th', { scope: 'col', class: name.replace('trace_', '') }, say(name)))
  return make('table', has, make('thead', {}, make('tr', {}, ...head)), ...(rows.length > 0 ? [make('tbody', {}, ...rows)] : []))
}
