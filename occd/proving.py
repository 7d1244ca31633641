"""Tries whether a language keeps what its file promises, in the jail: by its hello, its example and the
programs of its `[proof]`."""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Literal, TypedDict, Unpack

import regex

from occd import rules
from occd.execution.program import Command, Program
from occd.execution.tail import Tail
from occd.languages import Language
from occd.languages.installed import Installed
from occd.model import File, Limits, Outcome
from occd.patterns import FLAGS
from occd.sandbox import Given, Run, Sandbox, Sink, Tree

TEXT = "naïve → 日本 🎈"
WORDS = ("two words", "'single' \"double\"", "$(id) ${HOME} %s", "--version", "日本")
_VALUE = "a value"
_EXIT_CODE = 3
_LONG_S = 20.0
_SHORT_S = 1.5


class Broken(Exception):
    """A promise that a language does not keep, in words."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A compiler or a program that has ended, with all of its output."""

    outcome: Outcome
    limits: Limits
    stdout: str
    stderr: str

    def __str__(self) -> str:
        how = self.outcome.signal or f"exit code {self.outcome.exit_code}"
        if met := self.outcome.limit:
            how = f"a stop at its limit of {rules.met(met, getattr(self.limits, met))}"
        return f"{how}, stdout {self.stdout[-1000:]!r}, stderr {self.stderr[-1000:]!r}"


class _Options(TypedDict, total=False):
    stdin: str
    args: Sequence[str]
    env: Sequence[tuple[str, str]]
    beside: Sequence[File]


@dataclass(frozen=True, slots=True)
class Trial:
    """One version of a language."""

    sandbox: Sandbox
    language: Language
    installed: Installed

    async def run(
        self,
        source: str,
        *,
        stdin: str = "",
        args: Sequence[str] = (),
        env: Sequence[tuple[str, str]] = (),
        beside: Sequence[File] = (),
        cpu_time: float = _LONG_S,
    ) -> list[Stage]:
        """The stages of a program. The last is its end; a compiler that fails is the only one.

        Raises SandboxFailed."""
        language, content = self.language, source.encode()
        files = [File(language.source_name(content), content), *beside]
        most = replace(language.limits, cpu_time=cpu_time, wall_time=60.0)
        program = Program(language, self.installed, files[0].name, files)
        stages: list[Stage] = []
        async with self.sandbox.cell(language, files, most, self.installed.root) as cell:

            async def stage(command: Command, tree: Tree | None, *, keep: bool) -> Tree | None:
                out, err, tail = bytearray(), bytearray(), Tail()

                def told(data: bytes) -> None:
                    err.extend(data)
                    tail.add("stderr", data)

                run = Run(
                    command.argv,
                    tuple(command.env),
                    command.limits,
                    Sink(command.limits.output, out.extend),
                    Sink(command.limits.output, told),
                    Given(b"" if keep else stdin.encode()),
                    tree=tree,
                    keep=keep,
                )
                ended = await cell.run(run)
                said = out.decode(errors="replace"), err.decode(errors="replace")
                outcome = ended.outcome if keep else language.judged(ended.outcome, tail.text)
                stages.append(Stage(outcome, command.limits, *said))
                return ended.tree

            tree = None
            if program.is_compiled:
                tree = await stage(program.to_compile(), None, keep=True)
                if not stages[-1].outcome.succeeded:
                    return stages
            await stage(program.to_run(args, env, most), tree, keep=False)
        return stages

    async def wrote(self, source: str, output: str, **given: Unpack[_Options]) -> list[Stage]:
        """The stages of a program that ends well, and writes nothing else. Raises Broken."""
        stages = await self.run(source, **given)
        for stage in stages:
            if not stage.outcome.succeeded:
                raise Broken(f"it ended with {stage}")
        *compiled, ran = stages
        if self._plain(ran.stdout) != output:
            raise Broken(f"it wrote {self._plain(ran.stdout)!r} instead of {output!r}")
        others = [ran.stderr, *(said for each in compiled for said in (each.stdout, each.stderr))]
        if more := "".join(map(self._plain, others)):
            raise Broken(f"it also wrote {more!r}: name this in `banner` if it always comes")
        return stages

    def _plain(self, said: str) -> str:
        """Without what the tools always write."""
        banner = self.language.banner
        try:
            return regex.sub(banner, "", said, flags=regex.MULTILINE, timeout=1) if banner else said
        except TimeoutError:
            raise Broken("`banner` takes more than a second") from None


async def hello(trial: Trial) -> list[Stage]:
    return await trial.wrote(trial.language.hello, trial.language.hello_output)


async def _example(trial: Trial) -> None:
    language = trial.language
    await trial.wrote(language.example, language.example_output, stdin=language.example_stdin)


async def _wrong(trial: Trial) -> None:
    language = trial.language
    stages = await trial.run(_source(trial, "wrong"))
    stage = stages[-1]
    if stage.outcome.succeeded or stage.outcome.limit:
        raise Broken(f"a wrong program ended with {stage}")
    if not (stage.stdout + stage.stderr).strip():
        raise Broken("nothing was said of a wrong program")
    compiled = bool(language.compile) and len(stages) == 1
    said = told_of_places(language, stage, compiled=compiled)
    line = language.proof.wrong_line
    if line is not None and line not in lines_told(language, said, compiled=compiled):
        raise Broken(f"no pattern of `problems` finds line {line} in {said[-2000:]!r}")


def told_of_places(language: Language, stage: Stage, *, compiled: bool) -> str:
    """The text of a compiler or a program in which a client's patterns look."""
    if compiled or any(each.stdout for each in language.problems if each.stage == "run"):
        return stage.stdout + stage.stderr
    return stage.stderr


def lines_told(language: Language, said: str, *, compiled: bool) -> set[int]:
    """The lines of the main file that the language's patterns find in what its tools said."""
    stage = "compile" if compiled else "run"
    expressions = [
        expression
        for each in language.problems
        if each.stage == stage
        for expression in (each.pattern, each.frame, each.end)
        if expression
    ]
    found = (
        match.groupdict()
        for expression in expressions
        for match in re.finditer(f"^(?:{expression})", said, FLAGS)
    )
    return {int(each["line"]) for each in found if each.get("line") and _is_main(language, each)}


def _is_main(language: Language, groups: Mapping[str, str | None]) -> bool:
    """Whether the place is in the main file, which may have a name by its source."""
    file = PurePosixPath(groups.get("file") or language.file_name)
    main = PurePosixPath(language.file_name)
    return file.name == main.name or (
        language.file_name_pattern is not None and file.suffix == main.suffix
    )


async def _echo(trial: Trial) -> None:
    await trial.wrote(_source(trial, "echo"), f"{TEXT}\n", stdin=f"{TEXT}\n")


async def _arguments(trial: Trial) -> None:
    expected = "".join(f"<{word}>\n" for word in (*WORDS, _VALUE))
    env = [("OCCD_TEST", _VALUE)]
    await trial.wrote(_source(trial, "arguments"), expected, args=WORDS, env=env)


async def _exits(trial: Trial) -> None:
    stage = (await trial.run(_source(trial, "exits")))[-1]
    if stage.outcome.exit_code != _EXIT_CODE:
        raise Broken(f"it ended with {stage} instead of exit code {_EXIT_CODE}")


async def _loops(trial: Trial) -> None:
    _meets("cpu_time", await trial.run(_source(trial, "loops"), cpu_time=_SHORT_S))


async def _fills(trial: Trial) -> None:
    _meets("memory", await trial.run(_source(trial, "fills")))


def _meets(limit: str, stages: Sequence[Stage]) -> None:
    ended = stages[-1]
    if ended.outcome.limit != limit:
        told = rules.met(limit, getattr(ended.limits, limit))
        raise Broken(f"it did not meet its limit of {told}, but ended with {ended}")


def _source(trial: Trial, name: str) -> str:
    source: str = getattr(trial.language.proof, name)
    return source


_Proof = Callable[[Trial], Awaitable[object]]
PROOFS: Mapping[str, _Proof] = {
    "hello": hello,
    "example": _example,
    "wrong": _wrong,
    "echo": _echo,
    "arguments": _arguments,
    "exits": _exits,
    "loops": _loops,
    "fills": _fills,
}
"""By their names. Each raises Broken, and SandboxFailed for a fault of ours."""


@dataclass(frozen=True, slots=True)
class Form:
    """How a source file from elsewhere may differ. `strip` is the word that takes it away (`Language`)."""

    told: str
    strip: Literal["bom", "cr"]
    put: Callable[[str], str]


FORMS = (
    Form(r"with lines that end with \r\n", "cr", lambda source: source.replace("\n", "\r\n")),
    Form("with a byte order mark", "bom", lambda source: f"\ufeff{source}"),
)


async def wrong_in(form: Form, trial: Trial) -> str | None:
    """Tries hello and the example in this form. Returns words for the first fault, if there is one. Raises
    SandboxFailed."""
    language = trial.language
    written = replace(language, hello=form.put(language.hello), example=form.put(language.example))
    for name in ("hello", "example"):
        try:
            await PROOFS[name](replace(trial, language=written))
        except Broken as error:
            return f"{name}: {error}"
    return None


def unproved(language: Language, name: str) -> str | None:
    """Why a language has no program for this proof; None when it has."""
    if name in ("hello", "example") or getattr(language.proof, name) is not None:
        return None
    if name == "echo" and language.stdin != "input":
        return "its programs have no input"
    reasons = (why for unsaid, why in language.proof.cannot.items() if unsaid == name)
    return next(reasons, "its file has no program for it, and does not say why")
