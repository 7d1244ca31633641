"""Languages are data: one `sandbox/languages/*.toml` each. A new one touches no Python."""

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from occd.data import data_folder
from occd.errors import ConfigError
from occd.model import File, Limits


@dataclass(frozen=True, slots=True)
class Language:
    """How programs of one language are compiled and run.

    The argv arrays hold these words: `{bin}` one of `candidates`, `{file}` the main file, `{stem}`
    the same without its suffix, `{class}` the stem with the package it declares, `{memory}` the
    memory limit in bytes; and, each alone in an element, `{sources}` every file with one of
    `sources` as its suffix and `{compile_args}`. The program's arguments follow `run`.
    """

    id: str
    name: str
    aliases: tuple[str, ...]
    file_name: str
    editor_mode: str
    install: str
    candidates: tuple[str, ...]
    version: tuple[str, ...]
    version_pattern: str
    run: tuple[str, ...]
    compile: tuple[str, ...] | None
    sources: tuple[str, ...]
    file_name_pattern: str | None
    package_pattern: str | None
    env: Mapping[str, str]
    limits: Limits
    compile_limits: Limits
    hello: str
    hello_output: str
    example: str
    example_stdin: str
    example_output: str

    def source_name(self, source: bytes) -> str:
        """The usual file name for this source (Java: its public class's)."""
        if self.file_name_pattern:
            found = re.search(self.file_name_pattern, source.decode(errors="replace"), re.MULTILINE)
            if found:
                return found[1] + Path(self.file_name).suffix
        return self.file_name

    def main_of(self, files: Sequence[File]) -> str:
        """The file to run when only `files` were given: the one with the usual name, else the first."""
        names = [file.name for file in files]
        return self.file_name if self.file_name in names else names[0]

    def argv(
        self,
        template: Sequence[str],
        binary: str,
        main: str,
        files: Sequence[File],
        compile_args: Sequence[str],
        memory: int,
    ) -> list[str]:
        stem = main.removesuffix(Path(main).suffix)
        words = {"{bin}": binary, "{file}": main, "{stem}": stem, "{memory}": str(memory)}
        words["{class}"] = self._class_name(stem, main, files)
        sources = [file.name for file in files if file.name.endswith(self.sources)] or [main]
        argv: list[str] = []
        for element in template:
            if element == "{sources}":
                argv += sources
            elif element == "{compile_args}":
                argv += compile_args
            else:
                argv.append(re.sub(r"\{\w+\}", lambda word: words[word[0]], element))
        return argv

    def _class_name(self, stem: str, main: str, files: Sequence[File]) -> str:
        text = next((file.content for file in files if file.name == main), b"").decode(
            errors="replace"
        )
        package = self.package_pattern and re.search(self.package_pattern, text, re.MULTILINE)
        name = Path(stem).name
        return f"{package[1]}.{name}" if package else name


@dataclass(frozen=True, slots=True)
class Installed:
    """One version of a language that answered inside the jail."""

    version: str
    binary: str

    @property
    def order(self) -> tuple[int, ...]:
        return tuple(int(number) for number in re.findall(r"\d+", self.version))


Available = Mapping[str, tuple[Installed, ...]]
"""Language id to its versions, newest first; a language without one is absent."""


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
        for name in (language.id, *language.aliases):
            if taken.setdefault(name, language.id) != language.id:
                raise ConfigError(f"languages: {name} names both {taken[name]} and {language.id}")
    return languages


def find(languages: Iterable[Language], name: str) -> Language | None:
    return next((each for each in languages if name == each.id or name in each.aliases), None)


def for_file(languages: Iterable[Language], path: Path) -> Language | None:
    """The language that a file's suffix belongs to."""
    return next((each for each in languages if path.suffix in each.sources), None)


_COMPILE_LIMITS = {"cpu_time": 30.0, "wall_time": 60.0, "memory": 2**30, "file_size": 64 * 2**20}


def _load(path: Path) -> Language:
    try:
        values: dict[str, Any] = tomllib.loads(path.read_text())
        for name in ("file_name_pattern", "package_pattern", "compile"):
            values.setdefault(name, None)
        values.setdefault("aliases", [])
        values.setdefault("env", {})
        values["limits"] = replace(Limits(), **values.get("limits", {}))
        values["compile_limits"] = replace(
            Limits(), **_COMPILE_LIMITS | values.get("compile_limits", {})
        )
        known = {field.name for field in fields(Language)}
        if unknown := values.keys() - known:
            raise ValueError(f"unknown key {', '.join(sorted(unknown))}")
        lists = {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
        return Language(**values | lists)
    except (tomllib.TOMLDecodeError, TypeError, ValueError) as error:
        raise ConfigError(f"{path.name}: {error}") from error
