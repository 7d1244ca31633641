import { newAnswers } from './answers'
import { delay } from './backoff'
import { readFrame } from './frames'
import type { ClientFrame, ServerFrame } from './messages'

export interface Socket {
  /** False when there is no connection; whoever needs the frame sends it again on `open`. */
  send(frame: ClientFrame): boolean
  /** Tries now, unless there is a connection that carries something. */
  hurry(): void
  /** Gives up a connection of which nothing is known, for a new one. */
  renew(): void
  /** Gives up a connection that is open and carries nothing. */
  giveUp(): void
  /** Something that was sent is not answered yet. */
  readonly waits: boolean
  /** Something that was sent should have been answered. */
  readonly late: boolean
  /** So many connections, one after the other, carried nothing, or something that no server of ours has sent. */
  readonly mute: number
}

export interface SocketEvents {
  open(): void
  frame(frame: ServerFrame): void
  closed(code: number): void
  /** Something that was sent should have been answered. */
  late(): void
  /** Whether somebody waits for the connection. */
  wanted(): boolean
}

/** How a connection is closed that carries nothing of use. */
export const unheard = 4408
const lostCode = 1006

const mostWhenWanted = 2_000
const slowConnect = 2_000
const connectTimeout = 10_000
/** A connection that has carried something for so long is a good one. */
const steady = 10_000
/** How long an answer may take: on a good connection, then on each one behind one that was given up. */
const patience = [10_000, 10_000, 20_000]

/** A connection that comes back. What it carried is for the caller to resume. */
export function openSocket(path: string, on: SocketEvents): Socket {
  const url = new URL(path, document.baseURI)
  url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:'
  let socket: WebSocket | null = null
  let timer: ReturnType<typeof setTimeout> | undefined
  let tries = 0
  let began = 0
  let opened = Infinity
  let heard = false
  let mute = 0
  const answers = newAnswers(() => socket?.bufferedAmount ?? 0, () => patience[Math.min(mute, patience.length - 1)] ?? 0, on.late)

  const isSteady = () => performance.now() - opened > steady

  function connect(): void {
    clearTimeout(timer)
    const connecting = new WebSocket(url)
    socket = connecting
    began = performance.now()
    opened = Infinity
    heard = false
    timer = setTimeout(() => lost(connecting, lostCode), connectTimeout)
    connecting.onopen = () => {
      if (socket !== connecting) return
      clearTimeout(timer)
      opened = performance.now()
      on.open()
    }
    connecting.onmessage = ({ data }) => {
      if (socket !== connecting) return
      const frame = readFrame(data)
      if (frame === null) return giveUp()
      heard = true
      if (isSteady()) mute = 0
      answers.heard('ref' in frame ? frame.ref : undefined)
      on.frame(frame)
    }
    connecting.onclose = (close) => lost(connecting, close.code)
  }

  function lost(gone: WebSocket, code: number): void {
    if (socket !== gone) return
    socket = null
    gone.close()
    answers.forget()
    clearTimeout(timer)
    if (isSteady()) tries = 0
    timer = setTimeout(connect, code === unheard ? delay(mute) : delay(tries++, on.wanted() ? mostWhenWanted : undefined))
    on.closed(code)
  }

  function renew(code: number): void {
    if (socket?.readyState !== WebSocket.OPEN) return
    if (code === unheard) mute += 1
    lost(socket, code)
  }

  const giveUp = () => renew(unheard)

  function hurry(): void {
    const carries = heard || mute === 0
    if (socket !== null && (socket.readyState === WebSocket.OPEN ? carries : performance.now() - began < slowConnect)) return
    renew(lostCode)
    const slow = socket
    socket = null
    slow?.close()
    connect()
  }

  function hurryIfSeen(): void {
    if (socket === null && document.visibilityState === 'visible') connect()
  }

  connect()
  window.addEventListener('online', hurryIfSeen)
  document.addEventListener('visibilitychange', hurryIfSeen)
  return {
    send(frame) {
      if (socket?.readyState !== WebSocket.OPEN) return false
      const text = JSON.stringify(frame)
      socket.send(text)
      answers.sent(frame.ref, text.length)
      return true
    },
    hurry,
    renew: () => renew(lostCode),
    giveUp,
    get waits() {
      return answers.waits
    },
    get late() {
      return answers.late
    },
    get mute() {
      return mute
    },
  }
}
