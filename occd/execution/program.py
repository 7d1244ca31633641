"""A program as its author sent it, and the commands of its language."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from occd.languages import Given, Language
from occd.languages.installed import Installed, InstalledFormatter
from occd.model import File, Limits


@dataclass(frozen=True, slots=True)
class Command:
    """What a jail is given to run: without a shell."""

    language: Language
    argv: Sequence[str]
    env: Sequence[tuple[str, str]]
    limits: Limits


@dataclass(frozen=True, slots=True)
class Program:
    language: Language
    installed: Installed
    main: str
    files: Sequence[File]
    compile_args: Sequence[str] = ()
    formatter: InstalledFormatter | None = None

    @property
    def is_compiled(self) -> bool:
        return bool(self.language.compile)

    def to_compile(self) -> Command:
        limits = self.language.compile_limits
        return self._command(self.language.compile_argv(self._given(limits)), limits)

    def to_run(
        self, args: Sequence[str], env: Sequence[tuple[str, str]], limits: Limits
    ) -> Command:
        return self._command([*self.language.run_argv(self._given(limits)), *args], limits, env)

    def to_format(self, limits: Limits) -> Command:
        assert self.formatter
        given = replace(self._given(limits), binary=self.formatter.binary)
        return self._command(self.language.format_argv(self.formatter.formatter, given), limits)

    @property
    def source(self) -> bytes:
        """Of the main file, as the language's tools can read it."""
        readable = self.language.readable(self.files)
        return next(file.content for file in readable if file.name == self.main)

    def _given(self, limits: Limits) -> Given:
        return Given(
            self.installed.binary,
            self.installed.version,
            self.main,
            self.files,
            self.compile_args,
            limits.memory,
        )

    def _command(
        self, argv: Sequence[str], limits: Limits, env: Sequence[tuple[str, str]] = ()
    ) -> Command:
        usual = self.language.environment(self.installed.binary, self.installed.version)
        return Command(self.language, argv, [*usual.items(), *env], limits)
