"""Errors as RFC 9457 problem details: one table from error to HTTP status and problem type.

A problem never holds a trace or a path of ours. `type` is stable and relative: `invalid`, `not-yet`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import structlog
from quart import Response

from occd import metrics
from occd.errors import (
    AlreadyFinished,
    BrokerError,
    BrokerUnavailable,
    BudgetFull,
    Conflict,
    DataFolderError,
    EventsReset,
    MessageTooLarge,
    NoTerminal,
    NotInteractive,
    NotRunning,
    OccdError,
    ProviderAway,
    QueueFull,
    QuotaUsedUp,
    Rejected,
    ShareFull,
    StateUnavailable,
    StdinFull,
    UnknownArtifact,
    UnknownKey,
    UnknownSubmission,
    Unreadable,
)
from occd.key import without_keys
from occd.web.json import dump
from occd.web.quotas import headers_of, quota_json

log = structlog.get_logger()

_TABLE: dict[type[OccdError], tuple[int, str, str]] = {
    UnknownSubmission: (404, "unknown-submission", "There is no such submission (any more)"),
    UnknownArtifact: (404, "unknown-artifact", "This submission left no such file (any more)"),
    UnknownKey: (404, "unknown-key", "No such key was created, or it was revoked"),
    Conflict: (409, "idempotency-conflict", "This Idempotency-Key was used with another body"),
    EventsReset: (409, "events-reset", "The event log is shorter than that: start again at 0"),
    NotInteractive: (409, "not-interactive", "This submission takes no stdin now"),
    NoTerminal: (409, "no-terminal", "This submission has no terminal"),
    AlreadyFinished: (409, "finished", "This submission has finished"),
    NotRunning: (409, "not-running", "This submission does not run now"),
    StdinFull: (429, "stdin-full", "The program has not read what it was sent"),
    MessageTooLarge: (413, "too-large", "The queues of this server take nothing so large"),
    QueueFull: (503, "queue-full", "The queue is full, try again later"),
    StateUnavailable: (503, "unavailable", "The server cannot reach what it knows now"),
    BrokerUnavailable: (503, "unavailable", "The server cannot queue submissions now"),
    BrokerError: (503, "unavailable", "The server cannot queue submissions now"),
    Unreadable: (500, "unreadable", "What is stored of this submission cannot be read"),
    ProviderAway: (503, "provider-away", "The provider at which people sign in does not answer"),
    DataFolderError: (503, "unavailable", "The server cannot record submissions now"),
    BudgetFull: (503, "busy", "The server holds as much as it may, try again"),
    ShareFull: (429, "too-much", "You hold as much as one client may, try again"),
}
_REJECTED = {
    "bad-json": (400, "This is not JSON"),
    "invalid": (422, "Something in this request is not valid"),
    "bad-request": (400, "This request makes no sense"),
    "unauthorized": (401, "This needs a secret or a key"),
    "signed-out": (401, "Your sign-in has ended"),
    "sign-in-expired": (400, "This sign-in has ended, or began in another browser"),
    "sign-in-cancelled": (403, "You were not signed in"),
    "sign-in-refused": (403, "You could not be signed in"),
    "forbidden": (403, "You may not do this"),
    "forbidden-origin": (403, "This origin may not use the server"),
    "unknown-letter": (404, "No such dead letter is kept"),
    "not-acceptable": (406, "This has no form that you accept"),
    "too-large": (413, "This is too large"),
    "unknown-host": (421, "The server does not answer to this name"),
    "stdin-gap": (409, "Some stdin is missing before this"),
    "batch": (422, "Something in this batch cannot be run, so nothing of it was submitted"),
    "key-in-address": (400, "A key does not belong into an address"),
    "configured": (409, "This stands in the configuration"),
    "no-accounts": (409, "This server has no accounts"),
    "elsewhere": (409, "This server keeps its data elsewhere"),
    "no-backup": (503, "No backup can be made now"),
    "not-finished": (409, "This submission has not finished"),
    "not-kept": (409, "What this submission was given is not kept any more"),
    "shutting-down": (503, "The server takes nothing more, try again"),
    "no-nodes": (503, "Nothing runs programs here now, try again"),
    "too-many": (429, "That is too many at once"),
    "too-many-failures": (429, "Too many keys were wrong"),
    "too-slow": (429, "You read too slowly"),
}


@dataclass(frozen=True, slots=True)
class Problem:
    type: str
    title: str
    status: int
    detail: str = ""
    errors: list[dict[str, str]] = field(default_factory=list)
    retry_after: int | None = None
    quota: dict[str, Any] | None = None
    """The quota that is used up."""
    headers: Mapping[str, str] = field(default_factory=dict)

    def json(self) -> dict[str, Any]:
        """Without what is empty."""
        fields = {name: getattr(self, name) for name in self.__slots__ if name != "headers"}
        return {name: value for name, value in fields.items() if value not in ("", [], None)}

    def frame(self, id: str | None) -> dict[str, Any]:
        """For a WebSocket or a stream of events; `id` is the submission's, if the problem is with one."""
        return {"type": "error", "problem": self.json()} | ({} if id is None else {"id": id})

    def response(self) -> Response:
        headers = dict(self.headers)
        if self.retry_after:
            headers["Retry-After"] = str(self.retry_after)
        # A lone surrogate that a client sent becomes an escape, as JSON has them, too.
        body = dump(self.json()).encode(errors="backslashreplace")
        return Response(body, self.status, headers, content_type="application/problem+json")


def problem_of(error: OccdError) -> Problem:
    """Details repeat what a client sent, but no key that was put into a wrong place. Counts as a refusal."""
    problem = _problem_of(error)
    metrics.REFUSALS.labels(problem.type).inc()
    return problem


def _problem_of(error: OccdError) -> Problem:
    if isinstance(error, QuotaUsedUp):
        return Problem(
            "quota",
            "You have used up what you may use for now",
            429,
            str(error),
            retry_after=error.retry_after_s,
            quota={"name": error.quota.name} | quota_json(error.quota),
            headers=headers_of(error.quotas),
        )
    if isinstance(error, Rejected):
        status, title = _REJECTED.get(error.kind, (422, "This submission cannot be run"))
        errors = [
            {"field": without_keys(each.field), "message": without_keys(each.message)}
            for each in error.errors
        ]
        retry = 5 if status == 503 else 60 if error.kind == "too-many-failures" else None
        return Problem(error.kind, title, status, without_keys(str(error)), errors, retry)
    for kind, (status, type_, title) in _TABLE.items():
        if isinstance(error, kind):
            retry = (
                error.retry_after_s
                if isinstance(error, QueueFull | BrokerUnavailable | StateUnavailable)
                else 5
                if status == 503 or isinstance(error, ShareFull)
                else None
            )
            detail = "" if status in (404, 503) else without_keys(str(error))
            return Problem(type_, title, status, detail, retry_after=retry)
    return internal_problem()


def problem_answered(error: OccdError, path: str) -> Problem:
    """The problem of an error that is the answer to a request. What an operator should know is logged."""
    problem = problem_of(error)
    if isinstance(error, Unreadable):
        log.error("what is stored cannot be read", path=path, reason=str(error))
    elif problem.status == 500:
        log.error("a request failed", exc_info=error)
    return problem


def told(error: OccdError, **where: object) -> Problem:
    """The problem of an error that is not the answer to the whole request. What an operator should know is
    logged."""
    if isinstance(error, Unreadable):
        log.error("what is stored cannot be read", reason=str(error), **where)
    return problem_of(error)


def internal_problem() -> Problem:
    return Problem("internal", "Something went wrong on our side", 500)
