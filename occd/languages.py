"""Languages are data: one `sandbox/languages/*.toml` each. A new one touches no Python."""

import re
import tomllib
from codecs import BOM_UTF8
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import chain, count
from pathlib import Path
from typing import Any

from occd.data import data_folder
from occd.errors import ConfigError
from occd.model import File, Limits, Outcome
from occd.patterns import Pattern, load_patterns
from occd.shown import PLACE


@dataclass(frozen=True, slots=True)
class Packages:
    """The packages to install, by the tool that installs them, with the names that the tool knows."""

    apt: tuple[str, ...] = ()
    pip: tuple[str, ...] = ()
    npm: tuple[str, ...] = ()

    def __str__(self) -> str:
        """The commands that install them, for a person."""
        tools = {"apt-get install": self.apt, "pip install": self.pip, "npm install -g": self.npm}
        return " && ".join(f"{tool} {' '.join(names)}" for tool, names in tools.items() if names)


@dataclass(frozen=True, slots=True)
class Formatter:
    """A program that lays out programs: it reads the main file, on stdin or as `{file}`, and writes it to
    stdout. `command` is an argv array with the words of `Language`; `{bin}` is one of `candidates`."""

    install: Packages
    candidates: tuple[str, ...]
    command: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Precompiled:
    """What the compilations of a language have in common, and is made once for each version, in `parts`."""

    parts: tuple[str, ...]
    build: str
    """A shell script with a binary as `$1` and a part as `$2`, which makes the part in an empty folder."""


@dataclass(frozen=True, slots=True)
class Language:
    """How programs of one language are compiled, run and formatted.

    The argv arrays hold these words: `{bin}` one of `candidates`, `{file}` the main file, `{folder}`
    the folder of the main file, `{output}` the main file with the suffix that `outputs` gives for its
    own, `{program}` a name for the compiled program that no sent file has, `{memory}` the memory
    limit in bytes, `{precompiled}` the folder with the parts of `precompiled`; and, each alone in an
    element, `{sources}` every file with one of `sources` as its suffix and `{compile_args}`. The
    program's arguments follow `run`.
    """

    id: str
    name: str
    aliases: tuple[str, ...]
    file_name: str
    editor_mode: str
    install: Packages
    candidates: tuple[str, ...]
    version: tuple[str, ...]
    version_pattern: str
    run: tuple[str, ...]
    warm: str | None
    """What an interpreter is good for that has started, and has not read its main file yet: `fork`, it has no
    thread then, and its copies may share what it has open; `hold`, it serves one program."""
    imports: str | None
    """A pattern of what a source says that needs the package `{name}`."""
    sets: tuple[tuple[str, ...], ...]
    """Of packages that an interpreter may have imported which has started, the smallest first."""
    unless: str | None
    """A pattern of what a source says on whose lines the import of a package may depend."""
    compile: tuple[str, ...] | None
    sources: tuple[str, ...]
    strip: tuple[str, ...]
    file_name_pattern: str | None
    outputs: Mapping[str, str]
    out_of_memory: str | None
    hints: Mapping[str, str]
    problems: tuple[Pattern, ...]
    env: Mapping[str, str]
    limits: Limits
    compile_limits: Limits
    formatters: tuple[Formatter, ...]
    """The first that answers is used."""
    prepare: str | None
    """A shell script that makes a file system ready, where the packages alone are not enough."""
    precompiled: Precompiled | None
    compile_args: tuple[str, ...]
    """Arguments for the compiler that people often add, for those who choose some."""
    hello: str
    hello_output: str
    example: str
    example_stdin: str
    example_output: str

    def source_name(self, source: bytes, others: Sequence[File] = ()) -> str:
        """A file name for this source: the one that its text asks for (Java: the public class's), if
        that is short and no other file's, else the usual one."""
        if self.file_name_pattern:
            text = source[:_LOOKED_AT].decode("utf-8-sig", errors="replace")
            matches = re.finditer(self.file_name_pattern, text, re.MULTILINE)
            stem = next((match[1] for match in matches if match[1]), None)
            name = f"{stem}{Path(self.file_name).suffix}" if stem else self.file_name
            if len(name.encode()) <= _NAME_BYTES and all(name != other.name for other in others):
                return name
        return self.file_name

    def readable(self, files: Sequence[File]) -> Sequence[File]:
        """The files without what editors on Windows and forms on web pages put into text, where `strip` says
        that the language's tools stumble over it."""
        if not self.strip:
            return files
        main = self.main_of(files)
        return [
            replace(file, content=self._stripped(file.content))
            if file.name == main or file.name.endswith(self.sources)
            else file
            for file in files
        ]

    def _stripped(self, source: bytes) -> bytes:
        if "bom" in self.strip:
            source = source.removeprefix(BOM_UTF8)
        return source.replace(b"\r\n", b"\n") if "cr" in self.strip else source

    def main_of(self, files: Sequence[File]) -> str | None:
        """The file to run when only `files` were given: the one with the usual name, else the first
        with one of the language's suffixes, else the only one. None when that does not tell."""
        names = [file.name for file in files]
        if self.file_name in names:
            return self.file_name
        own = [name for name in names if name.endswith(self.sources)]
        return own[0] if own else names[0] if len(names) == 1 else None

    def sets_for(self, files: Sequence[File]) -> Sequence[tuple[str, ...]]:
        """The sets that can serve these files, the best first: the smallest with all packages that they name,
        then those that have nothing else."""
        if not self.sets:
            return ()
        known = {name.partition(".")[0] for each in self.sets for name in each}
        sources = (file.content for file in files if file.name.endswith(self.sources))
        source = b"\n".join(each[:_IMPORTS_IN] for each in sources)[:_IMPORTS_IN]
        named = {name for name in known if self._names_package(name, source)}
        if not named or (self.unless and re.search(self.unless.encode(), source)):
            return ()
        parts = {each: {name.partition(".")[0] for name in each} for each in self.sets}
        whole = [each for each in self.sets if parts[each] >= named][:1]
        some = [each for each in reversed(self.sets) if parts[each] < named]
        return (*whole, *some)

    def _names_package(self, name: str, source: bytes) -> bool:
        pattern = (self.imports or "").replace("{name}", name)
        return name.encode() in source and re.search(pattern.encode(), source) is not None

    def argv(
        self,
        template: Sequence[str],
        binary: str,
        main: str,
        files: Sequence[File],
        compile_args: Sequence[str],
        memory: int,
    ) -> list[str]:
        suffix = Path(main).suffix
        words = {
            "bin": binary,
            "file": main,
            "folder": str(Path(main).parent),
            "output": main.removesuffix(suffix) + self.outputs.get(suffix, suffix),
            "program": _program_name(files),
            "memory": str(memory),
            "precompiled": self.precompiled_place(binary),
        }
        sources = [file.name for file in files if file.name.endswith(self.sources)] or [main]
        argv: list[str] = []
        for element in template:
            if element == "{sources}":
                argv += sources
            elif element == "{compile_args}":
                argv += compile_args
            else:
                argv.append(_WORD.sub(lambda word: words[word[1]], element))
        return argv

    def precompiled_place(self, binary: str) -> str:
        """Where programs find what was precompiled by and for this binary."""
        return f"{PLACE}/precompiled/{self.id}{binary}"

    def judged(self, run: Outcome, said: str) -> Outcome:
        """The outcome of a run. A runtime that failed and says that its memory is full has met the
        memory limit, as one that was killed for it has. `said` is the end of its stderr."""
        full = self.out_of_memory and _failed(run) and re.search(self.out_of_memory, said)
        return replace(run, limit="memory") if full else run

    def hint(self, compiled: Outcome, said: str) -> str | None:
        """A message for a failure that the compiler does not explain clearly enough itself. `said` is the
        end of the compiler's stderr."""
        if compiled.limit == "output":
            return f"The compiler was stopped when its messages had {self.compile_limits.output} bytes."
        if not _failed(compiled):
            return None
        return next(
            (hint for pattern, hint in self.hints.items() if re.search(pattern, said)), None
        )


_WORD = re.compile(r"\{(\w+)\}")
_LOOKED_AT = 65_536
_IMPORTS_IN = 16_384
"""Bytes of all files together. Everybody waits while they are looked at."""
_NAME_BYTES = 100


def _program_name(files: Sequence[File]) -> str:
    taken = {file.name.partition("/")[0].lstrip(".") for file in files}
    names = chain(["main"], (f"main{number}" for number in count(2)))
    return next(name for name in names if name not in taken)


def _failed(outcome: Outcome) -> bool:
    return outcome.limit is None and not outcome.succeeded


@dataclass(frozen=True, slots=True)
class Installed:
    """One version of a language that answered inside the jail, in the root of this name (`Sandbox.roots`)."""

    version: str
    binary: str
    root: str = ""

    @property
    def order(self) -> tuple[int, ...]:
        return tuple(int(number) for number in re.findall(r"\d+", self.version))


Available = Mapping[str, tuple[Installed, ...]]
"""Language id to its versions, newest first; a language without one is absent."""


@dataclass(frozen=True, slots=True)
class InstalledFormatter:
    """A formatter that answered inside the jail, in the root of this name (`Sandbox.roots`)."""

    formatter: Formatter
    binary: str
    root: str = ""


Formatters = Mapping[str, InstalledFormatter]
"""By language id; a language without one is absent."""


def formats(language: str) -> str:
    """The word by which a node announces that it has a formatter of this language."""
    return f"format.{language}"


@dataclass(frozen=True, slots=True)
class Offer:
    """A language that some node can run now."""

    language: Language
    versions: Sequence[Installed]
    """Newest first."""
    formats: bool
    """Whether every node has a formatter."""
    traces: bool
    """Whether every node can trace each of the versions."""


def pick(versions: Sequence[Installed], wanted: str | None) -> Installed | None:
    """The newest version that `wanted` (`3`, `3.11`) is a prefix of, by whole numbers."""
    for installed in versions:
        if wanted is None or f"{installed.version}.".startswith(f"{wanted}."):
            return installed
    return None


def load_languages(folder: Path | None = None) -> dict[str, Language]:
    """Every language by its id, in the order of their names.

    Raises ConfigError naming the file and what is wrong with it.
    """
    folder = folder or data_folder("sandbox") / "languages"
    loaded = (_load(path) for path in sorted(folder.glob("*.toml")))
    languages = {each.id: each for each in sorted(loaded, key=lambda each: each.name.lower())}
    taken: dict[str, str] = {}
    for language in languages.values():
        for name in sorted(_names(language)):
            if taken.setdefault(name, language.id) != language.id:
                raise ConfigError(f"languages: {name} names both {taken[name]} and {language.id}")
    return languages


def find(languages: Mapping[str, Language], name: str) -> Language | None:
    """The language that has this id, name or alias, in upper or lower case."""
    if name in languages:
        return languages[name]
    return next((each for each in languages.values() if name.lower() in _names(each)), None)


def _names(language: Language) -> set[str]:
    return {name.lower() for name in (language.id, language.name, *language.aliases)}


def for_file(languages: Iterable[Language], path: Path) -> Language | None:
    """The language that a file's suffix belongs to."""
    return next((each for each in languages if path.suffix in each.sources), None)


_COMPILE_LIMITS = {"cpu_time": 30.0, "wall_time": 60.0, "memory": 2**30, "file_size": 64 * 2**20}


def _load(path: Path) -> Language:
    try:
        values: dict[str, Any] = tomllib.loads(path.read_text())
        values["install"] = load_packages(values.get("install"))
        for name in (
            "file_name_pattern",
            "out_of_memory",
            "compile",
            "prepare",
            "warm",
            "imports",
            "unless",
        ):
            values.setdefault(name, None)
        for name in ("aliases", "strip", "compile_args", "sets"):
            values.setdefault(name, [])
        values["formatters"] = [_formatter(each) for each in values.get("formatters", [])]
        for name in ("env", "outputs", "hints"):
            values.setdefault(name, {})
        precompiled = values.setdefault("precompiled", None)
        if precompiled is not None:
            parts = tuple(precompiled["parts"])
            values["precompiled"] = Precompiled(**precompiled | {"parts": parts})
        values["problems"] = load_patterns(values.get("problems", []))
        values["sets"] = _sets(values["sets"])
        values["limits"] = replace(Limits(), **values.get("limits", {}))
        values["compile_limits"] = replace(
            Limits(), **_COMPILE_LIMITS | values.get("compile_limits", {})
        )
        known = {field.name for field in fields(Language)}
        if unknown := values.keys() - known:
            raise ValueError(f"unknown key {', '.join(sorted(unknown))}")
        lists = {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
        language = Language(**values | lists)
        _check(language)
        return language
    except (tomllib.TOMLDecodeError, TypeError, ValueError, re.error) as error:
        raise ConfigError(f"{path.name}: {error}") from error


def _formatter(values: dict[str, Any]) -> Formatter:
    lists = {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
    install = load_packages(values.get("install"))
    return Formatter(**values | lists | {"install": install})


_IMPORTED = re.compile(r"\w+(?:\.\w+)*", re.ASCII)


def _sets(values: object) -> list[tuple[str, ...]]:
    """Raises ValueError for what is no list of lists of names."""
    if not isinstance(values, list) or not all(isinstance(each, list) and each for each in values):
        raise ValueError("sets: must be lists of packages")
    if not all(
        isinstance(name, str) and _IMPORTED.fullmatch(name) for each in values for name in each
    ):
        raise ValueError("sets: a package has a name such as numpy or matplotlib.pyplot")
    return [tuple(each) for each in values]


_PACKAGE = re.compile(r"[A-Za-z0-9@][A-Za-z0-9@/.+_=-]*")


def load_packages(values: object) -> Packages:
    """The packages of a table such as `{apt = ["python3"], pip = ["ruff==0.17.6"]}`.

    Raises ValueError for a tool that is not known, and for what is no list of names.
    """
    if not isinstance(values, dict) or not values:
        raise ValueError('install: must be lists of packages, as in {apt = ["gcc"]}')
    tools = [field.name for field in fields(Packages)]
    for tool, names in values.items():
        if tool not in tools:
            raise ValueError(f"install: {tool} is none of {', '.join(tools)}")
        if not isinstance(names, list) or not all(
            isinstance(name, str) and _PACKAGE.fullmatch(name) for name in names
        ):
            raise ValueError(f"install: {tool}: must be a list of the names of packages")
    return Packages(**{tool: tuple(names) for tool, names in values.items()})


_WORDS = {"bin", "file", "folder", "output", "program", "memory", "precompiled"}
_ALONE = {"{sources}", "{compile_args}"}
_STRIPPED = {"bom", "cr"}


def _check(language: Language) -> None:
    """Raises ValueError for a word that means nothing, re.error for what is no pattern."""
    if language.warm not in (None, "fork", "hold"):
        raise ValueError("warm: must be fork or hold")
    if language.sets and not (language.warm == "fork" and "{name}" in (language.imports or "")):
        raise ValueError('sets: need warm = "fork", and {name} in imports')
    for part in language.precompiled.parts if language.precompiled else ():
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9+._-]*", part):
            raise ValueError(f"precompiled: {part!r} cannot be the name of a part")
    if unknown := set(language.strip) - _STRIPPED:
        raise ValueError(f"strip: {unknown.pop()} is none of {', '.join(sorted(_STRIPPED))}")
    commands = (each.command for each in language.formatters)
    for element in chain(language.version, language.compile or (), language.run, *commands):
        if element not in _ALONE and (unknown := set(_WORD.findall(element)) - _WORDS):
            raise ValueError(f"{{{unknown.pop()}}} is not a word of the argv arrays")
    if language.compile_args and not language.compile:
        raise ValueError("compile_args: the language is not compiled")
    for pattern in (
        language.file_name_pattern,
        language.out_of_memory,
        language.imports,
        language.unless,
        *language.hints,
    ):
        re.compile(pattern or "")
