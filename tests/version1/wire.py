"""How submissions, results and events are written in queues and in state.

Queue messages outlive a deploy, so they carry a version: `{"v": 1, "submission": {…}}`. A reader
takes every version that it knows and refuses others as Poisoned, which dead-letters them.
"""

import re
from dataclasses import dataclass
from typing import Annotated, Literal, TypeVar

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, with_config

from occd.errors import Poisoned
from version1.model import Event, Result, Submission

_BYTES = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")


@dataclass(frozen=True, slots=True)
@with_config(_BYTES)
class SubmissionMessage:
    submission: Submission
    v: Literal[1] = 1


@dataclass(frozen=True, slots=True)
@with_config(_BYTES)
class ResultMessage:
    """`attempt` is the fence: a result of an attempt that is not the current one is dropped. The
    submission, without its files and stdin, is for a state that has forgotten it; older senders leave it
    out."""

    id: str
    attempt: int
    result: Result
    submission: Submission | None = None
    v: Literal[1] = 1


@dataclass(frozen=True, slots=True)
@with_config(_BYTES)
class _EventRecord:
    event: Annotated[Event, Field(discriminator="name")]


@dataclass(frozen=True, slots=True)
@with_config(_BYTES)
class _ResultRecord:
    result: Result


M = TypeVar("M")

_submission = TypeAdapter(SubmissionMessage)
_result = TypeAdapter(ResultMessage)
_event = TypeAdapter(_EventRecord)
_stored_result = TypeAdapter(_ResultRecord)


def encode_submission(submission: Submission) -> bytes:
    return _submission.dump_json(SubmissionMessage(submission))


def decode_submission(body: bytes) -> Submission:
    return _decode(_submission, body).submission


def encode_result(message: ResultMessage) -> bytes:
    return _result.dump_json(message)


def decode_result(body: bytes) -> ResultMessage:
    return _decode(_result, body)


def store_event(event: Event) -> bytes:
    return _event.dump_json(_EventRecord(event))


def load_event(stored: bytes) -> Event:
    return _event.validate_json(stored).event


def store_result(result: Result) -> bytes:
    return _stored_result.dump_json(_ResultRecord(result))


def load_result(stored: bytes) -> Result:
    return _stored_result.validate_json(stored).result


def _decode(adapter: TypeAdapter[M], body: bytes) -> M:
    try:
        return adapter.validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = re.sub(r"[^\w.]", "", ".".join(map(str, first["loc"])))
        raise Poisoned(f"not a message of ours: {where} {first['msg']}") from error
