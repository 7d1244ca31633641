"""`POST /api/v1/submissions` as programs call it, without Quart, which takes a fifth of the processor time of
a short run.

Quart answers each request that is unlike those (`Direct.takes`), so that nothing has to be repeated here that
is rare: other parameters than `wait`, a cookie, a body without a length or with a long one. What decides
about a request, and what an answer looks like, are the same functions on both ways: `tests/test_direct.py`
compares their answers.
"""

import re
from collections.abc import Awaitable, Callable
from functools import partial
from hashlib import sha256
from typing import Any

import structlog
import trio
from structlog.contextvars import unbind_contextvars
from werkzeug.datastructures import Headers

from occd.config import Config
from occd.errors import OccdError, leaves
from occd.model import Accepted, Record
from occd.principal import Principal
from occd.web import SubmitService
from occd.web.access import Access, peer_of, refuse_key_in_address
from occd.web.api import (
    Gone,
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
from occd.web.schema import is_long, may_be_long, whole_json
from occd.web.whole import OTHERWISE, Answer, Left

log = structlog.get_logger()

ROUTE = "/api/v1/submissions"
_QUERY = re.compile(rb"(?:wait=([0-9]{1,9}(?:\.[0-9]{1,9})?))?")

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]


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
            if name in OTHERWISE:
                return False
            if name == b"content-length":
                length = value
        return length.isdigit() and int(length) <= SLICE

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Answer a request that came by h11 and hypercorn."""
        body = await _body(receive)
        if body is None:
            return
        left = partial(_until_gone, receive)
        answer = await self.answer(scope, body, left)
        if answer is None:
            return
        encoded = [
            (name.encode(), value.encode("latin-1")) for name, value in answer.headers.items()
        ]
        await send({"type": "http.response.start", "status": answer.status, "headers": encoded})
        async with trio.open_nursery() as nursery, answer.pieces() as pieces:
            nursery.start_soon(_cancel_when, left, nursery.cancel_scope)
            async for piece in pieces:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            nursery.cancel_scope.cancel()
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def answer(self, scope: Any, body: bytes, left: Left) -> Answer | None:
        """The answer to a request that `takes` takes. None: the client has left, as `left` tells."""
        began_at = trio.current_time()
        headers = Headers(
            [(name.decode("latin1"), value.decode("latin1")) for name, value in scope["headers"]]
        )
        unbind_contextvars("traceparent")  # of an earlier request on this connection
        id = bind(headers)
        try:
            answer = await self._answered(scope, headers, body, left)
        except Gone:
            return None
        log.debug("answered", route=ROUTE, status=answer.status)
        count_request(ROUTE, "POST", answer.status, began_at)
        found = {"x-request-id": id, **ALWAYS, **UNLESS, **answer.headers}
        if isinstance(answer.body, bytes):
            found["content-type"] = "application/json"
            found["content-length"] = str(len(answer.body))
        else:
            found |= answer.body.headers.items()
        answer.headers = {name.lower(): value for name, value in found.items()}
        return answer

    async def _answered(self, scope: Any, headers: Headers, body: bytes, left: Left) -> Answer:
        try:
            return await self._answer(scope, headers, body, left)
        except Gone:
            raise
        except Exception as error:  # perhaps a group
            ours = next((each for each in leaves(error) if isinstance(each, OccdError)), None)
            if ours:
                problem = problem_answered(ours, ROUTE)
            else:
                log.error("a request failed", exc_info=error)
                problem = internal_problem()
        return Answer(problem.status, problem.response())

    async def _answer(self, scope: Any, headers: Headers, body: bytes, left: Left) -> Answer:
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
            record = await settled(self._service, self._stopping, record.id, wait, left)
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

    def _shown(self, record: Record, held: Held) -> Answer:
        status = 200 if record.status == "finished" else 202
        value = whole_json(record)
        if may_be_long(record) and is_long(value):
            return Answer(status, long_answer(self._service, record, value, status, held))
        return Answer(status, dump(value).encode())


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


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _cancel_when(left: Left, scope: trio.CancelScope) -> None:
    await left()
    scope.cancel()
