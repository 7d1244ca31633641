"""The rules for names, sizes and limits. Each has one rule for all that read such a value: the HTTP edge,
the model, the configuration, and the sandbox.

A rule raises Broken, which describes the fault. Broken does not repeat the value: a stranger wrote it.
"""

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")

FILES_MAX = 200
NAME_BYTES_MAX = 255
NAME_PARTS_MAX = 16
PATTERNS_MAX = 32
WORDS_MAX = 1000
WORDS_BYTES_MAX = 128 * 1024
"""For arguments and environment together. Linux takes no longer single string."""

LANGUAGE_MAX = 64
VERSION_MAX = 64
USER_ID_MAX = 256
TITLE_MAX = 100
WEIGHT_MAX = 1e9
BYTES_MAX = 256 * 2**20
"""The bound for data that is sent in one piece: a request's body, a submission's stdin."""

LEAST: Mapping[str, float] = {
    "cpu_time": 1e-9,
    "wall_time": 1e-9,
    "memory": 2**20,
    "processes": 1,
    "output": 1,
    "file_size": 1,
    "box": 4096,
    "open_files": 8,
    "idle": 1,
}
MOST: Mapping[str, float] = {
    "cpu_time": 86_400,
    "wall_time": 86_400,
    "memory": 2**42,
    "processes": 2**22,
    "output": 2**30,
    "file_size": 2**42,
    "box": 2**40,
    "open_files": 2**20,
    "idle": 86_400,
}
"""Far above every sensible ceiling, and below the bounds of the kernel and of our own formats."""
_UNITS: Mapping[str, str] = {
    "cpu_time": "seconds",
    "wall_time": "seconds",
    "memory": "bytes",
    "processes": "processes and threads",
    "output": "bytes",
    "file_size": "bytes",
    "box": "bytes",
    "open_files": "files",
    "idle": "seconds",
}
_ONE = {"seconds": "second", "bytes": "byte", "files": "file"} | {
    "processes and threads": "process or thread"
}

TERMINAL_MAX = 1000
"""Rows of a terminal, and columns."""

_PAGE = 4096
_YEAR_10000 = 253_402_300_800
_NO_FILE_NAME = re.compile(r"[\0-\x1f\x7f\\]")
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_OWNER = re.compile(
    r"anon:[A-Za-z0-9_-]{1,64}|key:[A-Za-z0-9][A-Za-z0-9._@-]{0,63}|oidc:[!-z|~]{1,700}"
)
"""Without braces, which mean something to Redis."""
_SHA256 = re.compile(r"[0-9a-f]{64}")
_VERSION = re.compile(r"[0-9]+(\.[0-9]+)*")
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")


class Broken(ValueError):
    """`field` names the wrong part of the submission, where the rule knows the part."""

    def __init__(self, message: str, field: str = "") -> None:
        super().__init__(f"{field}: {message}" if field else message)
        self.message = message
        self.field = field


def check(field: str, rule: Callable[[T], object], value: T | None) -> None:
    """Apply a rule to a field, unless it is None. Raises Broken, which names the field."""
    if value is not None:
        try:
            rule(value)
        except Broken as error:
            raise Broken(error.message, field) from None


def text(value: str) -> bytes:
    """Words and names are text without NUL. Returns the bytes of the text."""
    if "\0" in value:
        raise Broken("has a NUL")
    try:
        return value.encode()
    except UnicodeEncodeError:
        raise Broken("has a lone surrogate") from None


def language(value: str) -> None:
    _label(value, 1, LANGUAGE_MAX)


def user_id(value: str) -> None:
    _label(value, 0, USER_ID_MAX)


def _label(value: str, least: int, most: int) -> None:
    text(value)
    if not least <= len(value) <= most:
        raise Broken(f"must have {least} to {most} characters")


def title(value: str) -> None:
    """The name of a test or of a group. People read such names in tables."""
    _label(value, 1, TITLE_MAX)
    if not value.isprintable():
        raise Broken("has a control character")


def weight(value: float) -> None:
    """Of a test; the points of a group."""
    if not 0 <= value <= WEIGHT_MAX:  # false for NaN, too
        raise Broken(f"must be between 0 and {WEIGHT_MAX:.15g}")


def tolerance(value: float) -> None:
    if not 0 <= value < math.inf:
        raise Broken("must be a number from 0 up")


def id(value: str) -> None:
    """Ids are parts of keys and of addresses."""
    if not _ID.fullmatch(value):
        raise Broken("must be 1 to 64 letters, digits, - and _")


def owner(value: str) -> None:
    """Owners are parts of keys."""
    if not _OWNER.fullmatch(value):
        raise Broken("must be anon:HASH, key:NAME or oidc:ISSUER#SUBJECT")


def file_name(name: str) -> None:
    """A path that stays below the folder of the file."""
    parts = name.split("/")
    if not name or len(text(name)) > NAME_BYTES_MAX or len(parts) > NAME_PARTS_MAX:
        raise Broken(f"must have 1 to {NAME_BYTES_MAX} bytes and at most {NAME_PARTS_MAX} parts")
    if any(part in ("", ".", "..") or part.startswith("-") for part in parts):
        raise Broken('must be relative, without "..", empty parts or a leading "-"')
    if _NO_FILE_NAME.search(name):
        raise Broken("has a control character or a backslash")


@dataclass(frozen=True, slots=True)
class Names:
    """Names of files that go together, and the folders that they name."""

    files: frozenset[str] = frozenset()
    folders: frozenset[str] = frozenset()


def file_names(names: Sequence[str], beside: Names = Names()) -> Names:
    """The names of all files of one submission. With `beside`, whose names keep this rule already: of those
    that come to them. The time does not depend on how many are `beside`."""
    if len(names) + len(beside.files) > FILES_MAX:
        raise Broken(f"must be at most {FILES_MAX}", "files")
    files = frozenset(names)
    if len(files) < len(names) or files & beside.files:
        name = next(
            name for at, name in enumerate(names) if name in beside.files or name in names[:at]
        )
        raise Broken(f"two have the name {name}", "files")
    folders = frozenset(folder for name in names for folder in _folders(name))
    for clash in (folders & files, folders & beside.files, files & beside.folders):
        for name in sorted(clash)[:1]:  # the name passed file_name: short, no control character
            raise Broken(f"{name} is both a file and a folder", "files")
    return Names(files, folders)


def _folders(name: str) -> Iterator[str]:
    """`a` and `a/b` for `a/b/c`."""
    end = name.find("/")
    while end >= 0:
        yield name[:end]
        end = name.find("/", end + 1)


def room(sizes: Iterable[int]) -> int:
    """The bytes that files of these sizes take of a file system."""
    return sum(-(-size // _PAGE) * _PAGE for size in sizes)


def fits(sizes: Iterable[int], box: int, taken: int = 0) -> None:
    """The files must fit into a file system of `box` bytes, of which some are taken."""
    if taken + room(sizes) > box:
        raise Broken(f"do not fit into the box, which has {box} bytes", "files")


def patterns(values: Sequence[str]) -> None:
    """Patterns of names of files, relative to the folder of the files."""
    if len(values) > PATTERNS_MAX:
        raise Broken(f"must be at most {PATTERNS_MAX}")
    for value in values:
        pattern(value)


def pattern(value: str) -> None:
    file_name(value)
    if any("**" in part and part != "**" for part in value.split("/")):
        raise Broken('may have "**" only between slashes')


def sha256(value: str) -> None:
    if not _SHA256.fullmatch(value):
        raise Broken("must be 64 hexadecimal digits")


def version(value: str) -> None:
    if len(value) > VERSION_MAX or not _VERSION.fullmatch(value):
        raise Broken("must be whole numbers with dots between them, as in 3.11")


def env_name(name: str) -> None:
    if not _ENV_NAME.fullmatch(name):
        raise Broken("must be letters, digits and underscores")


def words(**lists: Sequence[str]) -> None:
    """`args`, `compile_args`, and the names and values of `env`."""
    size = 0
    for field, each in lists.items():
        if len(each) > WORDS_MAX and field != "env":  # the bytes bound `env`, as for older senders
            raise Broken(f"must be at most {WORDS_MAX}", field)
        joined = "\0".join(each)
        if joined.count("\0") > max(0, len(each) - 1):
            raise Broken("has a NUL", field)
        try:
            size += len(joined.encode()) + bool(each)
        except UnicodeEncodeError:
            raise Broken("has a lone surrogate", field) from None
    if size > WORDS_BYTES_MAX:
        raise Broken(f"args, env and compile_args exceed {WORDS_BYTES_MAX} bytes")


def limit(name: str, value: float) -> None:
    least_limit(name, value)
    if not value <= MOST[name]:  # true for NaN, too
        raise Broken(f"must be at most {amount(name, MOST[name])}", f"limits.{name}")


def least_limit(name: str, value: float) -> None:
    if not value >= LEAST[name]:  # true for NaN, too
        raise Broken(f"must be at least {amount(name, LEAST[name])}", f"limits.{name}")


def amount(name: str, value: float) -> str:
    """The value of a limit with its unit."""
    unit = _UNITS[name]
    return f"{value:.15g} {_ONE[unit] if value == 1 else unit}"


def met(name: str, value: float) -> str:
    """A limit at which a program was stopped, for a person, with its value. There are two idle times."""
    return "idle time" if name == "idle" else f"{name.replace('_', ' ')}, {amount(name, value)}"


def terminal_side(value: int) -> None:
    """The rows of a terminal, or its columns."""
    if not 1 <= value <= TERMINAL_MAX:
        raise Broken(f"must be between 1 and {TERMINAL_MAX}")


def moment_or_none(seconds: float) -> float | None:
    """For what somebody else may have written."""
    try:
        moment(seconds)
    except Broken:
        return None
    return seconds


def moment(seconds: float) -> None:
    """A time within the range of calendars."""
    if not 0 <= seconds < _YEAR_10000:
        raise Broken("is no time between 1970 and 9999")
