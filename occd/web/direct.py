"""`POST /api/v1/submissions` as programs call it, without Quart, which takes a fifth of the processor time of
a short run.

Quart answers each request that is unlike those (`Direct.takes`), so that nothing has to be repeated here that
is rare: other parameters than `wait`, a cookie, a body without a length or with a long one. What decides
about a request, and what an answer looks like, are the same functions on both ways: `tests/test_direct.py`
compares their answers.
"""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import structlog
import trio
from quart import Response
from werkzeug.datastructures import Headers

from occd.config import Config
from occd.errors import OccdError, leaves
from occd.model import Accepted, Record
from occd.principal import Principal
from occd.web import SubmitService
from occd.web.access import Access, peer_of, refuse_key_in_address
from occd.web.api import (
    address_of,
    checked_key,
    long_answer,
    settled,
    submit_parsed,
)
from occd.web.budget import HELD, Held
from occd.web.correlation import bind
from occd.web.headers import only
from occd.web.host import Hosts
from occd.web.json import dump, parse
from occd.web.longjson import SLICE
from occd.web.metrics import count_request
from occd.web.origin import check_origin
from occd.web.pages import ALWAYS, UNLESS
from occd.web.problems import internal_problem, problem_answered
from occd.web.quotas import headers_of
from occd.web.schema import is_long, whole_json

log = structlog.get_logger()

ROUTE = "/api/v1/submissions"
_QUERY = re.compile(rb"(?:wait=([0-9]{1,9}(?:\.[0-9]{1,9})?))?")
_OTHERWISE = frozenset({b"cookie", b"transfer-encoding", b"expect", b"upgrade"})
"""With a header of these names a request goes the other way."""

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]


@dataclass(slots=True)
class _Answer:
    status: int
    body: str | Response
    """The latter for an answer that is long, or an error."""
    headers: dict[str, str] = field(default_factory=dict)


class Direct:
    def __init__(
        self, service: SubmitService, access: Access, stopping: trio.Event, config: Config
    ) -> None:
        self._service = service
        self._access = access
        self._stopping = stopping
        self._config = config
        self._hosts = Hosts(config)

    def takes(self, scope: Any) -> bool:
        """Whether this is a request of the usual form."""
        if scope["method"] != "POST" or scope["raw_path"] != ROUTE.encode():
            return False
        if scope["http_version"] != "1.1" or not _QUERY.fullmatch(scope["query_string"]):
            return False
        length = b""
        for name, value in scope["headers"]:
            if name in _OTHERWISE:
                return False
            if name == b"content-length":
                length = value
        return length.isdigit() and int(length) <= SLICE

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        began_at = trio.current_time()
        headers = Headers(
            [(name.decode("latin1"), value.decode("latin1")) for name, value in scope["headers"]]
        )
        id = bind(headers)
        body = await _body(receive)
        if body is None:
            return
        answer: _Answer | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_until_gone, receive, nursery.cancel_scope)
            answer = await self._answered(scope, headers, body)
            await self._send(answer, id, began_at, send)
            nursery.cancel_scope.cancel()

    async def _answered(self, scope: Any, headers: Headers, body: bytes) -> _Answer:
        try:
            return await self._answer(scope, headers, body)
        except Exception as error:  # perhaps a group
            ours = next((each for each in leaves(error) if isinstance(each, OccdError)), None)
            if ours:
                problem = problem_answered(ours, ROUTE)
            else:
                log.error("a request failed", exc_info=error)
                problem = internal_problem()
        return _Answer(problem.status, problem.response())

    async def _answer(self, scope: Any, headers: Headers, body: bytes) -> _Answer:
        if self._config.accounts:
            refuse_key_in_address(scope)
        self._hosts.check(headers, ROUTE)
        check_origin(headers, self._config.http)
        caller = await self._access.caller(headers, peer_of(scope), changes=True)
        self._access.need(caller, "run")
        wait = self._wait(scope["query_string"])
        key = checked_key(only(headers, "Idempotency-Key"))
        held: Held = scope["extensions"][HELD]
        accepted = await self._accepted(body, caller, key, held)
        del body
        held.release_request()
        record = accepted.record
        if record.status != "finished" and wait:
            record = await settled(self._service, self._stopping, record.id, wait)
            await self._access.refuse_ended(caller)
        answer = self._shown(record, held)
        answer.headers["location"] = address_of(record.id)
        answer.headers.update(headers_of(accepted.quotas))
        return answer

    def _wait(self, query: bytes) -> float:
        found = _QUERY.fullmatch(query)
        assert found
        return min(float(found[1] or 0), self._config.http.wait_max_s)

    async def _accepted(
        self, body: bytes, caller: Principal, key: str | None, held: Held
    ) -> Accepted:
        value, digest = parse(body), sha256(body).hexdigest()
        await self._access.refuse_ended(caller)
        return await submit_parsed(self._service, value, digest, caller, key, held)

    def _shown(self, record: Record, held: Held) -> _Answer:
        status = 200 if record.status == "finished" else 202
        value = whole_json(record)
        if is_long(value):
            return _Answer(status, long_answer(self._service, record, value, status, held))
        return _Answer(status, dump(value))

    async def _send(self, answer: _Answer, id: str, began_at: float, send: Send) -> None:
        body = answer.body
        headers = {"x-request-id": id, **ALWAYS, **UNLESS, **answer.headers}
        if isinstance(body, str):
            data = body.encode()
            headers["content-type"] = "application/json"
            headers["content-length"] = str(len(data))
        else:
            headers |= {name.lower(): value for name, value in body.headers.items()}
        log.debug("answered", route=ROUTE, status=answer.status)
        count_request(ROUTE, "POST", answer.status, began_at)
        encoded = [
            (name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()
        ]
        await send({"type": "http.response.start", "status": answer.status, "headers": encoded})
        if isinstance(body, str):
            await send({"type": "http.response.body", "body": data, "more_body": False})
            return
        async with body.response as pieces:
            async for piece in pieces:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _body(receive: Receive) -> bytes | None:
    """None: the client has gone."""
    found = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        found += message.get("body", b"")
        if not message.get("more_body", False):
            return bytes(found)


async def _until_gone(receive: Receive, scope: trio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()
