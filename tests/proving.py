"""Which languages are proved, and the table of what came of it."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from sandboxed import Ran

from occd.languages import Installed, Language
from occd.languages.fields import SUPPORT
from occd.languages.loading import load_languages

SETS = ("core", "popular", "all")


@dataclass
class Hello:
    language: str
    version: str
    compile_s: float
    run_s: float
    memory: int


@dataclass
class Tried:
    hellos: list[Hello] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)

    @staticmethod
    def of(config: pytest.Config) -> "Tried":
        return config.stash.setdefault(_TRIED, Tried())


_TRIED = pytest.StashKey[Tried]()


def proved(config: pytest.Config) -> list[Language]:
    """Those of the set; `tried` languages are in none."""
    wanted = SUPPORT[: SETS.index(config.getoption("set")) + 1]
    return [each for each in load_languages().values() if each.support in wanted]


def note_hello(
    config: pytest.Config, language: Language, installed: Installed, outcomes: Sequence[Ran]
) -> None:
    *compiled, ran = outcomes
    compile_s = sum(each.cpu_time for each in compiled)
    noted = Hello(language.name, installed.version, compile_s, ran.cpu_time, ran.memory)
    Tried.of(config).hellos.append(noted)


def print_table(config: pytest.Config, reporter: pytest.TerminalReporter) -> None:
    """CPU seconds of hello's compiler and of hello, and its memory."""
    tried = Tried.of(config)
    if not tried.hellos:
        return
    reporter.section("languages")
    reporter.write_line(f"{'language':32} {'version':16} {'compile':>9} {'hello':>9} {'memory':>9}")
    for each in tried.hellos:
        times = f"{each.compile_s:7.2f} s {each.run_s:7.2f} s {each.memory / 2**20:5.0f} MiB"
        reporter.write_line(f"{each.language:32} {each.version:16} {times}")
    for told in tried.skipped.values():
        reporter.write_line(f"skipped: {told}")
