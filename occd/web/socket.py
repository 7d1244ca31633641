"""The WebSocket: clients submit, follow, type and cancel over one connection.

The frames of a client are handled in order. Every subscription sends from a task of its own (`follow.py`).
"""

import re
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
import trio
from quart import Blueprint, Websocket, websocket

from occd.config import HttpConfig
from occd.errors import (
    DataFolderError,
    FieldError,
    OccdError,
    OverBudget,
    Rejected,
    StateUnavailable,
)
from occd.model import Terminal
from occd.principal import Principal, Scope
from occd.rules import Broken
from occd.web import FollowService
from occd.web.access import Access, peer_of
from occd.web.api import checked_key
from occd.web.budget import HELD, Held, heavy_if
from occd.web.endings import last_word
from occd.web.fields import stdin_bytes
from occd.web.follow import COPIES, SLOW_S, TOO_SLOW, Follower
from occd.web.ids import checked_id, is_id
from occd.web.json import dump, parse
from occd.web.longjson import SLICE, LongText, Reader, digest_of
from occd.web.origin import check_origin
from occd.web.problems import Problem, internal_problem, problem_of, told
from occd.web.query import NUMBER_MAX, check_parameters
from occd.web.submission import parse_submission

log = structlog.get_logger()

_SUBSCRIPTIONS_MAX = 1000
_REF_BYTES = 256
_ERRORS_SHOWN = 5
_NAME_SHOWN = 100
_WRITER = re.compile(r"[A-Za-z0-9_-]{1,64}")

GOING_AWAY, UNSUPPORTED, INTERNAL_ERROR, TRY_AGAIN_LATER = 1001, 1003, 1011, 1013
HELLO_S = 10.0
"""So soon must say who it is who may do nothing until then."""

KEY_ENDED = 4401
"""Of our own: the key was refused, was revoked or has expired."""


def socket_routes(
    service: FollowService, access: Access, stopping: trio.Event, config: HttpConfig
) -> Blueprint:
    routes = Blueprint("socket", __name__)

    @routes.websocket("/ws")
    async def ws() -> Any:
        try:
            check_origin(websocket.headers, config)
            check_parameters(websocket.args, ())
            peer = peer_of(websocket.scope)
            principal = await access.caller(websocket.headers, peer, changes=True)
        except Rejected as error:
            return problem_of(error).response()
        await websocket.accept()
        # The proxy works in this task only; other tasks need the object.
        socket = websocket._get_current_object()  # type: ignore[attr-defined]
        try:
            with service.connected():
                held = socket.scope["extensions"][HELD]
                await _Session(service, access, socket, principal, held).run(stopping)
        except Exception:
            # The application's error handler would answer, and a WebSocket client would see 1000.
            log.exception("a WebSocket failed")
            await socket.close(INTERNAL_ERROR, "something went wrong on our side")
        return None

    return routes


class _Session:
    def __init__(
        self,
        service: FollowService,
        access: Access,
        socket: Websocket,
        principal: Principal,
        held: Held,
    ) -> None:
        self._access = access
        self._principal = principal
        self._held = held
        self._service = service
        self._follower = Follower(service, held)
        self._socket = socket
        self._sending = trio.Lock()
        self._closed = False
        self._followed: dict[str, trio.CancelScope] = {}
        self._began = False
        """Whether a frame has come."""
        self._keys: set[str] = set()
        """The credentials that came over this connection."""
        self._submitters: dict[str, Principal] = {}
        """By submission: who submitted it, where the frame came with a secret of its own."""

    async def run(self, stopping: trio.Event) -> None:
        async with trio.open_nursery() as self._nursery:
            self._nursery.start_soon(self._goodbye, stopping)
            self._end_with(self._principal)
            self._nursery.start_soon(self._close_without_hello)
            while not self._closed:
                await self._handle(await self._socket.receive())

    async def _goodbye(self, stopping: trio.Event) -> None:
        await stopping.wait()
        await self._close(GOING_AWAY, "the server is stopping")

    def _end_with(self, principal: Principal) -> None:
        """Close the connection when the key of this principal ends."""
        if principal.credential is not None and principal.credential not in self._keys:
            self._keys.add(principal.credential)
            self._nursery.start_soon(self._close_at_end, principal)

    async def _close_without_hello(self) -> None:
        """Such a connection would take up a place for as long as a stranger likes."""
        if not self._principal.scopes:
            await trio.sleep(HELLO_S)
            if not self._principal.scopes and not self._keys:
                async with last_word(self._held):
                    await self._close(KEY_ENDED, "say who you are in the first frame: hello")

    async def _close_at_end(self, principal: Principal) -> None:
        with self._access.endings.of(principal) as ending:
            await ending.come.wait()
            async with last_word(self._held):
                await self._close(KEY_ENDED, str(ending.why))

    async def _handle(self, text: str | bytes) -> None:
        if isinstance(text, bytes):
            await self._close(UNSUPPORTED, "frames are JSON text")
            return
        frame: dict[str, Any] = {}
        first, self._began = not self._began, True
        try:
            frame = await _parse(text)
            _check_fields(frame)
            if frame["type"] == "hello":
                await self._hello(frame, first=first)
                return
            await self._check_access(frame)
            await _HANDLERS[frame["type"]](self, frame)
        except OccdError as error:
            await self._answer(frame, _error(frame, told(error, id=frame.get("id"))))
            if frame.get("type") == "hello":
                # Frames behind it would come from nobody, and their sender had said who it is.
                again = isinstance(error, StateUnavailable | DataFolderError)
                await self._close(TRY_AGAIN_LATER if again else KEY_ENDED, "see the last frame")
        except Exception:
            log.exception("a frame failed")
            await self._answer(frame, _error(frame, internal_problem()))

    async def _check_access(self, frame: dict[str, Any]) -> None:
        """Raises Rejected, or UnknownSubmission. A frame that submits may come with a secret of its own."""
        if frame["type"] == "submit":
            return
        scope: Scope = "read" if frame["type"] in ("subscribe", "unsubscribe") else "run"
        id = checked_id(frame.get("id"))
        await self._access.need_of(self._submitters.get(id, self._principal), scope, id)

    async def _answer(self, frame: dict[str, Any], answer: dict[str, Any]) -> None:
        await self._send(answer | ({"ref": frame["ref"]} if "ref" in frame else {}))

    async def _hello(self, frame: dict[str, Any], *, first: bool) -> None:
        if not first:
            raise Rejected("bad-request", "hello must be the first frame of a connection")
        if self._principal.owner is not None:
            raise Rejected("bad-request", "the handshake said already who this is")
        if (bearer := _word(frame.get("bearer"))) is None:
            raise _wrong("bearer", "is missing")
        self._principal = await self._bearer(bearer)
        self._end_with(self._principal)
        await self._answer(frame, {"type": "done"})

    async def _bearer(self, secret: object) -> Principal:
        """Raises Rejected."""
        return await self._access.bearer(secret, self._socket.headers, peer_of(self._socket.scope))

    async def _submit(self, frame: dict[str, Any]) -> None:
        self._check_room()
        principal = await self._submitter(frame)
        wanted = frame.get("submission")
        request = await parse_submission(wanted)
        key = checked_key(frame.get("idempotency_key"))
        digest = await digest_of(wanted) if key else ""
        async with heavy_if(self._held, request.bytes):
            accepted = await self._service.submit(request, principal, key=key, digest=digest)
        id = accepted.id
        if principal is not self._principal:
            self._end_with(principal)
            while len(self._submitters) >= _SUBSCRIPTIONS_MAX:
                del self._submitters[next(iter(self._submitters))]
            self._submitters[id] = principal
        # The answer goes first, because the events need the id that it gives.
        await self._answer(frame, {"type": "accepted", "id": id})
        self._follow(id, 0)

    async def _submitter(self, frame: dict[str, Any]) -> Principal:
        """Raises Rejected."""
        principal, bearer = self._principal, _word(frame.get("bearer"))
        if bearer is not None:
            principal = await self._bearer(bearer)
        self._access.need(principal, "run")
        return principal

    async def _subscribe(self, frame: dict[str, Any]) -> None:
        id, after = checked_id(frame.get("id")), _optional(frame, "after", int) or 0
        if after < 0:
            raise _wrong("after", "must be 0 or more")
        await self._service.status(id)  # is it known?
        self._check_room()
        await self._answer(frame, {"type": "done", "id": id})
        self._follow(id, after)

    async def _unsubscribe(self, frame: dict[str, Any]) -> None:
        id = checked_id(frame.get("id"))
        if scope := self._followed.pop(id, None):
            scope.cancel()
        await self._answer(frame, {"type": "done", "id": id})

    async def _stdin(self, frame: dict[str, Any]) -> None:
        id = checked_id(frame.get("id"))
        data = await stdin_bytes(frame.get("data", ""))
        end, offset = _optional(frame, "eof", bool) or False, _optional(frame, "offset", int)
        if offset is not None and offset < 0:
            raise _wrong("offset", "must be 0 or more")
        await self._service.send_stdin(id, data, offset, end=end, writer=_writer(frame))
        await self._answer(frame, {"type": "done", "id": id})

    async def _signal(self, frame: dict[str, Any]) -> None:
        id, name = checked_id(frame.get("id")), frame.get("signal")
        if name not in SIGNALS:
            raise _wrong("signal", f"must be one of {', '.join(SIGNALS)}")
        await self._service.send_signal(id, name)
        await self._answer(frame, {"type": "done", "id": id})

    async def _resize(self, frame: dict[str, Any]) -> None:
        id = checked_id(frame.get("id"))
        try:
            window = Terminal(_number(frame, "rows"), _number(frame, "cols"))
        except Broken as error:
            raise _wrong(error.field, error.message) from None
        await self._service.send_resize(id, window)
        await self._answer(frame, {"type": "done", "id": id})

    async def _cancel(self, frame: dict[str, Any]) -> None:
        id = checked_id(frame.get("id"))
        await self._service.cancel(id)
        await self._answer(frame, {"type": "done", "id": id})

    def _check_room(self) -> None:
        if len(self._followed) >= _SUBSCRIPTIONS_MAX:
            raise Rejected(
                "too-many", f"one connection follows at most {_SUBSCRIPTIONS_MAX} submissions"
            )

    def _follow(self, id: str, after: int) -> None:
        """Send the events of a submission. If the client follows it already, start over at `after`."""
        if scope := self._followed.pop(id, None):
            scope.cancel()
        self._followed[id] = scope = trio.CancelScope()
        self._nursery.start_soon(self._send_events, id, after, scope)

    async def _send_events(self, id: str, after: int, scope: trio.CancelScope) -> None:
        with scope:
            try:
                await self._follower.follow(id, after, self._send)
            except OverBudget as error:
                await self._close(TRY_AGAIN_LATER, str(error))
            except OccdError as error:
                await self._send(told(error, id=id).frame(id))
            finally:
                if self._followed.get(id) is scope:
                    del self._followed[id]

    async def _send(self, frame: dict[str, Any]) -> None:
        text = dump(frame, str)
        began = trio.current_time()
        try:
            with self._held.holding(COPIES * len(text)):
                async with self._sending:
                    began = trio.current_time()
                    if not self._closed:
                        await self._socket.send(text)  # never half of a frame: see edge.py
        except OverBudget as error:
            await self._close(TRY_AGAIN_LATER, str(error))
        if trio.current_time() - began > SLOW_S:
            await self._close(TRY_AGAIN_LATER, TOO_SLOW)

    async def _close(self, code: int, reason: str) -> None:
        async with self._sending:
            try:
                if not self._closed:
                    self._closed = True
                    await self._socket.close(code, reason)
            finally:
                self._nursery.cancel_scope.cancel()


_HANDLERS: dict[str, Callable[[_Session, dict[str, Any]], Awaitable[None]]] = {
    "submit": _Session._submit,
    "subscribe": _Session._subscribe,
    "unsubscribe": _Session._unsubscribe,
    "stdin": _Session._stdin,
    "signal": _Session._signal,
    "resize": _Session._resize,
    "cancel": _Session._cancel,
}


async def _parse(text: str) -> dict[str, Any]:
    frame = parse(text) if len(text) <= SLICE else await _read(text)
    if not isinstance(frame, dict):
        raise Rejected("bad-request", "a frame is a JSON object")
    if not isinstance(frame.get("type"), str) or frame["type"] not in FRAMES:
        known = ", ".join(FRAMES)
        raise Rejected(
            "bad-request", f"type must be one of {known}", [FieldError("type", "is unknown")]
        )
    _check_ref(frame)
    return frame


async def _read(text: str) -> Any:
    reader = Reader()
    for at in range(0, len(text), SLICE):
        await reader.take(text[at : at + SLICE].encode())
    return reader.close()


def _check_ref(frame: dict[str, Any]) -> None:
    """Raises Rejected for a `ref` that cannot be repeated, and removes the `ref` from the frame."""
    try:
        size = len(dump(frame.get("ref"), str).encode())
    except (ValueError, RecursionError):
        del frame["ref"]
        message = "has an infinite number or a lone surrogate, or is nested too deeply"
        raise _wrong("ref", message) from None
    if size > _REF_BYTES:
        del frame["ref"]
        raise _wrong("ref", f"is longer than {_REF_BYTES} bytes")


FRAMES = {
    "hello": ("bearer",),
    "submit": ("submission", "idempotency_key", "bearer"),
    "subscribe": ("id", "after"),
    "unsubscribe": ("id",),
    "stdin": ("id", "data", "offset", "writer", "eof"),
    "signal": ("id", "signal"),
    "resize": ("id", "rows", "cols"),
    "cancel": ("id",),
}
"""The fields of each frame, beside `type` and `ref`."""

SIGNALS = (
    "SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGKILL", "SIGSTOP", "SIGCONT",
    "SIGTSTP",
)  # fmt: skip
"""The signals that a client may send to its program."""


def _optional(frame: dict[str, Any], name: str, kind: type) -> Any:
    value = frame.get(name)
    if value is not None and type(value) is not kind:
        raise _wrong(name, f"must be {'true or false' if kind is bool else 'a whole number'}")
    if type(value) is int and value > NUMBER_MAX:
        raise _wrong(name, f"is above {NUMBER_MAX}")
    return value


def _number(frame: dict[str, Any], name: str) -> int:
    value = _optional(frame, name, int)
    if value is None:
        raise _wrong(name, "is missing")
    number: int = value
    return number


def _writer(frame: dict[str, Any]) -> str:
    """Who sends this stdin, or nothing."""
    match _word(frame.get("writer")):
        case None:
            return ""
        case str(name) if _WRITER.fullmatch(name):
            return name
    raise _wrong("writer", "must be 1 to 64 letters, digits, - or _")


def _word(value: object) -> object:
    """The text of a value. In a long frame a string of 256 bytes or more is a LongText."""
    return str(value) if isinstance(value, LongText) else value


def _wrong(field: str, message: str) -> Rejected:
    return Rejected("bad-request", f"{field} {message}", [FieldError(field, message)])


def _check_fields(frame: dict[str, Any]) -> None:
    """Raises Rejected for fields that the frame does not have: a misspelled one would be without effect."""
    kind = frame["type"]
    unknown = sorted(frame.keys() - {"type", "ref", *FRAMES[kind]})[:_ERRORS_SHOWN]
    if not unknown:
        return
    message = f"is not a field of a {kind} frame"
    # A name that somebody sent may be long, and need not be text.
    names = [name[:_NAME_SHOWN].encode(errors="backslashreplace").decode() for name in unknown]
    detail = "; ".join(f"{name} {message}" for name in names)
    raise Rejected("bad-request", detail, [FieldError(name, message) for name in names])


def _error(frame: dict[str, Any], problem: Problem) -> dict[str, Any]:
    id = frame.get("id")
    return problem.frame(id if is_id(id) else None)
