"""The parameters of an address: what may stand behind the `?` under /api/v1."""

import math
import re
from collections.abc import Collection, Sequence

from werkzeug.datastructures import Headers, MultiDict

from occd import rules
from occd.config import HttpConfig
from occd.errors import FieldError, Rejected
from occd.principal import PERSON
from occd.rules import Broken

_LIST_MAX = 100
"""How many submissions a list has, and how many ids a question may name."""
_ERRORS_SHOWN = 5
_NAME_SHOWN = 100

NUMBER_MAX = 2**53
"""Beyond it JavaScript rounds."""


def check_parameters(given: MultiDict[str, str], known: Collection[str]) -> None:
    """Raises Rejected for a parameter that is unknown or given twice. Without this check a client that sent
    `?wiat=5` would take the answer for what it asked for."""
    errors = [
        FieldError(name[:_NAME_SHOWN], _wrong(name, values, known))
        for name, values in given.lists()
        if name not in known or len(values) > 1
    ]
    if errors:
        errors = errors[:_ERRORS_SHOWN]
        detail = "; ".join(f"{each.field}: {each.message}" for each in errors)
        raise Rejected("bad-request", detail, errors)


def _wrong(name: str, values: Collection[str], known: Collection[str]) -> str:
    if name in known:
        return f"is given {len(values)} times"
    takes = f"takes {', '.join(known)}" if known else "takes none"
    return f"is not a parameter here; this address {takes}"


def wait_of(given: MultiDict[str, str], config: HttpConfig) -> float:
    """`?wait=` in seconds, at most what the server allows."""
    return min(seconds_of(given, "wait"), config.wait_max_s)


def seconds_of(given: MultiDict[str, str], name: str) -> float:
    """0 when it is not there."""
    try:
        seconds = float(given.get(name, "0"))
    except ValueError:
        seconds = math.nan
    if not seconds >= 0:
        raise _invalid(name, "must be a number of seconds, 0 or more")
    return seconds


def limit_of(given: MultiDict[str, str]) -> int:
    """`?limit=`, how many at once."""
    limit = given.get("limit", "20")
    if not re.fullmatch(r"\d{1,3}", limit) or not 1 <= int(limit) <= _LIST_MAX:
        raise _invalid("limit", f"must be 1 to {_LIST_MAX}")
    return int(limit)


def after_of(given: MultiDict[str, str], headers: Headers) -> int:
    """The number of the last event that a client has. `Last-Event-ID` goes before `?after=`, because a
    browser that comes again asks for the same address."""
    after = _number(given.get("after", "0"))
    if after is None:
        raise _invalid("after", _NUMBER)
    if not (last := ",".join(headers.getlist("Last-Event-ID"))):
        return after
    if (resumed := _number(last)) is None:
        raise Rejected(
            "bad-request", f"Last-Event-ID: {_NUMBER}", [FieldError("last_event_id", _NUMBER)]
        )
    return resumed


_NUMBER = f"must be a whole number from 0 to {NUMBER_MAX}"


def _number(text: str) -> int | None:
    number = int(text) if re.fullmatch(r"[0-9]{1,16}", text) else NUMBER_MAX + 1
    return number if number <= NUMBER_MAX else None


def stream_of(given: MultiDict[str, str]) -> str | None:
    """`?stream=`: the form in which the events follow, if they are wanted."""
    form = given.get("stream")
    if form not in (None, "sse", "ndjson"):
        raise _invalid("stream", "must be sse or ndjson")
    if form and "wait" in given:
        message = "does not go with stream, which ends with the result"
        raise Rejected("bad-request", f"wait: {message}", [FieldError("wait", message)])
    return form


def flag_of(given: MultiDict[str, str], name: str) -> bool:
    """`true` or `false`, which is the same as nothing."""
    value = given.get(name, "false")
    if value not in ("true", "false"):
        raise _invalid(name, "must be true or false")
    return value == "true"


def owner_asked_of(given: MultiDict[str, str]) -> str | None:
    """`?owner=`: whose submissions are meant, if not the caller's own."""
    owner = given.get("owner")
    try:
        rules.check("owner", rules.owner, owner)
    except Broken as error:
        raise _invalid("owner", error.message) from None
    if (
        owner and owner.startswith(PERSON) and "#" not in owner
    ):  # a client takes it off, and what follows
        raise _invalid("owner", "must be oidc:ISSUER#SUBJECT, and in an address # is written %23")
    return owner


def ids_of(given: MultiDict[str, str]) -> list[str] | None:
    """`?ids=A,B`. Each is any text: what is unknown of an id is told beside it. None when it is not there."""
    ids = given.get("ids")
    if ids is None:
        return None
    found = ids.split(",", _LIST_MAX) if ids else []
    if len(found) > _LIST_MAX:
        raise _invalid("ids", f"must be at most {_LIST_MAX}, with commas between them")
    for name in ("limit", "cursor", "owner"):
        if name in given:
            raise _invalid(name, "does not go with ids")
    return found


def fields_of(given: MultiDict[str, str], known: Sequence[str]) -> frozenset[str]:
    """`?fields=A,B`: the names that are wanted. `id` is always among them; without `?fields=` all are."""
    wanted = given.get("fields")
    if wanted is None:
        return frozenset(known)
    names = set(wanted.split(",", len(known)))
    if not names <= set(known):
        raise _invalid("fields", f"must be some of {', '.join(known)}, with commas between them")
    return frozenset(names | {"id"})


def _invalid(name: str, message: str) -> Rejected:
    return Rejected("invalid", f"{name}: {message}", [FieldError(name, message)])
