"""The core of the sandbox's promises where occd has less than root's rights."""

import tempfile
from pathlib import Path

import pytest
from apart_places import promising, tried
from engine import Reached
from places import APART, Place


@pytest.mark.parametrize("where", APART)
def test_the_core_of_the_promises_is_kept(docker_engine: Reached, where: Place) -> None:
    with tempfile.TemporaryDirectory() as folder:
        outcomes, said = tried(where, docker_engine, Path(folder), "-m", "core", *promising())
    assert "held" in outcomes.values(), said
    failed = [name for name, outcome in outcomes.items() if outcome == "failed"]
    assert not failed, said
