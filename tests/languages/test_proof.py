"""Each language keeps what its file promises, by the programs that the file brings. `make test` proves the
core; `make test-languages` proves all that is installed, or the whole of a set with SET=."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import get_args

import pytest
import trio
from proving import Tried, note_hello, proved
from sandboxed import Lab, Ran

from occd.languages import Language
from occd.languages.fields import Unsaid
from occd.patterns import FLAGS, Pattern

pytestmark = pytest.mark.promise

TEXT = "naïve → 日本 🎈"
WORDS = ["two words", "'single' \"double\"", "$(id) ${HOME} %s", "--version", "日本"]
PROGRAMS: tuple[Unsaid, ...] = get_args(Unsaid)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "language" in metafunc.fixturenames:
        languages = proved(metafunc.config)
        metafunc.parametrize("language", languages, ids=[each.id for each in languages])


@pytest.fixture
async def tried(lab: Lab, language: Language, request: pytest.FixtureRequest) -> Lab:
    """A language that is not here is skipped where the options say so."""
    await trio.lowlevel.checkpoint()  # only an async fixture may have `lab`
    if language.id not in lab.sandbox.available:
        told = f"{language.name} is not installed: {language.install}"
        if request.config.getoption("missing") == "skip":
            Tried.of(request.config).skipped[language.id] = told
            pytest.skip(told)
        pytest.fail(told)
    return lab


def program(language: Language, name: Unsaid) -> str:
    source: str | None = getattr(language.proof, name)
    return source if source is not None else pytest.skip(language.proof.cannot[name])


def without_banner(language: Language, said: bytes) -> str:
    return re.sub(language.banner or "(?!)", "", said.decode(), flags=re.MULTILINE)


def check(language: Language, outcomes: Sequence[Ran], output: str) -> None:
    """Each stage ended well, and nothing was written but the output and what the file calls the banner."""
    assert [each.succeeded for each in outcomes] == [True] * len(outcomes), outcomes
    *compiled, ran = outcomes
    assert without_banner(language, ran.stdout) == output
    others = [ran.stderr, *(said for each in compiled for said in (each.stdout, each.stderr))]
    assert "".join(without_banner(language, said) for said in others) == ""


def test_what_a_language_cannot_say_is_told(language: Language) -> None:
    said = {name for name in PROGRAMS if getattr(language.proof, name) is not None}
    if language.stdin != "input":
        said.add("echo")
    assert said | set(language.proof.cannot) == set(PROGRAMS)
    assert (language.stdin == "input") == bool(language.example_stdin)


async def test_each_version_runs_hello(
    tried: Lab, language: Language, request: pytest.FixtureRequest
) -> None:
    for installed in tried.sandbox.available[language.id]:
        outcomes = await tried.program(language.id, language.hello, installed=installed)
        check(language, outcomes, language.hello_output)
        note_hello(request.config, language, installed, outcomes)


async def test_each_version_runs_its_example(tried: Lab, language: Language) -> None:
    stdin = language.example_stdin
    for installed in tried.sandbox.available[language.id]:
        outcomes = await tried.program(
            language.id, language.example, stdin=stdin, installed=installed
        )
        check(language, outcomes, language.example_output)


async def test_a_wrong_program_fails_and_its_line_is_told(tried: Lab, language: Language) -> None:
    outcome = (await tried.program(language.id, program(language, "wrong")))[-1]
    assert outcome.limit is None
    assert not outcome.succeeded, outcome
    said = (outcome.stdout + outcome.stderr).decode()
    assert said.strip()
    if language.proof.wrong_line is not None:
        assert language.proof.wrong_line in set(lines_told(language, said)), said


def lines_told(language: Language, said: str) -> Iterator[int]:
    """The lines that the language's patterns find; the page looks closer (`test_places.py`)."""
    for each in language.problems:
        for expression in expressions(each):
            for found in re.finditer(f"^(?:{expression})", said, FLAGS):
                if found.groupdict().get("line"):
                    yield int(found["line"])


def expressions(pattern: Pattern) -> Iterator[str]:
    yield from filter(None, (pattern.pattern, pattern.frame, pattern.end))


async def test_text_beyond_ascii_comes_in_and_goes_out(tried: Lab, language: Language) -> None:
    outcomes = await tried.program(language.id, program(language, "echo"), stdin=f"{TEXT}\n")
    check(language, outcomes, f"{TEXT}\n")


async def test_arguments_arrive_as_they_were_given(tried: Lab, language: Language) -> None:
    source, env = program(language, "arguments"), [("OCCD_TEST", "a value")]
    outcomes = await tried.program(language.id, source, args=WORDS, env=env)
    check(language, outcomes, "".join(f"<{word}>\n" for word in [*WORDS, "a value"]))


async def test_the_exit_code_is_the_programs(tried: Lab, language: Language) -> None:
    outcome = (await tried.program(language.id, program(language, "exits")))[-1]
    assert (outcome.exit_code, outcome.signal, outcome.limit) == (3, None, None), outcome


async def test_a_program_that_never_ends_meets_the_time_limit(
    tried: Lab, language: Language
) -> None:
    limits = replace(language.limits, cpu_time=1.5, wall_time=20.0)
    outcome = (await tried.program(language.id, program(language, "loops"), limits=limits))[-1]
    assert outcome.limit == "cpu_time", outcome


async def test_a_program_that_takes_all_memory_meets_the_memory_limit(
    tried: Lab, language: Language
) -> None:
    limits = replace(language.limits, cpu_time=20.0, wall_time=40.0)
    outcome = (await tried.program(language.id, program(language, "fills"), limits=limits))[-1]
    assert outcome.limit == "memory", outcome
