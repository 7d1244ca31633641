"""The native HTTP API. Shapes are in `schema.py`, decisions in the role that serves it."""

import hashlib
import math
import re
from contextlib import suppress
from functools import partial
from typing import Any, TypeGuard

import trio
from quart import Blueprint, Response, request

from occd.config import Config, HttpConfig
from occd.errors import FieldError, Rejected, UnknownSubmission, Unreadable
from occd.model import Record
from occd.principal import Principal
from occd.scopes import cancel_when
from occd.web import SubmitService
from occd.web.budget import HELD, Held, heavy_if
from occd.web.compressed import compress_once, respond
from occd.web.json import dump, parse
from occd.web.longanswer import LONG_ANSWER_BYTES, LongAnswer, pieces_of
from occd.web.longjson import SLICE, Reader, digest_of
from occd.web.origin import check_origin
from occd.web.owner import owner_of, principal_of
from occd.web.schema import (
    language_json,
    limits_json,
    parse_submission,
    summary_json,
    whole_json,
)

OUTPUT_BYTES = 2**14
"""More output than that is read from the log while it is sent: as JSON it may take six times as much."""

_LIST_MAX = 100


def api_routes(service: SubmitService, stopping: trio.Event, config: Config) -> Blueprint:
    api = Blueprint("api", __name__)

    @api.before_request
    async def same_origin() -> None:
        if request.method not in ("GET", "HEAD", "OPTIONS"):
            check_origin(request.headers, config.http)

    @api.post("/submissions")
    async def submit() -> Response:
        wait, principal = _wait(config.http), principal_of(request.headers)
        key = checked_key(request.headers.get("Idempotency-Key"))
        record = await _accepted(principal, key)
        _held().release_request()
        return await _answer(record, wait)

    async def _accepted(principal: Principal, key: str | None) -> Record:
        value, digest = await _read_body()
        wanted = await parse_submission(value)
        async with heavy_if(_held(), wanted.bytes):
            return await service.submit(wanted, principal, key=key, digest=digest)

    @api.get("/submissions")
    async def own() -> Response:
        owner, limit = owner_of(principal_of(request.headers)), _limit()
        found = await service.owned(owner, request.args.get("cursor"), limit)
        more = found[-1].cursor if len(found) == limit else None
        return _json({"submissions": [summary_json(each) for each in found], "cursor": more})

    @api.get("/submissions/<id>")
    async def look(id: str) -> Response:
        wait = _wait(config.http)
        record = await service.get(checked_id(id), OUTPUT_BYTES)
        return await _answer(record, wait, pending_status=200)

    @api.delete("/submissions/<id>")
    async def cancel(id: str) -> Response:
        record, cancelling = await service.cancel(checked_id(id), OUTPUT_BYTES)
        return await _shown(record, 202 if cancelling else 200)

    @api.get("/languages")
    async def languages() -> Response:
        offered = [language_json(*each) for each in await service.languages()]
        body = dump({"languages": offered}).encode()
        return respond(body, "application/json", compress_once)

    @api.get("/limits")
    async def limits() -> Response:
        return _json(limits_json(config))

    async def _settled(id: str, wait: float) -> Record:
        """The submission as it is when it has finished, the time is up, or the server stops."""
        record: Record | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(cancel_when, stopping, nursery.cancel_scope)
            nursery.cancel_scope.deadline = trio.current_time() + wait
            # For `get` to say, outside of a nursery, which would wrap it.
            with suppress(UnknownSubmission, Unreadable):
                record = await service.settled(id, OUTPUT_BYTES)
            nursery.cancel_scope.cancel()
        return record or await service.get(id, OUTPUT_BYTES)

    async def _answer(record: Record, wait: float, pending_status: int = 202) -> Response:
        if record.status != "finished" and wait:
            record = await _settled(record.id, wait)
        response = await _shown(record, 200 if record.status == "finished" else pending_status)
        response.headers["Location"] = f"/api/v1/submissions/{record.id}"
        return response

    async def _shown(record: Record, status: int) -> Response:
        value = whole_json(record)
        if record.output_size <= OUTPUT_BYTES:
            return _json(value, status)
        _held().hold_for_request(LONG_ANSWER_BYTES)
        pieces = pieces_of(value, partial(service.entries, record.id), record.log_from)
        return Response(LongAnswer(pieces), status, content_type="application/json")

    return api


def _held() -> Held:
    extensions: Any = request.scope["extensions"]
    held: Held = extensions[HELD]
    return held


async def _read_body() -> tuple[Any, str]:
    """The value of the request's body, and a digest by which the same is known again."""
    length = request.content_length
    if length is None or length > SLICE:
        reader = Reader()
        async for piece in request.body:
            await reader.take(piece)
            del piece  # else it would be there while the next is awaited
        value = reader.close()
        return value, digest_of(value)
    body = await request.get_data()
    assert isinstance(body, bytes)
    return parse(body), hashlib.sha256(body).hexdigest()


def checked_id(id: object) -> str:
    """Raises UnknownSubmission for what no submission was ever called."""
    if not is_id(id):
        raise UnknownSubmission("no such id")
    return id


def is_id(id: object) -> TypeGuard[str]:
    return isinstance(id, str) and re.fullmatch(r"[A-Za-z0-9_-]{1,64}", id) is not None


def checked_key(key: object) -> str | None:
    """An idempotency key, if there is one."""
    if key is None or (isinstance(key, str) and re.fullmatch(r"[\x21-\x7e]{1,255}", key)):
        return key
    message = "must be 1 to 255 visible ASCII characters"
    raise Rejected(
        "bad-request", f"the idempotency key {message}", [FieldError("idempotency_key", message)]
    )


def _wait(config: HttpConfig) -> float:
    """`?wait=` in seconds, at most what the server allows."""
    given = request.args.get("wait")
    if given is None:
        return 0.0
    try:
        seconds = float(given)
    except ValueError:
        seconds = math.nan
    if not seconds >= 0:
        message = "must be a number of seconds, 0 or more"
        raise Rejected("invalid", f"wait: {message}", [FieldError("wait", message)])
    return min(seconds, config.wait_max_s)


def _limit() -> int:
    """`?limit=`, how many at once."""
    given = request.args.get("limit", "20")
    if not re.fullmatch(r"\d{1,3}", given) or not 1 <= int(given) <= _LIST_MAX:
        message = f"must be 1 to {_LIST_MAX}"
        raise Rejected("invalid", f"limit: {message}", [FieldError("limit", message)])
    return int(given)


def _json(value: object, status: int = 200) -> Response:
    return Response(dump(value), status, content_type="application/json")
