import { delay } from './backoff'
import type { ClientFrame, ServerFrame } from './messages'

export interface Socket {
  /** False when there is no connection; whoever needs the frame sends it again on `open`. */
  send(frame: ClientFrame): boolean
  /** Tries now, unless there is a connection. */
  hurry(): void
  /** Gives up a connection that carries nothing any more, for a new one. */
  renew(): void
}

export interface SocketEvents {
  open(): void
  frame(frame: ServerFrame): void
  closed(code: number): void
  /** Whether somebody waits for the connection. */
  wanted(): boolean
}

const mostWhenWanted = 2_000
const slowConnect = 2_000
const connectTimeout = 10_000

/** A connection that comes back. What it carried is for the caller to resume. */
export function openSocket(path: string, on: SocketEvents): Socket {
  const url = new URL(path, document.baseURI)
  url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:'
  let socket: WebSocket | null = null
  let timer: ReturnType<typeof setTimeout> | undefined
  let tries = 0
  let began = 0

  function connect(): void {
    clearTimeout(timer)
    const connecting = new WebSocket(url)
    socket = connecting
    began = performance.now()
    timer = setTimeout(() => lost(connecting, 1006), connectTimeout)
    connecting.onopen = () => {
      if (socket !== connecting) return
      clearTimeout(timer)
      tries = 0
      on.open()
    }
    connecting.onmessage = (message) => {
      if (socket === connecting && typeof message.data === 'string') on.frame(JSON.parse(message.data) as ServerFrame)
    }
    connecting.onclose = (close) => lost(connecting, close.code)
  }

  function lost(gone: WebSocket, code: number): void {
    if (socket !== gone) return
    socket = null
    gone.close()
    clearTimeout(timer)
    timer = setTimeout(connect, delay(tries++, on.wanted() ? mostWhenWanted : undefined))
    on.closed(code)
  }

  function hurry(): void {
    if (socket !== null && (socket.readyState === WebSocket.OPEN || performance.now() - began < slowConnect)) return
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
      socket.send(JSON.stringify(frame))
      return true
    },
    hurry,
    renew() {
      if (socket?.readyState === WebSocket.OPEN) lost(socket, 1006)
    },
  }
}
