"""Which languages are proved, and the table of what came of it."""

from collections.abc import Container, Sequence
from dataclasses import dataclass, field

import pytest
from _pytest.mark import ParameterSet
from sandboxed import Lab

from occd.images import describe
from occd.languages import Language
from occd.languages.debian import RELEASES, of_machine
from occd.languages.installed import Installed
from occd.languages.installing import in_set
from occd.languages.loading import load_languages
from occd.proving import Stage, Trial


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
    """Languages that are not here, by their ids."""
    left: dict[tuple[str, str], str] = field(default_factory=dict)
    """Proofs that a language has no program for, with the reason of its file."""

    def note_hello(self, language: Language, installed: Installed, stages: Sequence[Stage]) -> None:
        *compiled, ran = (each.outcome for each in stages)
        compile_s = sum(each.cpu_time for each in compiled)
        noted = Hello(language.name, installed.version, compile_s, ran.cpu_time, ran.memory)
        self.hellos.append(noted)

    @staticmethod
    def of(config: pytest.Config) -> "Tried":
        return config.stash.setdefault(_TRIED, Tried())


_TRIED = pytest.StashKey[Tried]()


def proved(config: pytest.Config) -> list[Language]:
    """Those of the set that this Debian or the image has; `tried` languages are in none."""
    image = config.getoption("image")
    debian = RELEASES[describe(image).release] if image else of_machine()
    languages = in_set(load_languages().values(), config.getoption("set"), debian)
    if image:
        had = describe(image).languages
        languages = [each for each in languages if each.id in had]
    return languages


def among(config: pytest.Config, ids: Container[str]) -> list[ParameterSet]:
    """Those of the set for a test of these languages."""
    return [pytest.param(each, id=each.id) for each in proved(config) if each.id in ids]


def trial_of(lab: Lab, language: Language, config: pytest.Config) -> Trial:
    """A language that is not here is skipped where the options say so."""
    if language.id not in lab.sandbox.available and config.getoption("missing") == "skip":
        pytest.skip(f"{language.name} is not installed")
    return Trial(lab.sandbox, language, lab.sandbox.available[language.id][0])


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
    for told in tried.left.values():
        reporter.write_line(f"not proved: {told}")
