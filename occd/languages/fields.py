"""The types of the keys of a language's file: what a file may say, and what is made of it."""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal

import regex
from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, StringConstraints
from pydantic import WithJsonSchema as Described
from pydantic.dataclasses import dataclass

from occd.languages.modes import MODES
from occd.languages.packages import Packages
from occd.model import Limits
from occd.patterns import CHARACTERS_MAX, Pattern, load_patterns

CONFIG = ConfigDict(extra="forbid", use_attribute_docstrings=True)

Word = Annotated[str, StringConstraints(pattern=r"^[^\u0000]*$")]
Argv = Annotated[tuple[Word, ...], Field(min_length=1)]
Text = Annotated[str, Field(min_length=1)]
Line = Annotated[str, StringConstraints(pattern=r"^[^\u0000-\u001f\u007f-\u009f]{1,300}$")]
"""Without control characters: terminals show it."""
Id = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,30}$")]
Suffix = Annotated[str, StringConstraints(pattern=r"^\.[A-Za-z0-9+_.-]+$")]
EnvName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
PartName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9+._-]*$")]
Imported = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_]\w*(\.\w+)*$")]

_WILD_MAX = 3

Support = Literal["core", "popular", "more", "tried"]
SUPPORT: tuple[Support, ...] = ("core", "popular", "more", "tried")
"""The languages that people ask for most come first. Programs of the last were tried once, and are not a part
of the tests."""


def _expression(given: str) -> str:
    if len(given) > CHARACTERS_MAX:
        raise ValueError(f"it has more than {CHARACTERS_MAX} characters")
    try:
        regex.compile(given)
    except regex.error as error:
        raise ValueError(f"this is no regular expression: {error}") from error
    return given


Expression = Annotated[Text, AfterValidator(_expression)]
"""A regular expression of Python."""


def _glob(given: str) -> str:
    """One pass looks for all candidates of all languages, so none may take it long."""
    parts = given.split("/")
    if ".." in parts:
        raise ValueError("no part may be ..")
    if sum(any(sign in part for sign in "*?[") for part in parts) > _WILD_MAX:
        raise ValueError(f"at most {_WILD_MAX} parts may have a *, ? or [")
    return given


_GLOB = StringConstraints(pattern=r"^/[^\u0000-\u001f\u007f-\u009f]{1,300}$")
Glob = Annotated[str, _GLOB, AfterValidator(_glob)]
Globs = Annotated[tuple[Glob, ...], Field(min_length=1, max_length=20)]


def _mode(given: str) -> str:
    if given not in MODES:
        told = "`occd languages schema` lists them, and `plain` is none"
        raise ValueError(f"the page's editor has no mode {given!r}; {told}")
    return given


EditorMode = Annotated[str, AfterValidator(_mode), Described({"type": "string", "enum": MODES})]


def _steps(given: object) -> object:
    whole = isinstance(given, list) and all(isinstance(each, str) for each in given)
    return [given] if given and whole else given


_ARGV = {"type": "array", "items": {"type": "string"}, "minItems": 1}
Steps = Annotated[
    tuple[Argv, ...],
    BeforeValidator(_steps),
    Described({"anyOf": [_ARGV, {"type": "array", "items": _ARGV}]}),
]
"""Commands that run one after the other. One alone may stand without a list around it."""


_INFINITE = float("inf")


def _changed(usual: Limits) -> Any:
    def limits(given: object) -> object:
        if not isinstance(given, Mapping):
            return given
        if unknown := given.keys() - set(Limits.__slots__):
            raise ValueError(f"there is no limit {', '.join(sorted(unknown))}")
        for name, value in given.items():
            if (
                not isinstance(value, int | float)
                or isinstance(value, bool)
                or not 0 < value < _INFINITE
            ):
                raise ValueError(f"{name} must be a number above 0")
        return replace(usual, **given)

    return BeforeValidator(limits)


_NUMBER = {"type": "number", "exclusiveMinimum": 0}
_NUMBERS = Described(
    {
        "type": "object",
        "properties": dict.fromkeys(Limits.__slots__, _NUMBER),
        "additionalProperties": False,
    }
)
COMPILE_LIMITS = Limits(cpu_time=30.0, wall_time=60.0, memory=2**30, file_size=64 * 2**20)
RunLimits = Annotated[Limits, _changed(Limits()), _NUMBERS]
CompileLimits = Annotated[Limits, _changed(COMPILE_LIMITS), _NUMBERS]


def _patterns(given: object) -> object:
    """Language itself is copied with what it has."""
    try:
        return given if isinstance(given, tuple) else load_patterns(given)
    except re.error as error:
        raise ValueError(f"this is no regular expression: {error}") from error


Problems = Annotated[
    tuple[Pattern, ...],
    BeforeValidator(_patterns),
    Described({"type": "array", "items": {"type": "object", "required": ["stage", "pattern"]}}),
]


@dataclass(frozen=True, slots=True, config=CONFIG)
class Formatter:
    """A program that lays out programs: it reads the main file, on stdin or as `{file}`, and writes it to
    stdout. `command` is an argv array with the words of `Language`; `{bin}` is one of `candidates`."""

    install: Packages
    candidates: Globs
    command: Argv


@dataclass(frozen=True, slots=True, config=CONFIG)
class Precompiled:
    """Compiled parts that many programs of a language share. Each part is made once for each version."""

    parts: Annotated[tuple[PartName, ...], Field(min_length=1)]
    build: Text
    """A shell script with a binary as `$1` and a part as `$2`, which makes the part in an empty folder."""


Unsaid = Literal["wrong", "echo", "arguments", "exits", "loops", "fills"]
"""A program by which a language is proved, and which it may not be able to say."""


@dataclass(frozen=True, slots=True, config=CONFIG)
class Proof:
    """Small programs by which a language is proved. A language that cannot say one of them says in `cannot`
    why."""

    wrong: str | None = None
    """A program with one error."""
    wrong_line: Annotated[int, Field(ge=1)] | None = None
    """The line of the error, where the page marks it."""
    echo: str | None = None
    """Writes the one line that it reads."""
    arguments: str | None = None
    """Writes its arguments and then the variable OCCD_TEST, each as `<word>` on a line."""
    exits: str | None = None
    """Ends with the exit code 3."""
    loops: str | None = None
    """Never ends, and computes."""
    fills: str | None = None
    """Takes memory until it has no more."""
    cannot: Mapping[Unsaid, Line] = Field(default_factory=dict)
