"""A test that failed in CI gets a second chance, and no more than that (`again.py`)."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

AGAIN = Path(__file__).with_name("again.py")
FAILS_FIRST = """
import pathlib, pytest

def test_it():
    times = pathlib.Path("times")
    number = int(times.read_text()) if times.exists() else 0
    times.write_text(str(number + 1))
    assert number > 0
"""


@pytest.mark.parametrize(
    ("then", "passes", "times"),
    [
        ("    assert number < 3", False, 4),
        ("    pytest.skip('not here any more')", False, 2),
        ("    pytest.xfail('known')", True, 4),
    ],
)
def test_what_failed_must_pass_three_times(
    tmp_path: Path, then: str, passes: bool, times: int
) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]")
    (tmp_path / "test_it.py").write_text(FAILS_FIRST + then)
    argv = [sys.executable, str(AGAIN), "-q"]
    plain = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}  # which take seconds to load
    done = subprocess.run(argv, cwd=tmp_path, env=plain, capture_output=True, text=True)
    assert (done.returncode == 0) == passes, done.stdout
    assert (tmp_path / "times").read_text() == str(times), done.stdout
