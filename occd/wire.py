"""How submissions, results and events are written in queues and in state.

Messages and stored values outlive a deploy, so each kind has a rule for what its reader does not know.

A *submission in a queue* is read strictly: a reader that meets a field or a version that it does not know
refuses the whole message (Poisoned, which dead-letters it). Running the rest would run something else than
was asked for. Version 1 is written while version 1 can say it. A submission that uses a later field is
written as version 2, which readers of version 1 refuse too.

A *result* and an *event* are read leniently: unknown fields are dropped, because a verdict that lacks a
detail is better than no verdict. So is the submission beside a result, which nobody runs. Version 1 wrote a
program's output into its result; this version reads such results and events, and writes version 2.

Values keep the rules of the model, whoever wrote them (`occd/rules.py`).
"""

import dataclasses
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Annotated, Any, Literal, TypeVar, get_args, get_type_hints

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, with_config

from occd import rules
from occd.errors import Poisoned, Unreadable
from occd.events import Event, Unknown
from occd.model import Result, Submission
from occd.principal import as_version_1
from occd.version1 import LENIENT, EventRecord1, ResultMessage1, ResultRecord1

VERSION_1 = frozenset(
    {
        "id", "language", "version", "main", "files", "files.name", "files.content", "stdin", "args", "env",
        "compile_args", "limits", "limits.cpu_time", "limits.wall_time", "limits.memory", "limits.processes",
        "limits.output", "limits.file_size", "limits.box", "limits.open_files", "interactive", "user_id",
        "created_at", "owner", "retry_of",
    }
)  # fmt: skip
"""The fields of a submission that every reader knows, also one that does not say so."""


def _fields(kind: Any, prefix: str = "") -> Iterator[str]:
    """Of a dataclass and those inside it: `limits.memory`."""
    for name, hint in get_type_hints(kind).items():
        if name == "kind":  # tells parts of several kinds apart, and is always written
            continue
        yield prefix + name
        for inner in (hint, *get_args(hint)):
            if dataclasses.is_dataclass(inner):
                yield from _fields(inner, f"{prefix}{name}.")


_KINDS = "owner.kind"
"""An owner of another kind than version 1's. No field, but told in the same way."""

FIELDS = frozenset(_fields(Submission)) | {_KINDS}
"""Those that this version knows; an execute node announces them."""

LATER = tuple(sorted(FIELDS - VERSION_1 - {_KINDS}))

_LISTS = {"files", "tests", "groups"}
"""The parts of a submission of which there may be several."""

_STRICT = ConfigDict(**{**LENIENT, "extra": "forbid"})

_COMMAS_MAX = 200_000
"""More than a message of ours can have, and so few that its faults are listed in a moment. Four million wrong
elements took 23 s."""

_SHORT = 2**18

_FAULTS_MAX = 100
_WHERE_MAX = 100
_ATTEMPT_MAX = 1_000_000


@dataclass(frozen=True, slots=True)
@with_config(_STRICT)
class SubmissionMessage:
    submission: Submission
    v: Literal[1, 2] = 1


@dataclass(frozen=True, slots=True)
@with_config(LENIENT)
class ResultMessage:
    """`attempt` is the fence: a result of an attempt that is not the current one is dropped. The
    submission, without its files and stdin, is for a state that has forgotten it; it is left out where
    state cannot be emptied, and by older senders."""

    id: str
    attempt: int
    result: Result
    submission: Submission | None = None
    v: Literal[2] = 2

    def __post_init__(self) -> None:
        rules.check("id", rules.id, self.id)
        if not 1 <= self.attempt <= _ATTEMPT_MAX:
            raise rules.Broken(f"must be between 1 and {_ATTEMPT_MAX}", "attempt")
        if self.submission is not None and self.submission.id != self.id:
            raise rules.Broken("is another one than the result is of", "submission.id")


@dataclass(frozen=True, slots=True)
@with_config(LENIENT)
class _EventRecord:
    event: Annotated[Event, Field(discriminator="name")]


@dataclass(frozen=True, slots=True)
@with_config(LENIENT)
class _ResultRecord:
    result: Result


M = TypeVar("M")

_submission = TypeAdapter(SubmissionMessage)
_result = TypeAdapter(ResultMessage)
_any_result: TypeAdapter[ResultMessage | ResultMessage1] = TypeAdapter(
    Annotated[ResultMessage | ResultMessage1, Field(discriminator="v")]
)
_event = TypeAdapter(_EventRecord)
_event_1 = TypeAdapter(EventRecord1)
_stored_result = TypeAdapter(_ResultRecord)
_stored_result_1 = TypeAdapter(ResultRecord1)


def encode_submission(submission: Submission) -> bytes:
    """Later fields that are not used are not written: then version 1 says it all."""
    used = later_fields(submission)
    message = SubmissionMessage(submission, v=2 if used else 1)
    return _submission.dump_json(message, exclude=_exclusion(LATER, tuple(used)))


def decode_submission(body: bytes) -> Submission:
    """To run it, or to publish it again. Raises Poisoned, also for what a later version wrote."""
    return _decode(_submission, body).submission


def later_fields(submission: Submission) -> list[str]:
    """The fields that it uses and version 1 does not have. To leave a field at its default is not to use
    it."""
    found: set[str] = set()
    _collect(submission, "", LATER, found)
    if ":" in as_version_1(submission.owner or ""):
        found.add(_KINDS)
    return sorted(found)


def encode_result(message: ResultMessage) -> bytes:
    return _result.dump_json(message)


def decode_result(body: bytes) -> ResultMessage:
    """Raises Poisoned. Of a result of version 1, all output is in the heads."""
    message = _decode(_any_result, body)
    if isinstance(message, ResultMessage):
        return message
    try:
        return ResultMessage(message.id, message.attempt, message.result.result, message.submission)
    except rules.Broken as error:
        raise Poisoned(f"not a message of ours: {error}") from error


def store_event(event: Event) -> bytes:
    return _event.dump_json(_EventRecord(event))


OUTPUT = b'"name":"output"'
"""Each stored event of output has these bytes. Another event may have them, too, in a text."""


def load_event(stored: bytes) -> Event:
    """Unknown stands for an event that a later version wrote, or that was damaged: it keeps its number."""
    try:
        return _event.validate_json(stored).event
    except ValidationError:
        pass
    try:
        return _event_1.validate_json(stored).event.event
    except (ValidationError, rules.Broken):
        return Unknown()


def store_result(result: Result) -> bytes:
    return _stored_result.dump_json(_ResultRecord(result))


def load_result(stored: bytes) -> Result:
    """Raises Unreadable."""
    return _load(_stored_result, stored).result


def load_result_1(stored: bytes) -> Result:
    """A result that version 1 stored: all output is in the heads. Raises Unreadable."""
    return _load(_stored_result_1, stored).result.result


def _decode(adapter: TypeAdapter[M], body: bytes) -> M:
    if _has_too_many_parts(body):
        raise Poisoned("not a message of ours: it has too many parts")
    try:
        return adapter.validate_json(body)
    except ValidationError as error:
        raise Poisoned(_reason(error)) from error


def _has_too_many_parts(body: bytes) -> bool:
    """By its commas. In a long body most of it is files, which have none: `find` leaps over them, 20 times as
    fast as `count`."""
    if len(body) < _SHORT:
        return body.count(b",") > _COMMAS_MAX
    at = -1
    for _ in range(_COMMAS_MAX):
        at = body.find(b",", at + 1)
        if at < 0:
            return False
    return True


def _load(adapter: TypeAdapter[M], stored: bytes) -> M:
    try:
        return adapter.validate_json(stored)
    except ValidationError as error:
        raise Unreadable(_reason(error)) from error


def _reason(error: ValidationError) -> str:
    """One short line; names that somebody else wrote are cut."""
    if error.error_count() > _FAULTS_MAX:
        return f"not a message of ours: it has {error.error_count()} faults"
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    where = re.sub(r"[^\w.]", "", ".".join(map(str, first["loc"])))[:_WHERE_MAX]
    if first["type"] == "unexpected_keyword_argument":
        return f"this version of occd does not know the field {where}"
    if first["type"] == "literal_error" and where == "v":
        return "this version of occd does not know the version of the message"
    return f"not a message of ours: {where} {first['msg'].removeprefix('Value error, ')}"


def _collect(value: Any, prefix: str, later: tuple[str, ...], found: set[str]) -> None:
    """Add to `found` the later fields of a part that have another value than their default."""
    fields = _later_in(type(value), prefix, later)  # type: ignore[arg-type]  # a type is hashable
    for name, default, path, is_later, is_part in fields:
        if path in found and not is_part:  # a thousand tests have the same fields
            continue
        each = getattr(value, name)
        if each == default:
            continue
        if is_later:
            found.add(path)
        if is_part:
            for part in each if isinstance(each, tuple) else (each,):
                _collect(part, f"{path}.", later, found)


@cache
def _later_in(
    kind: type, prefix: str, later: tuple[str, ...]
) -> tuple[tuple[str, Any, str, bool, bool], ...]:
    """The later fields of a part, and those in which later fields lie: name, default, path, whether it is one
    of the former, and one of the latter. What is no dataclass has none."""
    if not dataclasses.is_dataclass(kind):
        return ()
    return tuple(
        (
            field.name,
            field.default
            if field.default_factory is dataclasses.MISSING
            else field.default_factory(),
            path,
            path in later,
            path in _parts(later),
        )
        for field in dataclasses.fields(kind)
        if (path := prefix + field.name) in later or path in _parts(later)
    )


@cache
def _parts(later: tuple[str, ...]) -> frozenset[str]:
    """What the fields lie in."""
    return frozenset(name[: dot.start()] for name in later for dot in re.finditer(r"\.", name))


@lru_cache(maxsize=64)  # clients choose the fields
def _exclusion(later: tuple[str, ...], used: tuple[str, ...]) -> dict[str, Any] | None:
    """What is not to be written, as pydantic wants it."""
    tree: dict[str, Any] = {}
    for name in sorted(set(later) - set(used)):
        *folders, last = name.split(".")
        inner = tree
        for folder in folders:
            inner = inner.setdefault(folder, {})
            if inner is True:  # all of the part is left out
                break
            if folder in _LISTS:
                inner = inner.setdefault("__all__", {})
        else:
            inner[last] = True
    return {"submission": tree} if tree else None
