"""What is wrong with a language's file, in words."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError


def in_a_line(error: ValidationError) -> str:
    """Each fault with its key."""
    return "; ".join(map(_told, error.errors()))


def _told(fault: Mapping[str, Any]) -> str:
    said = fault["msg"]
    match fault["type"]:
        case "unexpected_keyword_argument":
            said = "unknown key"
        case "missing" | "missing_argument":
            said = "is missing"
        case "value_error":
            said = str(fault["ctx"]["error"])
    return ": ".join((*map(str, fault["loc"]), said))
