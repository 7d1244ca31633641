"""Reads settings from a folder of YAML files, the environment and the command line into one tree of values.
The tree remembers the place of each value, so that an error can name the place and the remedy."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator

from occd.errors import ConfigError
from occd.key import without_keys
from occd.meant import KnownSettings

_PREFIX = "OCCD_"
_UNKNOWN = "extra_forbidden"
_NAME_SHOWN = 100
"""Characters of a name that somebody has written."""
_SUFFIXES = (".yaml", ".yml")
_NUMBER = "expected a number"
_WHOLE = "expected a whole number"
_LIST = "expected a list, as in [a, b]"
_SECTION = "expected keys with values, as in `execute: {slots: 4}`"
_TEXT = "expected text (in quotes if it looks like a number)"
_WORDS = {
    _UNKNOWN: "unknown setting",
    "missing": "must be set",
    "model_type": _SECTION,
    "model_attributes_type": _SECTION,
    "dict_type": _SECTION,
    "tuple_type": _LIST,
    "list_type": _LIST,
    "frozen_set_type": _LIST,
    "too_short": "must have at least <min_length> entry",
    "int_type": _WHOLE,
    "int_parsing": _WHOLE,
    "int_parsing_size": _WHOLE,
    "int_from_float": _WHOLE,
    "float_type": _NUMBER,
    "float_parsing": _NUMBER,
    "finite_number": "expected a number that is not infinite",
    "string_type": _TEXT,
    "path_type": "expected a path",
    "bool_type": "expected true or false",
    "bool_parsing": "expected true or false",
    "greater_than": "must be above <gt>",
    "greater_than_equal": "must be at least <ge>",
    "less_than": "must be below <lt>",
    "less_than_equal": "must be at most <le>",
    "literal_error": "must be <expected>",
    "string_too_short": "must have at least <min_length> character(s)",
    "string_too_long": "must have at most <max_length> characters",
    "string_pattern_mismatch": "must look like <pattern>",
}
"""By pydantic's name of the error. Other errors keep pydantic's words."""

_YAML_WORDS = {
    r"'\t'": "a tab where only spaces are allowed; indent and separate with spaces",
    "expected <block end>": "this line does not fit the lines before it: keys of one section begin in the "
    "same column, and text with special characters stands in quotes",
    "mapping values are not allowed here": "a second colon in one line, or a line that is indented too far; "
    "text with a colon and a space stands in quotes",
    "could not find expected ':'": "a key without a colon and a space behind it, in this line or before it",
}
"""By a part of the parser's words."""


class Section(BaseModel):
    """A part of the configuration."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_truth(cls, given: object, info: ValidationInfo) -> object:
        """To pydantic true is a number."""
        kind = cls.model_fields[info.field_name].annotation if info.field_name else None
        if isinstance(given, bool) and kind in (int, float, int | None, float | None):
            raise ValueError(
                "expected a number, not yes or no (which YAML takes on and off for, too)"
            )
        return given


Place = tuple[str, ...]


@dataclass(slots=True)
class Settings:
    """`places` gives the place at which a key, or all keys below it, were set."""

    values: dict[str, Any] = field(default_factory=dict)
    places: dict[Place, str] = field(default_factory=dict)
    empty: dict[str, str] = field(default_factory=dict)
    """The place of a section that has nothing in it, by its name."""

    def put(self, key: Place, value: object, place: str) -> None:
        """Set a key over an earlier value. Other keys of a section with this name stay."""
        self.places[key] = place
        below, name = self.values, key[-1]
        for section in key[:-1]:
            if not isinstance(below.get(section), dict):
                below[section] = {}
            below = below[section]
        old = below.get(name)
        if isinstance(old, dict) and isinstance(value, dict):
            below[name] = {**old, **value}
        else:
            below[name] = value

    def explain(self, error: ValidationError, known: KnownSettings) -> str:
        """One line for each fault. The first one of a section that is like no setting lists its settings."""
        listed = set[Place]()
        return "\n".join(self._explain(each, known, listed) for each in error.errors())

    def _explain(self, fault: Mapping[str, Any], known: KnownSettings, listed: set[Place]) -> str:
        unknown = fault["type"] == _UNKNOWN  # then each part is a name that somebody wrote
        place_in = [each for each in fault["loc"] if unknown or each != "[key]"]
        key = tuple(each for each in place_in if isinstance(each, str))
        words = _WORDS.get(fault["type"], fault["msg"].removeprefix("Value error, "))
        for name, value in fault.get("ctx", {}).items():
            shown = f"{value:g}" if isinstance(value, float) else str(value)
            words = words.replace(f"<{name}>", shown)
        exact, place = self._place(key)
        by_name = exact and place.upper().startswith(("--", _PREFIX))
        words = without_keys(words)
        if unknown:
            words += _instead(place_in, known, listed, place if by_name else "")
        if by_name:
            return f"{_cut(place)}: {words}"
        return ": ".join(filter(None, (place, without_keys(_shown(place_in)), words)))

    def _place(self, key: Place) -> tuple[bool, str]:
        """The place of this key, of a key in it, or, with False, of a section around it."""
        for end in range(len(key), 0, -1):
            if key[:end] in self.places:
                return end == len(key), self.places[key[:end]]
        inner = (place for each, place in self.places.items() if key and each[: len(key)] == key)
        return True, next(inner, "")


def read_settings(folder: Path, flags: Mapping[str, Any]) -> Settings:
    """Raises ConfigError when a file or a value cannot be read."""
    settings = Settings()
    for path in _files(folder):
        for key, value in _load(path).items():
            if (key,) in settings.places:
                raise ConfigError(
                    f"{path}: {key} is already set in {settings.places[key,]}; keep one of them"
                )
            if value is None:  # all lines of the section are comments
                settings.empty[key] = str(path)
            else:
                settings.put((key,), value, str(path))
    for name, text in sorted(os.environ.items()):
        if name.upper().startswith(_PREFIX):
            names = tuple(name[len(_PREFIX) :].lower().split("__"))
            place = settings.places.get(names, "")
            if place.upper() == name.upper():  # the two differ in upper and lower case
                raise ConfigError(f"{name}: is set as {place}, too; keep one of them")
            settings.put(names, _value(name, text), name)
    for flag, given in flags.items():
        settings.put((flag,), given, f"--{flag.replace('_', '-')}")
    return settings


def _files(folder: Path) -> list[Path]:
    try:
        names = sorted(os.listdir(folder))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be read: {error.strerror}") from error
    return [folder / name for name in names if name.endswith(_SUFFIXES)]


def _load(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text("utf-8-sig")
        loaded = yaml.load(text, Loader=_Loader)  # noqa: S506  (a safe one)
    except yaml.MarkedYAMLError as error:
        raise ConfigError(f"{path}: {_where(error)}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: {' '.join(str(error).split())}") from error
    except RecursionError as error:
        raise ConfigError(f"{path}: is nested too deeply") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8 text; save it as UTF-8") from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    if not text.strip():  # what is left of a file that was cut off, or was mounted from nothing
        raise ConfigError(f"{path}: is empty; write settings into the file, or remove it")
    if loaded is None:
        return {}
    if not isinstance(loaded, dict):
        raise ConfigError(f"{path}: expected keys with values, as in `listen: 127.0.0.1:8000`")
    return loaded


def _where(error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    problem = str(error.problem or error.context)
    words = next((each for part, each in _YAML_WORDS.items() if part in problem), problem)
    return without_keys(f"line {mark.line + 1}: {words}" if mark else words)


def _shown(place: Sequence[str | int]) -> str:
    """`accounts.keys (number 2).owner`: people count from 1. A fault of a whole entry names the list."""
    if place and isinstance(place[-1], int):
        place = place[:-1]
    parts = [
        f" (number {each + 1})" if isinstance(each, int) else f".{_cut(each)}" for each in place
    ]
    return "".join(parts).removeprefix(".")


def _cut(name: str) -> str:
    return name if len(name) <= _NAME_SHOWN else f"{name[:_NAME_SHOWN]}…"


def _instead(
    key: Sequence[str | int], known: KnownSettings, listed: set[Place], variable: str
) -> str:
    """The words for a setting that may have been meant in place of an unknown one. A variable of the
    environment is answered with a variable."""
    section = key[:-1]
    given = tuple(each for each in key if isinstance(each, str))
    if variable:
        given = tuple(variable[len(_PREFIX) :].split("__"))
    if found := known.meant(given, section):
        meant = [_cut(without_keys(each)) for each in found]  # some may be names of somebody's
        if not variable and ".".join(meant) == _shown(key):  # YAML has no dots in names
            return f"; write `{': {'.join(meant)}: …{'}' * (len(meant) - 1)}`"
        name = _PREFIX + "__".join(meant).upper() if variable else ".".join(meant)
        return f"; did you mean {name}?"
    shown = [without_keys(each) if isinstance(each, str) else each for each in section]
    names, where = known.of(section), tuple(map(str, section))
    if where in listed or not names:
        return ""
    listed.add(where)
    if variable:
        within = "".join(f"{each}__" for each in shown)
        names = [f"{_PREFIX}{within}{each}".upper() for each in names]
    of = f" of {_shown([*shown, ''])[:-1]}" if section and not variable else ""
    return f"; the settings{of} are {', '.join(names)}"


def _value(name: str, text: str) -> object:
    """A list, a section and `null` are written as JSON. Any other value is text, which the setting itself
    reads."""

    def section(pairs: list[tuple[str, object]]) -> dict[str, object]:
        found: dict[str, object] = {}
        for key, value in pairs:
            if key in found:
                raise ConfigError(f"{name}: {key} is set twice")
            found[key] = value
        return found

    if text == "null" or text.lstrip()[:1] in ("[", "{"):
        try:
            return json.loads(text, object_pairs_hook=section)
        except ValueError:
            return text
    return text


class _Loader(yaml.SafeLoader):
    """Refuses two things that YAML allows: a key twice, and a key that is no name."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key in self._keys(node):
            if key.value in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"{key.value} is set twice; keep one of them",
                    problem_mark=key.start_mark,
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)

    def _keys(self, node: yaml.MappingNode) -> Iterator[yaml.ScalarNode]:
        for key, _ in node.value:
            if key.tag == "tag:yaml.org,2002:merge":
                continue
            if not isinstance(key, yaml.ScalarNode) or key.tag != "tag:yaml.org,2002:str":
                shown = key.value if isinstance(key, yaml.ScalarNode) else "this"
                raise yaml.MarkedYAMLError(
                    problem=f"{shown} is no name of a setting; a name that looks like a number or a truth "
                    "stands in quotes",
                    problem_mark=key.start_mark,
                )
            yield key


_PASSWORD_MAX = 4096


def read_password(path: Path, setting: str) -> str:
    """The text of a file, without the end of its line. Raises ConfigError, which names setting and path."""
    with _named(path, setting):
        with path.open("rb") as file:
            data = file.read(_PASSWORD_MAX + 1)
        text = data.decode()
    if len(data) > _PASSWORD_MAX:
        raise ConfigError(f"{setting}: {path} is too long for a password")
    return text.rstrip("\r\n")


def check_readable(path: Path, setting: str) -> None:
    """Raises ConfigError, which names setting and path."""
    with _named(path, setting), path.open("rb") as file:
        file.read(1)


@contextmanager
def _named(path: Path, setting: str) -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, NotADirectoryError):
        problem = f"there is no file {path}"
    except IsADirectoryError:
        problem = f"{path} is a folder"
    except PermissionError:
        problem = f"{path} may not be read by the user of this process"
    except UnicodeDecodeError:
        problem = f"{path} is not text in UTF-8"
    except OSError as error:
        problem = f"{path} cannot be read: {error.strerror}"
    else:
        return
    raise ConfigError(f"{setting}: {problem}")
