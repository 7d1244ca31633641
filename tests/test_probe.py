"""What is found out at the start of which languages can run (`occd/sandbox/probe.py`)."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from occd.config import Config
from occd.errors import SandboxFailed
from occd.languages import Language
from occd.sandbox import Cell, open_sandbox
from occd.sandbox.nsjail import _Nsjail


async def test_a_language_that_nobody_could_ask_is_not_taken_for_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be missing as long as occd lives, although the machine was only busy at the start."""
    cell = _Nsjail.cell

    @asynccontextmanager
    async def failing(self: _Nsjail, language: Language, *given: Any) -> AsyncIterator[Cell]:
        if language.id == "python":
            raise SandboxFailed("no jail has come to stand")
        async with cell(self, language, *given) as made:
            yield made

    with monkeypatch.context() as patch:
        patch.setattr(_Nsjail, "cell", failing)
        with pytest.raises(SandboxFailed, match="no jail has come to stand"):
            async with open_sandbox(Config(), tmp_path / "cache"):
                pass
    async with open_sandbox(Config(), tmp_path / "cache", "python") as sandbox:
        assert set(sandbox.available) == {"python"}
