"""Patterns that find problems in the text of a language's compilers and runtimes: the place and the message.
Clients use the patterns. `docs/adding-a-language.md` describes each key."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

GROUPS = frozenset(
    (
        *("file", "line", "col", "end_col", "name"),
        *("severity", "message", "detail", "code", "note"),
        *("source", "before", "caret", "marks"),
    )
)
"""The names that a pattern's groups may have."""

CHARACTERS_MAX = 1000
"""Of an expression. One of 100,000 alternatives takes half a minute to compile."""

FLAGS = re.ASCII | re.MULTILINE
"""With these flags a pattern means here the same as in JavaScript with the flag `m`."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """One form of a message. Without `frame` it is `pattern` alone, from the beginning of a line on. With
    `frame` it is a traceback: `pattern`, then lines of `frame` and of `skip`, then `end` if there is one. A
    `cause` that follows, and the same again, is a note."""

    stage: str
    pattern: str
    columns: str = "utf16"
    tab: int | None = None
    first_column: int = 1
    severity: str = "error"
    frame: str | None = None
    skip: str | None = None
    end: str | None = None
    cause: str | None = None
    innermost: str = "first"
    stdout: bool = False

    def __post_init__(self) -> None:
        """Raises ValueError for what is not right; re.error for what is no regular expression."""
        for name, allowed in _ALLOWED.items():
            if (value := getattr(self, name)) not in allowed:
                raise ValueError(f"{name}: {value!r} is none of {', '.join(map(str, allowed))}")
        groups = {name: _groups(name, each) for name, each in self._expressions()}
        found = frozenset[str]().union(*groups.values())
        if "message" not in found:
            raise ValueError("no group is called message")
        if not found & {"line", "name"}:
            raise ValueError("no group is called line or name")
        if self.frame is None and groups.keys() != {"pattern"}:
            raise ValueError("skip, end and cause are parts of a traceback, which has a frame")
        if self.frame is not None and "line" not in groups["frame"]:
            raise ValueError("frame: no group is called line")

    def _expressions(self) -> Iterator[tuple[str, str]]:
        for name in ("pattern", "frame", "skip", "end", "cause"):
            if (value := getattr(self, name)) is not None:
                yield name, value

    def json(self) -> dict[str, Any]:
        """Without what is as usual. Its expressions are in the form of JavaScript."""
        expressions = {name: each.replace("(?P<", "(?<") for name, each in self._expressions()}
        others = {
            each.name: getattr(self, each.name)
            for each in fields(self)
            if each.name in _ALLOWED and getattr(self, each.name) != each.default
        }
        return others | expressions


_ALLOWED = {
    "stage": ("compile", "run"),
    "columns": ("bytes", "characters", "utf16", "display", "drawn"),
    "tab": (None, 0, 1, 8),
    "first_column": (0, 1),
    "severity": ("error", "warning", "note"),
    "innermost": ("first", "last"),
    "stdout": (False, True),
}

# What Python and JavaScript read alike, unlike \s, \A, (?i), (?P=name), {,9}, [] and a++.
_COMMON = re.compile(
    r"""(?:
        \\[dDwWbBnt^$.|?*+()\[\]{}/\\] |
        \( (?: \? (?: : | = | ! | <= | <! | P<\w+> ) | (?!\?) ) | \) | \| |
        \[ \^? (?: \\[dDwWnt^\-\[\]\\] | [^\]\[\\] )+ \] |
        (?: [*+?] | \{\d+(?:,\d*)?\} ) \?? (?![*+?{]) |
        [^\\\[\](){}*+?|]
    )+""",
    re.VERBOSE,
)

_PARENTHESIS = re.compile(
    r"\\. | \[ \^? (?: \\. | [^\]\\] )+ \] | (?P<opens>\( (?P<looks>\?<?[=!])? ) | (?P<closes>\)) [*+?{]?",
    re.VERBOSE | re.DOTALL,
)
"""Or something in which a parenthesis is none."""


def _repeated_look(expression: str) -> int | None:
    """Where a look ahead or behind ends that is repeated. JavaScript refuses some of these."""
    looks = []
    for each in _PARENTHESIS.finditer(expression):
        if each["opens"]:
            looks.append(each["looks"] is not None)
        elif each["closes"] and looks.pop() and len(each[0]) > 1:
            return each.start()
    return None


def _groups(name: str, expression: object) -> frozenset[str]:
    if not isinstance(expression, str) or not expression:
        raise ValueError(f"{name} is no text")
    if len(expression) > CHARACTERS_MAX:
        raise ValueError(f"{name} has more than {CHARACTERS_MAX} characters")
    groups = frozenset(re.compile(expression, FLAGS).groupindex)
    alike = _COMMON.match(expression)
    common = alike.end() if alike else 0
    at = common if common < len(expression) else _repeated_look(expression)
    if at is not None:
        told = expression[at : at + 20]
        raise ValueError(f"{name}: JavaScript may read this otherwise: {told}")
    if unknown := groups - GROUPS:
        raise ValueError(f"{name}: no group may be called {min(unknown)}")
    return groups


def load_patterns(tables: object) -> tuple[Pattern, ...]:
    """The patterns of a language's file. Raises ValueError or re.error, saying what is wrong."""
    if not isinstance(tables, list) or not all(isinstance(each, Mapping) for each in tables):
        raise ValueError("this is no array of tables")
    known = {each.name for each in fields(Pattern)}
    patterns = []
    for table in tables:
        if unknown := table.keys() - known:
            raise ValueError(f"unknown key {', '.join(sorted(unknown))}")
        if missing := {"stage", "pattern"} - table.keys():
            raise ValueError(f"{min(missing)} is missing")
        patterns.append(Pattern(**table))
    return tuple(patterns)
