"""The JSON of the native API: records, events and languages become JSON."""

import base64
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

from occd.accounts import KeyConfig
from occd.config import CeilingConfig, Config
from occd.events import Event, LogEntry, Output, Tested
from occd.judging import TestVerdict
from occd.key import Key, Revoked
from occd.languages.installed import Offer
from occd.log import printable
from occd.model import (
    COMPILE,
    RUN,
    Account,
    Artifact,
    DeadLetter,
    Limits,
    Outcome,
    Record,
    Step,
    Summary,
    Written,
)
from occd.principal import KEY, SCOPES, Credential
from occd.trace import Trace
from occd.web.fields import LimitsJson

_REASON_MAX = 1000


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


def letter_json(letter: DeadLetter) -> dict[str, Any]:
    """Somebody else may have written the texts."""
    return {
        "id": printable(letter.id),
        "queue": letter.queue,
        "at": timestamp(letter.time),
        "bytes": letter.size,
        "reason": letter.reason and printable(letter.reason)[:_REASON_MAX],
    }


def key_json(key: Key) -> dict[str, Any]:
    return _key_json(key.credential) | {
        "created_at": timestamp(key.created_at),
        "expires_at": timestamp(key.expires_at),
        "used_at": timestamp(key.used_at),
        "from": "created",
    }


def configured_key_json(key: KeyConfig) -> dict[str, Any]:
    """Of such a key nobody notes when it was made and used."""
    times: dict[str, Any] = dict.fromkeys(("created_at", "expires_at", "used_at"))
    return _key_json(key.credential) | times | {"from": "configuration"}


def _key_json(credential: Credential) -> dict[str, Any]:
    return {
        "id": credential.id,
        "owner": credential.owner.removeprefix(KEY),
        "class": credential.class_name,
        "scopes": [scope for scope in SCOPES if scope in credential.scopes],
    }


def revoked_json(id: str, revoked: Revoked) -> dict[str, Any]:
    return {
        "id": id,
        "owner": revoked.owner.removeprefix(KEY),
        "others": list(revoked.others),
        "cancelled": revoked.cancelled,
    }


@dataclass(frozen=True, slots=True)
class LogText:
    """Stands for output that is read from the log while it is sent."""

    step: Step
    account: Account
    written: Written
    after: int
    """The number of the event behind which the output lies."""


@dataclass(frozen=True, slots=True)
class LogTests:
    """Stands for tests that are read from the log while they are sent."""

    verdicts: tuple[TestVerdict, ...]
    after: int


@dataclass(frozen=True, slots=True)
class LogTranscript:
    """Stands for the pieces of the output in their order, which are read from the log while they are sent."""

    after: int


Shown = Callable[[Step, Account, Written], Any]
"""How output is shown."""


def no_text(*_: object) -> None:
    """For what is told without output: "" would say that there was none."""


def outcome_json(step: Step, outcome: Outcome | None, shown: Shown) -> dict[str, Any] | None:
    if outcome is None:
        return None
    value = {
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
        "tty": outcome.tty,
    }
    return value | {"cached": outcome.cached} if step.stage == "compile" else value


def transcript_of(record: Record) -> LogTranscript:
    """The log of the attempt of the result, or of the last attempt, from its `started` on."""
    return LogTranscript(max(0, record.log_from - 1))


def _text_of(
    output: Mapping[tuple[Step, Account], bytes], step: Step, account: Account, _: Written
) -> Any:
    return text(output[step, account])


def whole_json(record: Record) -> dict[str, Any]:
    """A submission with its output, which the record has or the log."""
    output = record.output
    shown = partial(LogText, after=record.log_from) if output is None else partial(_text_of, output)
    value = record_json(record, shown)
    if record.result and (judgement := record.result.judgement):
        value["tests"] = LogTests(judgement.tests, record.log_from)
    return value


def may_be_long(record: Record) -> bool:
    """Whether `is_long` has to look through what `whole_json` makes of a record."""
    result = record.result
    return result is not None and (record.output is None or result.judgement is not None)


def is_long(value: Any) -> bool:
    """Whether a part of the value is in the log."""
    if isinstance(value, dict):
        return any(map(is_long, value.values()))
    return isinstance(value, LogText | LogTests | LogTranscript)


def piece_json(event: Output, seconds: float | None) -> dict[str, Any]:
    """A piece of a transcript. `seconds` since `started`; None when the log does not have `started`."""
    time = None if seconds is None else round(seconds, 6)
    return {"time": time} | _output_json(event)


def test_json(
    at: int, verdict: TestVerdict, told: Tested | None, outcome: Outcome | None, shown: Shown
) -> dict[str, Any]:
    """A test of a submission that has finished. `told` and `outcome` are what the log has of the test."""
    accepted = verdict == TestVerdict.ACCEPTED
    return {
        "name": told.title if told else None,
        "verdict": verdict,
        "score": told.share if told and accepted else 0.0,
        "message": told.message if told else None,
        "run": outcome_json(Step("run", test=at), outcome, shown),
    }


def record_json(record: Record, shown: Shown) -> dict[str, Any]:
    """A submission as the API shows it: what is not known yet is null. Of its tests only the verdicts."""
    result = record.result
    judgement = result.judgement if result else None
    left = result.artifacts if result else None
    return {
        "id": record.id,
        "status": record.status,
        "verdict": result.verdict if result else None,
        "message": result.message if result else None,
        "score": judgement.score if judgement else None,
        "points": judgement.points if judgement else None,
        "points_max": judgement.points_max if judgement else None,
        "language": {"id": record.language, "version": result.version if result else None},
        "compile": outcome_json(COMPILE, result.compile, shown) if result else None,
        "run": outcome_json(RUN, result.run, shown) if result else None,
        "tests": [{"verdict": each} for each in judgement.tests] if judgement else [],
        "groups": {
            group.name: {"points": group.points, "points_max": group.points_max}
            for group in (judgement.groups if judgement else ())
        },
        "artifacts": [artifact_json(each) for each in left.kept] if left else [],
        "left_out": [{"name": each.name, "reason": each.reason} for each in left.left_out]
        if left
        else [],
        "trace": trace_json(result.trace) if result and result.trace else None,
        "attempts": record.attempts,
        "retry_of": record.retry_of,
        "created_at": timestamp(record.created_at),
        "started_at": timestamp(record.started_at),
        "finished_at": timestamp(result.finished_at) if result else None,
    }


def trace_json(trace: Trace) -> dict[str, Any]:
    return {
        "ended": trace.ended,
        "calls": trace.calls,
        "refused": [f"{each.name}: not permitted here" for each in trace.counts if each.refused],
        "counts": [
            {
                "call": each.name,
                "count": each.count,
                "failed": each.failed,
                "refused": each.refused,
                "seconds": round(each.seconds, 6),
            }
            for each in trace.counts
        ],
    }


def artifact_json(artifact: Artifact) -> dict[str, Any]:
    return {
        "name": artifact.name,
        "bytes": artifact.size,
        "sha256": artifact.sha256,
        "type": artifact.type,
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


def chosen(value: dict[str, Any], fields: Collection[str]) -> dict[str, Any]:
    return {name: each for name, each in value.items() if name in fields}


def language_json(offer: Offer, ceilings: Mapping[str, float], *, traces: bool) -> dict[str, Any]:
    """`ceilings` are the caller's. A limit that the caller's program would not get is not told. `traces`: the
    caller may ask for a trace."""
    language = offer.language
    return {
        "id": language.id,
        "name": language.name,
        "about": language.about,
        "home": language.home,
        "support": language.support,
        "family": language.family,
        "implementation": language.implementation,
        "versions": [each.version for each in offer.versions],
        "aliases": list(language.aliases),
        "file_name": language.file_name,
        "suffixes": list(language.sources),
        "editor_mode": language.editor_mode,
        "flags": {
            "compiled": bool(language.compile),
            "named_by_source": language.file_name_pattern is not None,
            "reads_stdin": language.stdin == "input",
        },
        "compile_args": list(language.compile_args),
        "format": offer.formats,
        "trace": traces and offer.traces,
        "hello": language.hello.lstrip(),
        "example": language.example.lstrip(),
        "example_stdin": language.example_stdin,
        "limits": _lowered(language.limits, ceilings),
        "problems": [each.json() for each in language.problems],
    }


def brief(language: Mapping[str, Any]) -> dict[str, Any]:
    """The part of `language_json` that a page needs before a program is seen."""
    left_out = _TOLD if language["support"] == "core" else _TOLD | _WRITTEN
    return {name: value for name, value in language.items() if name not in left_out}


_TOLD = frozenset({"about", "home"})
_WRITTEN = frozenset({"hello", "example", "example_stdin", "problems"})


def ceilings_json(config: Config, class_name: str | None) -> dict[str, float]:
    """Those of a class, or of the server."""
    accounts = config.accounts
    of_class = accounts.classes[class_name].ceilings if accounts and class_name else None
    own = of_class.model_dump(exclude_none=True) if of_class else {}
    return {name: own.get(name, most) for name, most in _limits(config.ceilings).items()}


def limits_json(config: Config, class_name: str | None) -> dict[str, Any]:
    """What this server takes from a class, and keeps."""
    ceilings = ceilings_json(config, class_name)
    return {
        "defaults": _lowered(Limits(), ceilings),
        "ceilings": ceilings,
        "body_bytes": config.http.body_max_bytes,
        "sources_bytes": config.http.sources_max_bytes,
        "wait_s": config.http.wait_max_s,
        "queue": config.queue.length_max,
        "results_kept_s": config.results.keep_s,
    }


def _lowered(limits: Limits, ceilings: Mapping[str, float]) -> dict[str, float]:
    return {name: min(each, ceilings[name]) for name, each in _limits(limits).items()}


def _limits(limits: Limits | CeilingConfig) -> dict[str, float]:
    """Those that a submission may ask for."""
    return {name: getattr(limits, name) for name in LimitsJson.model_fields}


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
            return {
                "attempt": event.attempt,
                "version": event.version,
                "node": event.node,
                "wall_time": event.wall_time,
                "idle": event.idle,
            }
        case "stage":
            outcome = outcome_json(event.step, event.outcome, no_text)
            return _step_json(event.step) | {"phase": event.phase, "outcome": outcome}
        case "output":
            return _output_json(event)
        case "artifact":
            file = artifact_json(event.artifact)  # an event has a name already
            return _step_json(event.step) | {"file": file.pop("name")} | file
        case "test":
            return {
                "test": event.test,
                "title": event.title,
                "verdict": event.verdict,
                "score": event.share,
                "message": event.message,
                "cpu_time": round(event.cpu_time, 6),
                "wall_time": round(event.wall_time, 6),
                "memory": event.memory,
            }
        case "finished":
            return {"result": record_json(record, no_text) if record else None}
        case "unknown":
            return {}


def _output_json(event: Output) -> dict[str, Any]:
    return _step_json(event.step) | {"stream": event.stream, "data": text(event.data)}


def _step_json(step: Step) -> dict[str, Any]:
    return {"stage": step.stage, "program": step.program, "test": step.test}
