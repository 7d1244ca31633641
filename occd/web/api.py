"""The native HTTP API. Shapes are in `schema.py`, decisions in the role that serves it."""

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from hashlib import sha256
from typing import Any

import trio
from quart import Blueprint, Response, request

from occd.config import Config
from occd.errors import FieldError, Rejected, UnknownSubmission, Unreadable
from occd.model import Accepted, Record
from occd.principal import Principal
from occd.scopes import cancel_when
from occd.web import SubmitService
from occd.web.access import Access, Call, caller
from occd.web.budget import HELD, Held, heavy_if
from occd.web.catalogue import Catalogue
from occd.web.compressed import compress_once, respond
from occd.web.headers import only
from occd.web.ids import checked_id
from occd.web.json import dump, parse
from occd.web.longanswer import ANSWER_BYTES, TEST_BYTES, LongAnswer, pieces_of
from occd.web.longjson import SLICE, Reader
from occd.web.query import fields_of, flag_of, stream_of, wait_of
from occd.web.quotas import headers_of
from occd.web.schema import (
    RECORD_FIELDS,
    chosen,
    is_long,
    limits_json,
    no_text,
    record_json,
    transcript_of,
    whole_json,
)
from occd.web.stream import FORMS, stream
from occd.web.submission import parse_submission

OUTPUT_BYTES = 2**14
"""More output than that is read from the log while it is sent: as JSON it may take six times as much."""

_MOMENT_S = 0.1

WITH_OUTPUT = frozenset({"compile", "run"})
"""The fields that need the output."""


def api_routes(
    service: SubmitService, access: Access, stopping: trio.Event, config: Config
) -> Blueprint:
    api = Blueprint("api", __name__)
    catalogue = Catalogue(config, service.languages)

    calls = {
        "api.submit": Call("run", ("wait", "stream")),
        "api.look": Call("read", ("wait", "fields", "transcript")),
        "api.rerun": Call("run", ("wait",)),
        "api.cancel": Call("run", ("erase",)),
        "api.languages": Call(takes=("brief",)),
        "api.limits": Call(),
    }
    access.guard(api, calls)

    @api.post("/submissions")
    async def submit() -> Response:
        wait, form = wait_of(request.args, config.http), stream_of(request.args)
        key = checked_key(only(request.headers, "Idempotency-Key"))
        accepted = await _accepted(caller(), key)
        held().release_request()
        record = accepted.record
        response = _streamed(record, form) if form else await _answer(record, wait)
        response.headers.update(headers_of(accepted.quotas))
        return response

    def _streamed(record: Record, form: str) -> Response:
        shown = record_json(record, no_text)
        accepted = {"type": "accepted", "id": record.id, "submission": shown}
        ending = access.endings.of(caller())
        response = stream(service, record.id, 0, FORMS[form], stopping, ending, accepted=accepted)
        response.headers["Location"] = address_of(record.id)
        return response

    async def _accepted(principal: Principal, key: str | None) -> Accepted:
        value, digest = await read_body()
        await access.refuse_ended(principal)
        return await submit_parsed(service, value, digest, principal, key, held())

    @api.post("/submissions/<id>/rerun")
    async def rerun(id: str) -> Response:
        refuse_body()
        wait = wait_of(request.args, config.http)
        key = checked_key(only(request.headers, "Idempotency-Key"))
        async with _whole():
            accepted = await service.rerun(checked_id(id), caller(), key=key)
        response = await _answer(accepted.record, wait)
        response.headers.update(headers_of(accepted.quotas))
        return response

    @asynccontextmanager
    async def _whole() -> AsyncIterator[None]:
        """While a whole submission is read, which may be as long as a request."""
        async with held().heavy:
            with held().holding(config.http.body_max_bytes):
                yield

    @api.get("/submissions/<id>")
    async def look(id: str) -> Response:
        wait, fields = wait_of(request.args, config.http), fields_of(request.args, RECORD_FIELDS)
        if flag_of(request.args, "transcript"):
            fields |= {"transcript"}
        record = await service.get(checked_id(id), OUTPUT_BYTES if fields & WITH_OUTPUT else 0)
        return await _answer(record, wait, fields, pending_status=200)

    @api.delete("/submissions/<id>")
    async def cancel(id: str) -> Response:
        if flag_of(request.args, "erase"):
            async with _whole():
                await service.erase(checked_id(id), caller())
            return Response("", 204)
        record, cancelling = await service.cancel(checked_id(id), OUTPUT_BYTES)
        return await _shown(record, 202 if cancelling else 200)

    @api.get("/languages")
    async def languages() -> Response:
        class_name = await access.class_of(request.headers, request.scope)
        told = await catalogue.told(class_name, brief=flag_of(request.args, "brief"))
        headers = {"ETag": f'"{told.etag}"', "Cache-Control": "private, no-cache"}
        if request.if_none_match.contains_weak(told.etag):
            return Response(b"", 304, headers | {"Vary": "Accept-Encoding"})
        return respond(told.body, "application/json", compress_once, headers)

    @api.get("/limits")
    async def limits() -> Response:
        return in_json(limits_json(config, await access.class_of(request.headers, request.scope)))

    async def _answer(
        record: Record,
        wait: float,
        fields: frozenset[str] = frozenset(RECORD_FIELDS),
        pending_status: int = 202,
    ) -> Response:
        if record.status != "finished" and wait:
            record = await settled(service, stopping, record.id, wait)
            await access.refuse_ended(caller())
        status = 200 if record.status == "finished" else pending_status
        response = await _shown(record, status, fields)
        response.headers["Location"] = address_of(record.id)
        return response

    async def _shown(
        record: Record, status: int, fields: frozenset[str] = frozenset(RECORD_FIELDS)
    ) -> Response:
        whole = whole_json(record) | {"transcript": transcript_of(record)}
        value = chosen(whole, fields)
        if not is_long(value):
            return in_json(value, status)
        return long_answer(service, record, value, status, held())

    return api


async def submit_parsed(
    service: SubmitService,
    value: Any,
    digest: str,
    principal: Principal,
    key: str | None,
    held: Held,
) -> Accepted:
    """Submit what a body says, which has this digest."""
    wanted = await parse_submission(value)
    async with heavy_if(held, wanted.bytes):
        return await service.submit(wanted, principal, key=key, digest=digest)


class Gone(Exception):
    """Nobody waits for the answer any more."""


async def settled(
    service: SubmitService,
    stopping: trio.Event,
    id: str,
    wait: float,
    left: Callable[[], Awaitable[None]] | None = None,
) -> Record:
    """The submission as it is when it has finished, the time is up, or the server stops. `left` returns when
    the client has left: then this raises Gone. A short program has ended before either is looked for."""
    record: Record | None = None
    gone = False
    with suppress(UnknownSubmission, Unreadable):  # for `get` to say
        with trio.move_on_after(min(wait, _MOMENT_S)):
            record = await service.settled(id, OUTPUT_BYTES)

    async def leave(scope: trio.CancelScope) -> None:
        nonlocal gone
        assert left
        await left()
        gone = True
        scope.cancel()

    if record is None and wait > _MOMENT_S:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(cancel_when, stopping, nursery.cancel_scope)
            if left:
                nursery.start_soon(leave, nursery.cancel_scope)
            nursery.cancel_scope.deadline = trio.current_time() + wait - _MOMENT_S
            # Outside of a nursery, which would wrap what `get` raises.
            with suppress(UnknownSubmission, Unreadable):
                record = await service.settled(id, OUTPUT_BYTES)
            nursery.cancel_scope.cancel()
    if gone:
        raise Gone
    return record or await service.get(id, OUTPUT_BYTES)


def long_answer(
    service: SubmitService, record: Record, value: dict[str, Any], status: int, held: Held
) -> Response:
    """Of a value of which some parts are in the log."""
    held.hold_for_request(ANSWER_BYTES + TEST_BYTES * record.tests)
    pieces = pieces_of(value, partial(service.entries, record.id))
    return Response(LongAnswer(pieces), status, content_type="application/json")


def held() -> Held:
    extensions: Any = request.scope["extensions"]
    found: Held = extensions[HELD]
    return found


async def read_body() -> tuple[Any, str]:
    """The value of the request's body, and the digest of the body, however the body came."""
    length = request.content_length
    digest = sha256()
    if length is None or length > SLICE:
        reader = Reader()
        async for piece in request.body:
            digest.update(piece)
            await reader.take(piece)
            del piece  # else it would be there while the next is awaited
        return reader.close(), digest.hexdigest()
    body = await request.get_data()
    assert isinstance(body, bytes)
    digest.update(body)
    return parse(body), digest.hexdigest()


def refuse_body() -> None:
    """For calls that take none: what is in it would be without effect."""
    if request.content_length or "Transfer-Encoding" in request.headers:
        raise Rejected("bad-request", "this call takes no body")


def checked_key(key: object) -> str | None:
    """An idempotency key, if there is one."""
    if key is None or (isinstance(key, str) and re.fullmatch(r"[\x21-\x7e]{1,255}", key)):
        return key
    message = "must be 1 to 255 visible ASCII characters"
    raise Rejected(
        "bad-request", f"the idempotency key {message}", [FieldError("idempotency_key", message)]
    )


def address_of(id: str) -> str:
    return f"/api/v1/submissions/{id}"


def in_json(value: object, status: int = 200) -> Response:
    return Response(dump(value), status, content_type="application/json")
