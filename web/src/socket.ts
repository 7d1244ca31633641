import { delay } from './backoff'
import type { ClientFrame, ServerFrame } from './messages'

export interface Socket {
  /** False when there is no connection; whoever needs the frame sends it again on `open`. */
  send(frame: ClientFrame): boolean
}

export interface SocketEvents {
  open(): void
  frame(frame: ServerFrame): void
  closed(code: number): void
}

/** A connection that comes back. What it carried is for the caller to resume. */
export function openSocket(path: string, on: SocketEvents): Socket {
  const url = new URL(path, location.href)
  url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:'
  let socket: WebSocket | null = null
  let timer: ReturnType<typeof setTimeout> | undefined
  let tries = 0

  function connect(): void {
    clearTimeout(timer)
    const connecting = new WebSocket(url)
    socket = connecting
    connecting.onopen = () => {
      tries = 0
      on.open()
    }
    connecting.onmessage = (message) => {
      if (typeof message.data === 'string') on.frame(JSON.parse(message.data) as ServerFrame)
    }
    connecting.onclose = (close) => {
      if (socket !== connecting) return
      socket = null
      timer = setTimeout(connect, delay(tries++))
      on.closed(close.code)
    }
  }

  function hurry(): void {
    if (socket === null && document.visibilityState === 'visible') connect()
  }

  connect()
  window.addEventListener('online', hurry)
  document.addEventListener('visibilitychange', hurry)
  return {
    send(frame) {
      if (socket?.readyState !== WebSocket.OPEN) return false
      socket.send(JSON.stringify(frame))
      return true
    },
  }
}
