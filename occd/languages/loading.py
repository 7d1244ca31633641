"""Reads the files of the languages. A faulty file costs its own language, and is told in a line."""

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import regex
from pydantic import TypeAdapter, ValidationError

from occd.data import data_folder
from occd.errors import OccdError
from occd.languages import Language
from occd.languages.faults import in_a_line
from occd.languages.fields import SUPPORT
from occd.languages.finding import find, names_of, unknown
from occd.languages.words import put_in, resolve, words_in, words_of

_WORDS = frozenset(
    ("bin", "dir", "version", "file", "folder", "output", "program", "memory", "precompiled")
)
_UNKNOWN_WHEN_ASKED = frozenset(("version",))
_OF_ENV = frozenset(("bin", "dir", "version", "precompiled"))
_ALONE = frozenset(("{sources}", "{compile_args}"))
_BYTES_MAX = 2**20
_ARGUMENT_MAX = 2**17
"""Characters. The kernel takes no longer argument."""
_LANGUAGE = TypeAdapter(Language)
_OURS = data_folder("sandbox") / "languages"


class Faulty(Exception):
    """A language's file is wrong. The message is a line that names the key."""


@dataclass(frozen=True, slots=True)
class Read:
    languages: Mapping[str, Language]
    """By their ids, in the order of their names."""
    faults: tuple[str, ...] = ()
    """A line for each file that was left out."""


def load_languages(folder: Path | None = None) -> dict[str, Language]:
    """Every language by its id, in the order of their names, without those whose files are not right."""
    return dict(read_languages(folder).languages)


def read_languages(folder: Path | None = None) -> Read:
    return _read(folder) if folder else _read_ours()


@cache
def _read_ours() -> Read:
    return _read(_OURS)


def folder_of_languages() -> Path:
    """Where a file must lie to be a language of this occd."""
    return _OURS


def language_named(name: str) -> Language:
    """The language of ours that has this id, name or alias. Raises OccdError, which tells the fault of a file
    `NAME.toml` that was left out."""
    read = read_languages()
    if language := find(read.languages, name):
        return language
    faults = (each for each in read.faults if each.startswith(f"{name.lower()}.toml: "))
    told = f"{unknown(read.languages, name)}; `occd languages --all` lists them all"
    raise OccdError(next(faults, told))


def _read(folder: Path) -> Read:
    read, faults = _read_each(folder)
    taken: dict[str, str] = {}
    known: list[Language] = []
    for path, language in sorted(read.items(), key=lambda each: SUPPORT.index(each[1].support)):
        try:
            _refuse_taken(language, taken)
        except Faulty as error:
            faults[path] = str(error)
            continue
        taken |= dict.fromkeys(names_of(language), language.id)
        known.append(language)
    known.sort(key=lambda each: each.name.lower())
    told = tuple(f"{path.name}: {faults[path]}" for path in sorted(faults))
    return Read({each.id: each for each in known}, told)


def _read_each(folder: Path) -> tuple[dict[Path, Language], dict[Path, str]]:
    """The languages by their files, and the faults of the other files."""
    read: dict[Path, Language] = {}
    faults: dict[Path, str] = {}
    for path in sorted(folder.glob("*.toml")):
        try:
            read[path] = read_language(path)
        except Faulty as error:
            faults[path] = str(error)
    return read, faults


def read_new_language(path: Path) -> Language:
    """As `read_language`, of a file that is to stand among ours, in place of the one of its file name. Raises
    Faulty, too, for a name that another language has."""
    language = read_language(path)
    there, _ = _read_each(_OURS)
    others = [each for of, each in there.items() if of.name != path.name]
    _refuse_taken(language, {name: each.id for each in others for name in names_of(each)})
    return language


def _refuse_taken(language: Language, taken: Mapping[str, str]) -> None:
    """Raises Faulty for a name that another language has; `taken` are the ids of those, by name."""
    if of_others := names_of(language) & taken.keys():
        name = min(of_others)
        raise Faulty(f"{name!r} is a name of {taken[name]} already")


def read_language(path: Path) -> Language:
    """Raises Faulty, which names the key and not the file."""
    try:
        with path.open("rb") as file:
            text = file.read(_BYTES_MAX + 1)
        if len(text) > _BYTES_MAX:
            raise Faulty(f"the file has more than {_BYTES_MAX} bytes")
        language = _LANGUAGE.validate_python(tomllib.loads(text.decode()))
        return _with_own_words(language)
    except OSError as error:
        raise Faulty(f"the file cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise Faulty(f"the file is not UTF-8: byte {error.start + 1}") from error
    except tomllib.TOMLDecodeError as error:
        raise Faulty(f"this is no TOML: {error}") from error
    except ValidationError as error:
        raise Faulty(in_a_line(error)) from error
    except RecursionError as error:
        raise Faulty("it is nested too deeply") from error
    except (ArithmeticError, MemoryError, TypeError, ValueError) as error:
        raise Faulty(f"it cannot be read: {error}"[:300]) from error


def schema() -> dict[str, Any]:
    """The JSON Schema of a language's file."""
    return _LANGUAGE.json_schema() | {"$schema": "https://json-schema.org/draft/2020-12/schema"}


def _with_own_words(language: Language) -> Language:
    """The language with its own words put in, if all its words mean something. Raises Faulty."""
    own = language.words
    if not own:
        _check(language)
        return language
    for word in own:
        if not re.fullmatch(r"[a-z][a-z0-9_]*", word) or word in _WORDS:
            raise Faulty(f"words: {word!r} cannot be an own word")
    try:
        values = resolve(own)
    except ValueError as error:
        raise Faulty(str(error)) from error

    def put(key: str, text: str) -> str:
        least = len(text) + sum(len(values.get(word, "")) for word in words_in(text))
        if least > _ARGUMENT_MAX:
            raise Faulty(f"{key}: it is longer than {_ARGUMENT_MAX} characters")
        return put_in(text, values)

    def all_of(key: str, texts: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(put(key, each) for each in texts)

    made = replace(
        language,
        version=all_of("version", language.version),
        compile=tuple(all_of("compile", each) for each in language.compile),
        run=all_of("run", language.run),
        env={name: put(f"env.{name}", value) for name, value in language.env.items()},
        formatters=tuple(
            replace(each, command=all_of("formatters", each.command))
            for each in language.formatters
        ),
    )
    _check(made)
    return made


def _check(language: Language) -> None:
    """Raises Faulty for keys that do not go together, and for words that mean nothing."""
    for key, texts, known in _commands(language):
        for text in texts:
            unknown = words_of(text) - known
            if text not in _ALONE and unknown:
                raise Faulty(f"{key}: {{{min(unknown)}}} means nothing here")
    if language.compile_args and not language.compile:
        raise Faulty("compile_args: the language is not compiled")
    if language.version and language.version_text:
        raise Faulty("version_text: the program tells its version")
    if regex.compile(language.version_pattern).groups < 1:
        raise Faulty("version_pattern: it has no group")
    if language.sets and not (language.warm == "fork" and "{name}" in (language.imports or "")):
        raise Faulty('sets: need warm = "fork", and {name} in imports')
    if language.stdin == "program" and language.warm:
        raise Faulty("warm: the program comes on stdin")
    if (language.family is None) != (language.implementation is None):
        raise Faulty("family: is written together with implementation")


def _commands(language: Language) -> Iterator[tuple[str, tuple[str, ...], frozenset[str]]]:
    """The key of each argv array, the array, and the words that mean something there."""
    yield "version", language.version, _WORDS - _UNKNOWN_WHEN_ASKED
    for number, step in enumerate(language.compile):
        yield f"compile.{number}", step, _WORDS
    yield "run", language.run, _WORDS
    for name, value in language.env.items():
        yield f"env.{name}", (value,), _OF_ENV
    for number, each in enumerate(language.formatters):
        yield f"formatters.{number}.command", each.command, _WORDS - _UNKNOWN_WHEN_ASKED
