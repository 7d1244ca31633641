"""Streams: the events of a submission as the body of a response, as server-sent events or as lines of JSON.

Theory of operation. Quart pulls the pieces of a body, and a piece that Quart pulls next tells that the piece
before has gone to the client. A task beside it follows the log, and hands over one piece at a time. Further
tasks say that the stream lives while the program is silent, and end it when the server stops. All of them are
cancelled when the client leaves, because Quart then cancels whoever pulls.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, AsyncExitStack, nullcontext
from dataclasses import dataclass
from typing import Any

import structlog
import trio
from quart import Response, request
from quart.wrappers.response import ResponseBody

from occd.errors import EventsReset, OccdError, Rejected
from occd.scopes import cancel_when
from occd.web import EventService
from occd.web.budget import HELD, Held
from occd.web.edge import HALF_CLOSED
from occd.web.endings import Ending, last_word
from occd.web.follow import COPIES, SLOW_S, TOO_SLOW, Follower
from occd.web.json import dump
from occd.web.problems import Problem, internal_problem, problem_of, told

log = structlog.get_logger()

ALIVE_S = 15.0
"""Proxies close what is silent for longer, 60 s by default; and only a write tells that a client has gone."""


def _event(name: str, frame: dict[str, Any], seq: int | None) -> bytes:
    numbered = "" if seq is None else f"id: {seq}\n"
    return f"{numbered}event: {name}\ndata: {dump(frame)}\n\n".encode()


def _line(name: str, frame: dict[str, Any], seq: int | None) -> bytes:
    return f"{dump(frame)}\n".encode()


@dataclass(frozen=True, slots=True)
class Form:
    """How frames become bytes."""

    type: str
    """The media type."""
    encode: Callable[[str, dict[str, Any], int | None], bytes]
    """Takes the name of an event, its frame, and the number at which a client resumes behind the event."""
    alive: bytes
    """Says nothing but that the stream lives."""


FORMS = {
    "sse": Form("text/event-stream", _event, b":\n\n"),
    "ndjson": Form("application/x-ndjson", _line, b'{"type":"alive"}\n'),
}


def stream(
    service: EventService,
    id: str,
    after: int,
    form: Form,
    stopping: trio.Event,
    ending: AbstractContextManager[Ending],
    *,
    accepted: dict[str, Any] | None = None,
    connected: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> Response:
    """The answer with the events of a submission beyond `after`. `accepted` is the frame that comes first.
    `connected` and `ending` are entered for as long as the stream lasts, and what `ending` gives ends it."""
    extensions: Any = request.scope["extensions"]
    held, half_closed = extensions[HELD], extensions[HALF_CLOSED]
    body = _Stream(
        service, id, after, form, accepted, connected, held, stopping, ending, half_closed
    )
    head = request.method == "HEAD"
    response = Response(
        "" if head else body, 200, {"X-Accel-Buffering": "no"}, content_type=form.type
    )
    if head:
        del response.headers["Content-Length"]
    return response


@dataclass(eq=False)
class _Stream(ResponseBody):
    service: EventService
    id: str
    after: int
    form: Form
    accepted: dict[str, Any] | None
    connected: Callable[[], AbstractContextManager[None]]
    held: Held
    stopping: trio.Event
    ending: AbstractContextManager[Ending]
    half_closed: trio.Event

    def __post_init__(self) -> None:
        self._into, self._pieces = trio.open_memory_channel[tuple[bytes, trio.Event]](0)
        self._gone = trio.Event()
        """Set when the piece that was handed over last has gone to the client."""
        self._sent_at = trio.current_time()
        self._slow = False
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> "_Stream":
        self._stack.enter_context(self.connected())
        self._end = self._stack.enter_context(self.ending)
        self._nursery = await self._stack.enter_async_context(trio.open_nursery())
        self._nursery.start_soon(self._run)
        return self

    async def __aexit__(self, *raised: Any) -> None:
        self._nursery.cancel_scope.cancel()
        await self._stack.__aexit__(*raised)  # noqa: ASYNC102  (all that it awaits was cancelled)

    def __aiter__(self) -> "_Stream":
        return self

    async def __anext__(self) -> bytes:
        self._gone.set()
        self._sent_at = trio.current_time()
        try:
            piece, self._gone = await self._pieces.receive()
        except trio.EndOfChannel:
            raise StopAsyncIteration from None
        return piece

    async def _run(self) -> None:
        with self._into:
            last, cut_off = None, True
            async with trio.open_nursery() as nursery:
                nursery.start_soon(cancel_when, self.stopping, nursery.cancel_scope)
                nursery.start_soon(cancel_when, self._end.come, nursery.cancel_scope)
                last, cut_off = await self._follow(nursery), False
                nursery.cancel_scope.cancel()
            if cut_off:
                last = problem_of(self._why())
            if last:
                async with last_word(self.held) if self._end.come.is_set() else nullcontext():
                    await self._put("problem", last.frame(self.id))

    def _why(self) -> Rejected:
        if self._end.come.is_set():
            return self._end.why
        return Rejected("shutting-down", "the server is stopping")

    async def _follow(self, nursery: trio.Nursery) -> Problem | None:
        """Returns why there are no more events although the submission has not finished."""
        follower = Follower(self.service, self.held)
        try:
            if self.accepted:
                await self._send("accepted", self.accepted)
            nursery.start_soon(self._stay_alive)
            nursery.start_soon(self._probe)
            while True:
                try:
                    await follower.follow(self.id, self.after, self._send_event)
                    return None
                except EventsReset as error:
                    # A browser that has to come again then asks for the events beyond 0.
                    await self._send("events-reset", problem_of(error).frame(self.id), 0)
                    self.after = 0
        except OccdError as error:
            return told(error, id=self.id)
        except Exception:
            log.exception("a stream failed", submission=self.id)
            return internal_problem()

    async def _send_event(self, frame: dict[str, Any]) -> None:
        await self._send(frame["event"]["name"], frame, frame["seq"])

    async def _send(self, name: str, frame: dict[str, Any], seq: int | None = None) -> None:
        """Raises OverBudget, and Rejected when the client read the frame before too slowly."""
        if self._slow:
            raise Rejected("too-slow", TOO_SLOW)
        began = trio.current_time()
        piece = self.form.encode(name, frame, seq)
        with self.held.holding(COPIES * len(piece)):
            await self._hand_over(piece)
        self._slow = trio.current_time() - began > SLOW_S

    async def _put(self, name: str, frame: dict[str, Any]) -> None:
        await self._hand_over(self.form.encode(name, frame, None))

    async def _hand_over(self, piece: bytes) -> None:
        """Returns when the piece has gone to the client."""
        gone = trio.Event()
        await self._into.send((piece, gone))
        await gone.wait()

    async def _stay_alive(self) -> None:
        while True:
            silent_until = self._sent_at + ALIVE_S
            if trio.current_time() >= silent_until:
                await self._hand_over(self.form.alive)
            else:
                await trio.sleep_until(silent_until)

    async def _probe(self) -> None:
        """The kernel of a client that left answers a write with a reset, of which `edge.py` learns."""
        await self.half_closed.wait()
        await self._hand_over(self.form.alive)
