"""Calls about many submissions at once: one's own, many by id, a batch, and the cancelling of all.

Each of many answers for itself, in the order of the request: as the submission or as {"id", "problem"}.
"""

from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Any

import trio
from quart import Blueprint, Response, request

from occd.errors import (
    BrokerUnavailable,
    DataFolderError,
    FieldError,
    OccdError,
    QueueFull,
    QuotaUsedUp,
    Rejected,
    StateUnavailable,
)
from occd.model import Submission
from occd.principal import Principal
from occd.quotas import Quota
from occd.web import SubmitService
from occd.web.access import Access, Call, caller
from occd.web.api import (
    OUTPUT_BYTES,
    WITH_OUTPUT,
    checked_key,
    held,
    in_json,
    read_body,
    refuse_body,
)
from occd.web.budget import Held, heavy_if
from occd.web.headers import only
from occd.web.ids import checked_id
from occd.web.json import dump
from occd.web.longanswer import ANSWER_BYTES, TEST_BYTES, LongAnswer, pieces_of
from occd.web.longjson import digest_of
from occd.web.problems import told
from occd.web.query import fields_of, flag_of, ids_of, limit_of, owner_asked_of
from occd.web.quotas import headers_of
from occd.web.schema import (
    RECORD_FIELDS,
    SUMMARY_FIELDS,
    chosen,
    no_text,
    record_json,
    summary_json,
    whole_json,
)
from occd.web.submission import parse_submission

BATCH_MAX = 1000
_ERRORS_SHOWN = 5
_ALL_ERRORS_SHOWN = 100
_NAME_SHOWN = 64
_PAGE = 100
_PAGES = 10
_AT_ONCE = 16
_OURS = (BrokerUnavailable, DataFolderError, QueueFull, StateUnavailable)
"""What keeps one submission of a batch from being queued keeps the following ones from it, too."""


def many_routes(service: SubmitService, access: Access) -> Blueprint:
    many = Blueprint("many", __name__)
    calls = {
        "many.own": Call("read", ("limit", "cursor", "ids", "fields", "owner")),
        "many.batch": Call("run", ("all_or_nothing",)),
        "many.cancel_own": Call("run", ("cursor", "owner")),
    }
    access.guard(many, calls)

    @many.get("/submissions")
    async def own() -> Response:
        if (ids := ids_of(request.args)) is not None:
            fields = fields_of(request.args, RECORD_FIELDS)
            held().hold_for_request(ANSWER_BYTES)
            pieces = _found(caller(), ids, fields, held())
            return Response(LongAnswer(pieces), content_type="application/json")
        owner = access.owner_for(caller(), "read-all", owner_asked_of(request.args))
        limit = limit_of(request.args)
        fields = fields_of(request.args, SUMMARY_FIELDS)
        found = await service.owned(owner, request.args.get("cursor"), limit)
        more = found[-1].cursor if len(found) == limit else None
        listed = [chosen(summary_json(each), fields) for each in found]
        return in_json({"submissions": listed, "cursor": more})

    async def _found(
        reader: Principal, ids: Sequence[str], fields: frozenset[str], held: Held
    ) -> AsyncIterator[bytes]:
        output_max = OUTPUT_BYTES if fields & WITH_OUTPUT else 0
        yield b'{"submissions":['
        for at, id in enumerate(ids):
            if at:
                yield b","
            try:
                await access.refuse_ended(reader)  # a client may read slowly
                await access.need_of(reader, "read", checked_id(id))
                record = await service.get(id, output_max)
                size = TEST_BYTES * record.tests if "tests" in fields else 0
                held.hold(size)
            except OccdError as error:
                yield dump(_problem(id[:_NAME_SHOWN], error)).encode()
                continue
            try:
                read = partial(service.entries, id)
                async for piece in pieces_of(chosen(whole_json(record), fields), read):
                    yield piece
            finally:
                held.release(size)
        yield b"]}"

    @many.post("/submissions/batch")
    async def batch() -> Response:
        principal = caller()
        key = checked_key(only(request.headers, "Idempotency-Key"))
        whole = flag_of(request.args, "all_or_nothing")
        items = _items((await read_body())[0])
        await access.refuse_ended(principal)
        # For the answer. Before anything is submitted, because this may be refused.
        held().hold_for_request(ANSWER_BYTES)
        keys = [key and f"{key}\n{at}" for at in range(len(items))]
        with service.taking():
            admitted = [await _admitted(each, principal) for each in items]
            if not whole:
                return await _accepted(principal, items, admitted, keys)
            submissions = _all(admitted)
            async with service.reserving(submissions, principal, keys):
                return await _accepted(principal, items, admitted, keys)

    async def _accepted(
        principal: Principal,
        items: Sequence[object],
        admitted: Sequence[tuple[Submission | Rejected, int]],
        keys: Sequence[str | None],
    ) -> Response:
        """Each item answers for itself."""
        answers: list[dict[str, Any]] = []
        quotas: Sequence[Quota] = ()
        ours: OccdError | None = None
        for item, (submission, size), key in zip(items, admitted, keys, strict=True):
            if isinstance(submission, Rejected):
                answers.append(_problem(None, submission))
            elif ours:
                answers.append(_problem(None, ours))
            else:
                digest = await digest_of(item) if key else ""
                try:
                    async with heavy_if(held(), size):
                        accepted = await service.accept(
                            submission, principal, key=key, digest=digest
                        )
                    quotas = accepted.quotas or quotas
                    answers.append(record_json(accepted.record, no_text))
                except OccdError as error:
                    ours = error if isinstance(error, _OURS) else None
                    quotas = error.quotas if isinstance(error, QuotaUsedUp) else quotas
                    answers.append(_problem(None, error))
        response = in_json({"submissions": answers}, 202)
        response.headers.update(headers_of(quotas))
        return response

    async def _admitted(item: object, principal: Principal) -> tuple[Submission | Rejected, int]:
        """With its bytes. Raises what is wrong with us: nothing was submitted yet."""
        await trio.lowlevel.checkpoint()
        try:
            wanted = await parse_submission(item)
            return await service.admit(wanted, principal), wanted.bytes
        except Rejected as error:
            if error.kind == "shutting-down":
                raise
            return error, 0

    @many.post("/submissions/cancel")
    async def cancel_own() -> Response:
        refuse_body()
        owner = access.owner_for(caller(), "admin", owner_asked_of(request.args))
        cursor = request.args.get("cursor")
        answers: list[dict[str, Any]] = []
        for _ in range(_PAGES):
            page = await service.owned(owner, cursor, _PAGE)
            answers += await _cancelled([each.id for each in page if each.status != "finished"])
            cursor = page[-1].cursor if len(page) == _PAGE else None
            if cursor is None:
                break
        return in_json({"submissions": answers, "cursor": cursor})

    async def _cancelled(ids: Sequence[str]) -> list[dict[str, Any]]:
        answers: dict[str, dict[str, Any]] = {}
        turns = trio.CapacityLimiter(_AT_ONCE)

        async def cancel(id: str) -> None:
            async with turns:
                try:
                    record, _ = await service.cancel(id)
                    answers[id] = {"id": id, "status": record.status}
                except OccdError as error:
                    answers[id] = _problem(id, error)

        async with trio.open_nursery() as nursery:
            for id in ids:
                nursery.start_soon(cancel, id)
        return [answers[id] for id in ids]

    return many


def _items(value: object) -> list[Any]:
    """The submissions of a batch, which have not been looked at. Raises Rejected."""
    items = value.get("submissions") if isinstance(value, dict) and len(value) == 1 else None
    if not isinstance(items, list):
        raise Rejected("invalid", 'a batch is {"submissions": […]} and nothing else')
    if len(items) > BATCH_MAX:
        message = f"has more than {BATCH_MAX} entries"
        raise Rejected("invalid", f"submissions {message}", [FieldError("submissions", message)])
    return items


def _all(admitted: Sequence[tuple[Submission | Rejected, int]]) -> list[Submission]:
    """All submissions of a batch. Raises Rejected when one was refused, and names where."""
    wrong = [(at, each) for at, (each, _) in enumerate(admitted) if isinstance(each, Rejected)]
    errors = [
        FieldError(
            f"submissions.{at}.{each.field}" if each.field else f"submissions.{at}", each.message
        )
        for at, error in wrong
        for each in error.errors[:_ERRORS_SHOWN] or [FieldError("", str(error))]
    ]
    if wrong:
        detail = f"{len(wrong)} of {len(admitted)}; the first is submissions.{wrong[0][0]}: {wrong[0][1]}"
        raise Rejected("batch", detail, errors[:_ALL_ERRORS_SHOWN])
    return [each for each, _ in admitted if isinstance(each, Submission)]


def _problem(id: str | None, error: OccdError) -> dict[str, Any]:
    problem = told(error, id=id).json()
    if "errors" in problem:
        problem["errors"] = problem["errors"][:_ERRORS_SHOWN]
    return {"id": id, "problem": problem}
