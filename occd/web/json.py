"""JSON as it leaves the server, and short JSON as it comes: `longjson.py` reads what is longer."""

import json
from collections.abc import Callable
from typing import Any, NoReturn

from occd.errors import Rejected


def dump(value: Any, default: Callable[[Any], Any] | None = None) -> str:
    """Compact. `default` gives another value for what JSON has not. Raises ValueError for infinite numbers;
    a lone surrogate stays one."""
    return json.dumps(
        value, ensure_ascii=False, separators=(",", ":"), allow_nan=False, default=default
    )


def parse(body: bytes | str) -> Any:
    """Raises Rejected of kind bad-json for all that RFC 8259 does not call JSON, and for duplicate keys."""
    try:
        text = body.decode() if isinstance(body, bytes) else body  # json would take UTF-16 too
    except UnicodeDecodeError as error:
        raise bad("the body is not UTF-8") from error
    return loads(text, refuse_constant)


def loads(text: str, constant: Any) -> Any:
    """`constant` is called for NaN, Infinity and -Infinity, in their order."""
    if text.startswith("\ufeff"):
        raise bad("the body begins with a byte order mark")
    try:
        return json.loads(text, parse_constant=constant, object_pairs_hook=_refuse_duplicates)
    except RecursionError as error:
        raise bad("the body is nested too deeply") from error
    except json.JSONDecodeError as error:
        raise bad(f"the body is not JSON: {error}") from error
    except ValueError as error:  # by Python's own limit
        raise bad("the body has a number of too many digits") from error


def bad(detail: str) -> Rejected:
    return Rejected("bad-json", detail)


def refuse_constant(name: str) -> NoReturn:
    raise bad(f"{name} is no JSON number")


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise bad("an object has the same key twice")
    return found
