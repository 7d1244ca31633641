"""A program as its author sent it, and the commands of its language."""

from collections.abc import Sequence
from dataclasses import dataclass

from occd.languages import Installed, InstalledFormatter, Language
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
        return self.language.compile is not None

    def to_compile(self) -> Command:
        assert self.language.compile
        return self._command(self.language.compile, self.language.compile_limits)

    def to_run(
        self, args: Sequence[str], env: Sequence[tuple[str, str]], limits: Limits
    ) -> Command:
        return self._command(self.language.run, limits, args, env)

    def to_format(self, limits: Limits) -> Command:
        assert self.formatter
        command, binary = self.formatter.formatter.command, self.formatter.binary
        return self._command(command, limits, binary=binary)

    @property
    def source(self) -> bytes:
        """Of the main file, as the language's tools can read it."""
        readable = self.language.readable(self.files)
        return next(file.content for file in readable if file.name == self.main)

    def _command(
        self,
        template: tuple[str, ...],
        limits: Limits,
        args: Sequence[str] = (),
        env: Sequence[tuple[str, str]] = (),
        binary: str | None = None,
    ) -> Command:
        binary = binary or self.installed.binary
        argv = self.language.argv(
            template, binary, self.main, self.files, self.compile_args, limits.memory
        )
        return Command(self.language, [*argv, *args], [*self.language.env.items(), *env], limits)
