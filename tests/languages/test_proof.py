"""Each language keeps what its file promises (`occd/proving.py`). `make test` proves the core; `make
test-languages` proves all that is installed, or with SET= the whole of a set."""

import pytest
import trio
from proving import Tried, proved
from sandboxed import Lab

from occd.languages import Language
from occd.languages.fields import Unsaid
from occd.proving import FORMS, PROOFS, Form, Trial, hello, unproved, wrong_in

pytestmark = pytest.mark.promise


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    languages = proved(metafunc.config)
    if "name" in metafunc.fixturenames:
        programs = [
            pytest.param(language, name, id=f"{language.id}-{name}")
            for language in languages
            for name in PROOFS
            if name not in ("hello", "example") and not unproved(language, name)
        ]
        metafunc.parametrize(("language", "name"), programs)
    else:
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


def test_what_cannot_be_proved_of_a_language_is_told(language: Language) -> None:
    proof = language.proof
    untold = {name for name in PROOFS if "does not say why" in (unproved(language, name) or "")}
    assert untold == set()
    said: set[Unsaid] = {name for name in proof.cannot if getattr(proof, name) is not None}
    assert said == set()
    assert (language.stdin == "input") == bool(language.example_stdin)


async def test_each_version_runs_hello(
    tried: Lab, language: Language, request: pytest.FixtureRequest
) -> None:
    for installed in tried.sandbox.available[language.id]:
        stages = await hello(Trial(tried.sandbox, language, installed))
        Tried.of(request.config).note_hello(language, installed, stages)
    for name in PROOFS:
        if why := unproved(language, name):
            Tried.of(request.config).left[language.id, name] = f"{language.name}, {name}: {why}"


async def test_each_version_runs_its_example(tried: Lab, language: Language) -> None:
    for installed in tried.sandbox.available[language.id]:
        await PROOFS["example"](Trial(tried.sandbox, language, installed))


@pytest.mark.parametrize("form", FORMS, ids=[each.strip for each in FORMS])
async def test_it_reads_a_file_from_windows(tried: Lab, language: Language, form: Form) -> None:
    newest = tried.sandbox.available[language.id][0]
    assert await wrong_in(form, Trial(tried.sandbox, language, newest)) is None


async def test_it_is_proved_by_a_program(tried: Lab, language: Language, name: str) -> None:
    newest = tried.sandbox.available[language.id][0]
    await PROOFS[name](Trial(tried.sandbox, language, newest))
