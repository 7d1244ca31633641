"""What a compiler says, and few understand, gets a sentence: `hints` of the language's file, the `message` of
the result. Which languages are tried is as in test_proof.py."""

import pytest
from proving import proved
from sandboxed import Lab

from occd.languages import Language
from occd.proving import Trial

pytestmark = pytest.mark.promise

HINTED = {
    "c": ("char a[1 << 29] = {1};\nint main(void) { return a[5]; }\n", "Large arrays"),
    "cobol": (
        'IDENTIFICATION DIVISION.\nPROGRAM-ID. MAIN.\nPROCEDURE DIVISION.\n    DISPLAY "x".\n',
        "-free",
    ),
}
"""Programs, and a part of the sentence."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Those of the set."""
    languages = [each for each in proved(metafunc.config) if each.id in HINTED]
    metafunc.parametrize("language", languages, ids=[each.id for each in languages])


async def test_a_compiler_that_says_little_gets_a_sentence(
    lab: Lab, language: Language, request: pytest.FixtureRequest
) -> None:
    if language.id not in lab.sandbox.available and request.config.getoption("missing") == "skip":
        pytest.skip(f"{language.name} is not installed")
    source, part = HINTED[language.id]
    installed = lab.sandbox.available[language.id][0]
    (compiled,) = await Trial(lab.sandbox, language, installed).run(source)
    assert part in (language.hint(compiled.outcome, compiled.stderr) or "")
