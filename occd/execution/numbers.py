"""The numbers that outputs and checkers may write."""

import math
import re

_LONGEST = 4096
"""In bytes; no number that a program prints is longer by itself."""

_NUMBER = re.compile(rb"[+-]?+(?:[0-9]++(?:\.[0-9]*+)?+|\.[0-9]++)(?:[eE][+-]?+[0-9]++)?+")
"""Gives nothing back once it has matched: else 4,095 digits and a letter would take 0.9 s of the loop."""


def number(word: bytes) -> float | None:
    """The decimal number that the whole word is, as a double. None for every other word: also for `nan`,
    `inf`, hexadecimal digits, `1_000`, and what exceeds the range of doubles."""
    if len(word) > _LONGEST or not _NUMBER.fullmatch(word):
        return None
    value = float(word)
    return value if math.isfinite(value) else None
