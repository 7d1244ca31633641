"""Languages are data: one `sandbox/languages/*.toml` each. A new one touches no Python."""

import shlex
from codecs import BOM_UTF8
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import chain, count
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass as read_from_file

from occd.languages.fields import (
    COMPILE_LIMITS,
    CONFIG,
    Argv,
    CompileLimits,
    EditorMode,
    EnvName,
    Expression,
    Formatter,
    Globs,
    Id,
    Imported,
    Line,
    PartName,
    Precompiled,
    Problems,
    Proof,
    RunLimits,
    Steps,
    Suffix,
    Support,
    Text,
    Word,
)
from occd.languages.packages import Packages
from occd.languages.search import matches, search
from occd.languages.words import replace_words
from occd.model import File, Limits, Outcome
from occd.shown import PLACE


@dataclass(frozen=True, slots=True)
class Given:
    """The values of the words of a command. `version` is empty while the binary is asked for it."""

    binary: str
    version: str
    main: str
    files: Sequence[File] = ()
    compile_args: Sequence[str] = ()
    memory: int = 0


@read_from_file(frozen=True, slots=True, config=CONFIG)
class Language:
    """How programs of one language are compiled, run and formatted.

    The argv arrays hold these words: `{bin}` one of `candidates`, `{dir}` its folder, `{version}` what it
    answered, `{file}` the main file, `{folder}` the folder of the main file, `{output}` the main file with
    the suffix that `outputs` gives for its own, `{program}` a name for the compiled program that no sent file
    has, `{memory}` the memory limit in bytes, `{precompiled}` the folder with the parts of `precompiled`, and
    those of `words`; and, each alone in an element, `{sources}` every file with one of `sources` as its
    suffix and `{compile_args}`. `{{word}}` stands for `{word}` itself. The program's arguments follow `run`.
    """

    id: Id
    name: Line
    about: Line
    """A line about the language for people who do not know it."""
    home: Annotated[str, Field(pattern=r"^https?://[^ \n]+$")]
    support: Support
    file_name: Text
    sources: tuple[Suffix, ...]
    editor_mode: EditorMode
    install: Packages
    candidates: Globs
    """Glob patterns of its binary, as the jail sees them. Every match that answers is a version."""
    run: Argv
    hello: Text
    hello_output: str
    example: Text
    example_output: str
    example_stdin: str = ""
    aliases: tuple[Line, ...] = ()
    family: Id | None = None
    """The language that this is an implementation of: the id of the one that is taken by default."""
    implementation: Line | None = None
    """The name of the implementation within its family."""
    versions: Mapping[PartName, Packages] = Field(default_factory=dict)
    """Further versions, by the name of the folder that each is installed in."""
    debian: Annotated[int, Field(ge=12)] = 12
    """The first release of Debian that has the packages of `install`."""
    version: tuple[Word, ...] = ()
    version_pattern: Expression = r"(\d+(?:\.\d+)+)"
    """Its first group is the version, in what `version` prints. Without `version` it is in the path."""
    version_text: Text | None = None
    """The version of a program that does not tell it."""
    words: Mapping[Text, str] = Field(default_factory=dict)
    """Own words for the argv arrays and `env`."""
    env: Mapping[EnvName, Word] = Field(default_factory=dict)
    compile: Steps = ()
    """Empty for a language without a compiler."""
    compile_args: tuple[str, ...] = ()
    """Arguments for the compiler that people often add, for those who choose some."""
    outputs: Mapping[str, str] = Field(default_factory=dict)
    strip: tuple[Literal["bom", "cr"], ...] = ()
    file_name_pattern: Expression | None = None
    stdin: Literal["input", "program", "none"] = "input"
    """The stdin of a program: its input, the program itself, or nothing where input cannot be read."""
    success: tuple[Annotated[int, Field(ge=1, le=255)], ...] = ()
    """Exit codes of a run that mean success, too. They are told as 0."""
    artifacts: tuple[Text, ...] = ()
    """Patterns of the files that programs of this language are run for."""
    banner: Expression | None = None
    """A pattern of the lines that its tools write beside the output of every program."""
    quirks: tuple[Line, ...] = ()
    """Differences from the language elsewhere, for those who know it."""
    warm: Literal["fork", "hold"] | None = None
    """How an interpreter that waits for its main file serves programs. `fork`: its copies run them; it has no
    thread then, and the copies may share its open files. `hold`: it runs one program itself."""
    imports: Expression | None = None
    """A pattern of what a source says that needs the package `{name}`."""
    sets: tuple[Annotated[tuple[Imported, ...], Field(min_length=1)], ...] = ()
    """Of packages that an interpreter may have imported which has started, the smallest first."""
    unless: Expression | None = None
    """A pattern of what a source says on whose lines the import of a package may depend."""
    out_of_memory: Expression | None = None
    hints: Mapping[Expression, Line] = Field(default_factory=dict)
    problems: Problems = ()
    limits: RunLimits = Limits()
    compile_limits: CompileLimits = COMPILE_LIMITS
    formatters: Annotated[tuple[Formatter, ...], Field(max_length=5)] = ()
    """The first that answers is used."""
    finish: Text | None = None
    """A shell script that root runs in each folder with packages of pip or npm, where they are not enough."""
    prepare: Text | None = None
    """A shell script that makes a file system ready, where the packages alone are not enough."""
    precompiled: Precompiled | None = None
    proof: Proof = Proof()

    def source_name(self, source: bytes, others: Sequence[File] = ()) -> str:
        """A file name for this source: the one that its text asks for (Java: the public class's), if
        that is short and no other file's, else the usual one."""
        if self.file_name_pattern:
            text = source[:_LOOKED_AT].decode("utf-8-sig", errors="replace")
            found = matches(self.file_name_pattern, text)
            stem = next((match[1] for match in found if match[1]), None)
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
        if not named or (self.unless and search(self.unless.encode(), source)):
            return ()
        parts = {each: {name.partition(".")[0] for name in each} for each in self.sets}
        whole = [each for each in self.sets if parts[each] >= named][:1]
        some = [each for each in reversed(self.sets) if parts[each] < named]
        return (*whole, *some)

    def _names_package(self, name: str, source: bytes) -> bool:
        pattern = (self.imports or "").replace("{name}", name)
        return name.encode() in source and search(pattern.encode(), source) is not None

    def compile_argv(self, given: Given) -> list[str]:
        """Of one command, or of a shell that runs several until one fails."""
        steps = [self._argv(each, given) for each in self.compile]
        if len(steps) == 1:
            return steps[0]
        return ["/bin/sh", "-ec", "\n".join(map(shlex.join, steps))]

    def run_argv(self, given: Given) -> list[str]:
        """Without the program's own arguments."""
        argv = self._argv(self.run, given)
        if self.stdin == "program":
            return ["/bin/sh", "-c", 'file=$1; shift; exec "$@" < "$file"', "sh", given.main, *argv]
        return argv

    def version_argv(self, binary: str) -> list[str]:
        return self._argv(self.version, Given(binary, "", self.file_name))

    def format_argv(self, formatter: Formatter, given: Given) -> list[str]:
        return self._argv(formatter.command, given)

    def environment(self, binary: str, version: str = "") -> dict[str, str]:
        """Beside what all programs have."""
        given = Given(binary, version, self.file_name)
        return {name: replace_words(value, self._value(given)) for name, value in self.env.items()}

    def _argv(self, command: Sequence[str], given: Given) -> list[str]:
        sources = [file.name for file in given.files if file.name.endswith(self.sources)]
        several = {
            "{sources}": sources or [given.main],
            "{compile_args}": given.compile_args,
        }
        value = self._value(given)
        argv: list[str] = []
        for element in command:
            argv += several[element] if element in several else [replace_words(element, value)]
        return argv

    def _value(self, given: Given) -> Callable[[str], str]:
        main, binary = given.main, given.binary
        folder, suffix = _folder_and_suffix(main)
        return {
            "bin": binary,
            "dir": _folder_and_suffix(binary)[0],
            "version": given.version,
            "file": main,
            "folder": folder,
            "output": main.removesuffix(suffix) + self.outputs.get(suffix, suffix),
            "program": _program_name(given.files),
            "memory": str(given.memory),
            "precompiled": self.precompiled_place(binary),
        }.__getitem__

    def precompiled_place(self, binary: str) -> str:
        """Where programs find what was precompiled by and for this binary."""
        return f"{PLACE}/precompiled/{self.id}{binary}"

    def judged(self, run: Outcome, said: str) -> Outcome:
        """The outcome of a run. A runtime that failed and says that its memory is full has met the
        memory limit, as one that was killed for it has. An exit code of `success` becomes 0.
        `said` is the end of its stderr."""
        if not _failed(run):
            return run
        if run.exit_code in self.success:
            return replace(run, exit_code=0)
        full = self.out_of_memory and search(self.out_of_memory, said)
        return replace(run, limit="memory") if full else run

    def hint(self, compiled: Outcome, said: str) -> str | None:
        """A message for a failure that the compiler does not explain clearly enough itself. `said` is the
        end of the compiler's stderr."""
        if compiled.limit == "output":
            return f"The compiler was stopped when its messages had {self.compile_limits.output} bytes."
        if not _failed(compiled):
            return None
        return next((hint for pattern, hint in self.hints.items() if search(pattern, said)), None)


_LOOKED_AT = 65_536
_IMPORTS_IN = 16_384
"""Bytes of all files together. Everybody waits while they are looked at."""
_NAME_BYTES = 100


@lru_cache(maxsize=256)
def _folder_and_suffix(path: str) -> tuple[str, str]:
    """Asked for several times in each run, nearly always of the same paths."""
    return str(Path(path).parent), Path(path).suffix


def _program_name(files: Sequence[File]) -> str:
    taken = {file.name.partition("/")[0].lstrip(".") for file in files}
    names = chain(["main"], (f"main{number}" for number in count(2)))
    return next(name for name in names if name not in taken)


def _failed(outcome: Outcome) -> bool:
    return outcome.limit is None and not outcome.succeeded
