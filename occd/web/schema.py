"""The JSON of the native API: JSON becomes a `Request`, records and events become JSON.

This file says which values a field may hold, by the rules of `occd/rules.py`. The gate (`occd/admission.py`)
decides what a request may ask for on this server (languages, ceilings). The model checks the whole.
"""

import base64
import binascii
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    FailFast,
    Field,
    ValidationError,
    model_validator,
)
from pydantic_core import PydanticCustomError

from occd import rules
from occd.config import CeilingConfig, Config
from occd.errors import FieldError, Rejected
from occd.languages import Installed, Language
from occd.model import (
    COMPILE,
    RUN,
    Event,
    File,
    Limits,
    LogEntry,
    Outcome,
    Record,
    Step,
    Stream,
    Summary,
    Written,
)
from occd.request import Request
from occd.web.longjson import LongText, base64_bytes

_COUNTS = {
    "": 100,
    "files": rules.FILES_MAX,
    "args": rules.WORDS_MAX,
    "compile_args": rules.WORDS_MAX,
    "env": rules.WORDS_MAX,
    "limits": 100,
}
"""How many entries a submission and its fields may have. Counted before anything is validated, since an error
takes a hundred times as long to make as the entry that is wrong."""

_FILE_FIELDS_MAX = 100
_ERRORS_SHOWN = 100
_NOT_YET: dict[str, tuple[object, ...]] = {
    "network": (False,),
    "tty": (None,),
    "artifacts": (None, []),
    "trace": (False,),
    "tests": (None, []),
    "interactor": (None,),
    "stop_on_failure": (False,),
    "callback_url": (None,),
}
"""Fields of the design that have no meaning yet, and the values that ask for nothing."""


def _bytes(value: object) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, LongText) and not value.has_surrogates:
        return bytes(value.data)
    if isinstance(value, str):
        with suppress(UnicodeEncodeError):
            return value.encode()
    if isinstance(value, str | LongText):
        raise PydanticCustomError("text", "has a lone surrogate; send bytes as base64")
    if isinstance(value, dict) and set(value) == {"base64"} and isinstance(value["base64"], str):
        try:
            return base64.b64decode(value["base64"], validate=True)
        except (binascii.Error, ValueError):
            raise PydanticCustomError("base64", "is not base64") from None
    raise PydanticCustomError("text", 'must be a string or {"base64": "…"}')


def _short(value: object) -> object:
    """A long text where a word is wanted, if it may be one."""
    if not isinstance(value, LongText):
        return value
    if len(value.data) > rules.WORDS_BYTES_MAX:
        raise PydanticCustomError("long", f"is longer than {rules.WORDS_BYTES_MAX} bytes")
    return str(value)


def _kept(rule: Callable[[str], object]) -> AfterValidator:
    """A rule of the model, for a field of a request."""

    def check(value: str) -> str:
        try:
            rule(value)
        except rules.Broken as error:
            raise PydanticCustomError("rule", "{broken}", {"broken": error.message}) from None
        return value

    return AfterValidator(check)


Bytes = Annotated[bytes, BeforeValidator(_bytes)]
Text = Annotated[str, BeforeValidator(_short)]
Word = Annotated[Text, _kept(rules.text)]
Words = Annotated[list[Word], FailFast()]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class _FileJson(_Model):
    name: Annotated[Text, _kept(rules.file_name)]
    content: Bytes


class _LimitsJson(_Model):
    """A field that is left out has its default."""

    cpu_time: float | None = Field(None, ge=rules.LEAST["cpu_time"], allow_inf_nan=False)
    wall_time: float | None = Field(None, ge=rules.LEAST["wall_time"], allow_inf_nan=False)
    memory: int | None = Field(None, ge=rules.LEAST["memory"])
    processes: int | None = Field(None, ge=rules.LEAST["processes"])
    output: int | None = Field(None, ge=rules.LEAST["output"])
    file_size: int | None = Field(None, ge=rules.LEAST["file_size"])


class _SubmissionJson(_Model):
    language: Annotated[Word, Field(min_length=1, max_length=rules.LANGUAGE_MAX)]
    version: Annotated[Text, _kept(rules.version)] | None = None
    source: Bytes | None = None
    files: Annotated[list[_FileJson], FailFast()] = []
    stdin: Bytes = b""
    args: Words = []
    env: dict[Annotated[str, _kept(rules.env_name)], Word] = {}
    compile_args: Words = []
    limits: _LimitsJson = _LimitsJson()
    interactive: bool = False
    user_id: Annotated[Word, Field(max_length=rules.USER_ID_MAX)] | None = None

    @model_validator(mode="after")
    def _whole(self) -> "_SubmissionJson":
        if self.source is None and not self.files:
            raise PydanticCustomError("missing", "needs source or files")
        return self

    @property
    def request(self) -> Request:
        return Request(
            language=self.language,
            version=self.version,
            source=self.source,
            files=tuple(File(file.name, file.content) for file in self.files),
            stdin=self.stdin,
            args=tuple(self.args),
            env=tuple(self.env.items()),
            compile_args=tuple(self.compile_args),
            limits={name: value for name, value in self.limits if value is not None},
            interactive=self.interactive,
            user_id=self.user_id,
        )


async def parse_submission(value: object) -> Request:
    """Raises Rejected naming every field that is wrong, unknown, or not yet supported."""
    if not isinstance(value, dict):
        raise Rejected("invalid", "a submission is a JSON object")
    _refuse_too_many(value)
    later = sorted(
        name for name, empty in _NOT_YET.items() if name in value and value[name] not in empty
    )
    if later:
        errors = [FieldError(name, "is not supported yet") for name in later]
        raise Rejected("not-yet", f"{', '.join(later)}: not supported yet", errors)
    try:
        fields = {
            name: await _unpacked(name, each)
            for name, each in value.items()
            if name not in _NOT_YET
        }
        return _SubmissionJson.model_validate(fields).request
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False, include_context=False)
        raise _invalid([_field_error(each) for each in found[:_ERRORS_SHOWN]]) from None


def _refuse_too_many(value: dict[str, Any]) -> None:
    errors = []
    for name, most in _COUNTS.items():
        entries = value.get(name) if name else value
        if isinstance(entries, list | dict) and len(entries) > most:
            errors.append(FieldError(name or "submission", f"has more than {most} entries"))
    if not errors and isinstance(files := value.get("files"), list):
        errors = [
            FieldError(f"files.{at}", f"has more than {_FILE_FIELDS_MAX} entries")
            for at, file in enumerate(files)
            if isinstance(file, dict) and len(file) > _FILE_FIELDS_MAX
        ]
    if errors:
        raise _invalid(errors[:_ERRORS_SHOWN])


def _invalid(errors: list[FieldError]) -> Rejected:
    detail = "; ".join(f"{each.field}: {each.message}" for each in errors[:5])
    return Rejected("invalid", detail, errors)


async def _unpacked(name: str, value: Any) -> Any:
    """A field with its long base64 decoded."""
    if name in ("source", "stdin"):
        return await _decoded(value)
    if name == "files" and isinstance(value, list):
        return [
            file | {"content": await _decoded(file["content"])}
            if isinstance(file, dict) and "content" in file
            else file
            for file in value
        ]
    return value


async def _decoded(value: Any) -> Any:
    """A little at a time if it is long base64; everything else is left for the model."""
    match value:
        case {"base64": LongText() as text} if len(value) == 1:
            with suppress(ValueError):
                return await base64_bytes(text)
            return {"base64": "!"}
    return value


def _field_error(error: Any) -> FieldError:
    where = ".".join(str(part) for part in error["loc"] if part != "[key]")
    unknown = error["type"] == "extra_forbidden"
    # A name that somebody sent may be long, and need not be text.
    where = where[:200].encode(errors="backslashreplace").decode() or "submission"
    of = error["loc"][0] if len(error["loc"]) > 1 else "a submission"
    return FieldError(where, f"is not a field of {of}" if unknown else error["msg"])


async def stdin_bytes(value: object) -> bytes:
    """The `data` of a stdin frame."""
    try:
        return _bytes(await _decoded(value))
    except PydanticCustomError as error:
        raise Rejected(
            "invalid", f"data {error.message()}", [FieldError("data", error.message())]
        ) from None


def text(data: bytes) -> str | dict[str, str]:
    """A string where the bytes are UTF-8, else {"base64": …}."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode()}


def timestamp(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return (
        datetime.fromtimestamp(seconds, UTC)
        .isoformat(timespec="milliseconds")
        .replace("+00:00", "Z")
    )


@dataclass(frozen=True, slots=True)
class LogText:
    """Stands for output that is read from the log while it is sent."""

    step: Step
    stream: Stream
    written: Written


Shown = Callable[[Step, Stream, Written], Any]
"""How output is shown."""


def no_text(*_: object) -> None:
    """For what is told without output: "" would say that there was none."""


def outcome_json(step: Step, outcome: Outcome | None, shown: Shown) -> dict[str, Any] | None:
    if outcome is None:
        return None
    return {
        "exit_code": outcome.exit_code,
        "signal": outcome.signal,
        "limit": outcome.limit,
        "stdout": shown(step, "stdout", outcome.stdout),
        "stderr": shown(step, "stderr", outcome.stderr),
        "stdout_truncated": outcome.stdout.truncated,
        "stderr_truncated": outcome.stderr.truncated,
        "cpu_time": round(outcome.cpu_time, 6),
        "wall_time": round(outcome.wall_time, 6),
        "memory": outcome.memory,
    }


def whole_json(record: Record) -> dict[str, Any]:
    """A submission with its output, which the record has or the log."""
    output = record.output
    if output is None:
        return record_json(record, LogText)
    return record_json(record, lambda step, stream, _: text(output[step, stream]))


def record_json(record: Record, shown: Shown) -> dict[str, Any]:
    """A submission as the API shows it: what is not known yet is null."""
    result = record.result
    return {
        "id": record.id,
        "status": record.status,
        "verdict": result.verdict if result else None,
        "message": result.message if result else None,
        "score": None,
        "language": {"id": record.language, "version": result.version if result else None},
        "compile": outcome_json(COMPILE, result.compile, shown) if result else None,
        "run": outcome_json(RUN, result.run, shown) if result else None,
        "tests": [],
        "artifacts": [],
        "attempts": record.attempts,
        "retry_of": record.retry_of,
        "created_at": timestamp(record.created_at),
        "started_at": timestamp(record.started_at),
        "finished_at": timestamp(result.finished_at) if result else None,
    }


def summary_json(summary: Summary) -> dict[str, Any]:
    """A submission in a list."""
    return {
        "id": summary.id,
        "status": summary.status,
        "verdict": summary.verdict,
        "language": {"id": summary.language},
        "created_at": timestamp(summary.created_at),
        "started_at": timestamp(summary.started_at),
        "finished_at": timestamp(summary.finished_at),
    }


RECORD_FIELDS = tuple(record_json(Record("", "", "queued", 0, 0.0), no_text))
SUMMARY_FIELDS = tuple(summary_json(Summary("", "", "queued", None, 0.0, None, None)))
"""The fields of a submission as a client gets it alone, and in a list of the client's own."""


def language_json(language: Language, versions: Sequence[Installed]) -> dict[str, Any]:
    return {
        "id": language.id,
        "name": language.name,
        "versions": [each.version for each in versions],
        "aliases": list(language.aliases),
        "file_name": language.file_name,
        "editor_mode": language.editor_mode,
        "flags": {"compiled": language.compile is not None},
        "hello": language.hello.lstrip(),
        "example": language.example.lstrip(),
        "example_stdin": language.example_stdin,
        "limits": _limits(language.limits),
    }


def limits_json(config: Config) -> dict[str, Any]:
    """What this server takes and keeps."""
    return {
        "defaults": _limits(Limits()),
        "ceilings": _limits(config.ceilings),
        "body_bytes": config.http.body_max_bytes,
        "sources_bytes": config.http.sources_max_bytes,
        "wait_s": config.http.wait_max_s,
        "queue": config.queue.length_max,
        "results_kept_s": config.results.keep_s,
    }


def _limits(limits: Limits | CeilingConfig) -> dict[str, float]:
    """Those that a submission may ask for."""
    return {name: getattr(limits, name) for name in _LimitsJson.model_fields}


def event_json(id: str, recorded: LogEntry, record: Record | None) -> dict[str, Any]:
    """The frame of one event. `record` is the finished submission, for the event `finished`. The frame has
    no output but that of the event `output`: each byte goes over the connection once."""
    event = recorded.event
    return {
        "type": "event",
        "id": id,
        "seq": recorded.seq,
        "time": timestamp(recorded.time),
        "event": {"name": event.name} | _event_fields(event, record),
    }


def _event_fields(event: Event, record: Record | None) -> dict[str, Any]:
    match event.name:
        case "queued":
            return {"position": event.position, "estimate_s": event.estimate_s}
        case "started":
            return {"attempt": event.attempt, "version": event.version, "node": event.node}
        case "stage":
            outcome = outcome_json(event.step, event.outcome, no_text)
            return _step_json(event.step) | {"phase": event.phase, "outcome": outcome}
        case "output":
            return _step_json(event.step) | {"stream": event.stream, "data": text(event.data)}
        case "finished":
            return {"result": record_json(record, no_text) if record else None}
        case "unknown":
            return {}


def _step_json(step: Step) -> dict[str, Any]:
    return {"stage": step.stage, "program": step.program, "test": step.test}
