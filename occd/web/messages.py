"""The messages of a WebSocket, counted and bounded, and hypercorn's WebSocket stream that takes them.

A message in parts may come slowly and be long. The bytes of a part count against the client's budget as soon
as the part is here, and those of a long message until the message is freed: queues of other people's code may
hold it.
"""

import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import trio
from hypercorn.protocol.events import Body, Data, EndBody, Request, Response, StreamClosed
from hypercorn.protocol.events import Event as StreamEvent
from hypercorn.protocol.ws_stream import (
    ASGIWebsocketState,
    FrameTooLargeError,
    WebsocketBuffer,
    WSStream,
)
from hypercorn.typing import ASGISendEvent
from wsproto.connection import ConnectionState as WebSocketState
from wsproto.events import CloseConnection, Message
from wsproto.frame_protocol import CloseReason

from occd.errors import OverBudget
from occd.web.budget import Held
from occd.web.http11 import PROBLEM_TYPES, LimitedH11, problem

SMALL_MESSAGE_BYTES = 4096
SMALL_PART = 1024


class LongText(str):
    """A message that gives its bytes back to the budget when the message is freed."""

    release: Callable[[], None]

    def __del__(self) -> None:
        self.release()


class LongBytes(bytes):
    release: Callable[[], None]

    def __del__(self) -> None:
        self.release()


class MessageBuffer(WebsocketBuffer):
    """Counts bytes before it takes them; hypercorn counts characters afterwards. Keeps the parts as they are;
    hypercorn's StringIO takes four bytes for each character."""

    overflowed = False
    size = 0
    held: Held
    h11: LimitedH11

    def __init__(self, max_length: int) -> None:
        super().__init__(max_length)
        self._parts: list[Any] = []

    def extend(self, event: Message[Any]) -> None:
        data = event.data
        size = len(data) if isinstance(data, bytes) or data.isascii() else len(data.encode())
        if self.size + size > self.max_length:
            self.overflowed = True
            raise FrameTooLargeError
        self.held.hold(size)
        self.size += size
        if self._parts and len(self._parts[-1]) < SMALL_PART:
            self._parts[-1] += (
                data  # an object of its own would take up to 80 bytes for a character
            )
        else:
            self._parts.append(data)
        if not event.message_finished:
            self.h11.clock_message(self.size)

    def clear(self) -> None:
        """Does nothing: `to_message` has cleared the buffer."""

    def to_message(self) -> dict[str, Any]:
        parts, size = self._parts, self.size
        self._parts, self.size = [], 0
        self.h11.clock_message(0)
        joined = parts[0][:0].join(parts)
        kind = "text" if isinstance(joined, str) else "bytes"
        message = {"type": "websocket.receive", "bytes": None, "text": None, kind: joined}
        if size <= SMALL_MESSAGE_BYTES:
            self.held.release(size)
            return message
        if (wider := sys.getsizeof(joined) - size) > 0:
            self.held.hold(wider)
            size += wider
        long = LongText(joined) if kind == "text" else LongBytes(joined)
        long.release = partial(self.held.release, size)
        return message | {kind: long}


class WebSocket(WSStream):
    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.buffer: MessageBuffer = MessageBuffer(self.config.websocket_max_message_size)
        self._decided = trio.Event()

    async def handle(self, event: StreamEvent) -> None:
        if isinstance(event, Request):
            # Without an offer there is no permessage-deflate, which triples a connection's memory.
            kept = [h for h in event.headers if h[0] != b"sec-websocket-extensions"]
            event = replace(event, headers=kept)
        elif isinstance(event, Data):
            # A client may send its first frame before it gets our answer.
            await self._decided.wait()
            if not self.handshake.accepted:
                return
        await super().handle(event)

    async def app_send(self, message: ASGISendEvent | None) -> None:
        if self.closed:
            # hypercorn drops the message without a checkpoint: a handler that only sends would spin.
            await trio.lowlevel.checkpoint()
        await super().app_send(message)
        if self.state is not ASGIWebsocketState.HANDSHAKE:
            self._decided.set()

    async def say_goodbye(self, code: int, reason: str) -> None:
        if self.state is ASGIWebsocketState.CONNECTED and not self.closed:
            await self._send_wsproto_event(CloseConnection(code=code, reason=reason))

    async def _handle_events(self) -> None:
        try:
            await super()._handle_events()
        except OverBudget as error:
            await self.say_goodbye(CloseReason.TRY_AGAIN_LATER, str(error))
            await self.send(StreamClosed(stream_id=self.stream_id))
        if self.buffer.overflowed:
            # Otherwise the client could go on, and hypercorn would keep its messages.
            await self.send(StreamClosed(stream_id=self.stream_id))
        elif self.closed and self.connection.state is WebSocketState.OPEN:
            await self._send_wsproto_event(CloseConnection(code=CloseReason.PROTOCOL_ERROR))

    async def _send_error_response(self, status_code: int) -> None:
        if status_code not in PROBLEM_TYPES:
            return await super()._send_error_response(status_code)
        headers, body = problem(status_code)
        await self.send(Response(self.stream_id, headers, status_code))
        await self.send(Body(self.stream_id, body))
        await self.send(EndBody(self.stream_id))
        return None
