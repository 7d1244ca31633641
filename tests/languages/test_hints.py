"""A message of a compiler that few understand gets a sentence: `hints` of the language's file,
the `message` of the result. The languages are those of test_proof.py."""

import pytest
from proving import among, trial_of
from sandboxed import Lab

from occd.languages import Language

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
    metafunc.parametrize("language", among(metafunc.config, HINTED))


async def test_a_compiler_that_says_little_gets_a_sentence(
    lab: Lab, language: Language, request: pytest.FixtureRequest
) -> None:
    source, part = HINTED[language.id]
    (compiled,) = await trial_of(lab, language, request.config).run(source)
    assert part in (language.hint(compiled.outcome, compiled.stderr) or "")
