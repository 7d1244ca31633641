"""The faults of a language's file, in words."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

_MOST = 5
_LONGEST = 300
_WORDS = {
    "unexpected_keyword_argument": "unknown key",
    "missing": "is missing",
    "string_type": "must be text",
    "tuple_type": 'must be a list, as in ["a", "b"]',
    "mapping_type": 'must be a table, as in {{a = "b"}}',
    "dict_type": 'must be a table, as in {{a = "b"}}',
    "dataclass_type": 'must be a table, as in {{a = "b"}}',
    "int_type": "must be a whole number",
    "too_short": "must have an entry",
    "too_long": "has more than {max_length} entries",
    "string_too_short": "must not be empty",
    "string_pattern_mismatch": "must look like {pattern}",
    "literal_error": "must be {expected}",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "value_error": "{error}",
}
"""By pydantic's name of the fault. Other faults keep pydantic's words."""


def in_a_line(error: ValidationError) -> str:
    """The first faults, each with its key."""
    faults = error.errors(include_input=False)
    more = f"; and {len(faults) - _MOST} more" if len(faults) > _MOST else ""
    return "; ".join(map(_told, faults[:_MOST])) + more


def _told(fault: Mapping[str, Any]) -> str:
    words = _WORDS.get(fault["type"])
    said = words.format_map(fault.get("ctx", {})) if words else fault["msg"]
    key = ".".join(str(each) for each in fault["loc"] if each != "[key]")
    told = (f"{key}: {said}" if key else said)[:_LONGEST]
    return told if told.isprintable() else ascii(told)
