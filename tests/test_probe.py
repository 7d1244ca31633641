"""The start finds out which languages can run (`occd/sandbox/probe.py`)."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from occd.config import Config
from occd.errors import SandboxFailed, SandboxUnavailable
from occd.languages import Language
from occd.sandbox import Cell, Ended, Run, open_sandbox
from occd.sandbox.doctor import Grade, examine
from occd.sandbox.nsjail import _Cell, _Nsjail


def fail_for(language_id: str, patch: pytest.MonkeyPatch) -> None:
    """No cell can be made for this language."""
    cell = _Nsjail.cell

    @asynccontextmanager
    async def failing(self: _Nsjail, language: Language, *given: Any) -> AsyncIterator[Cell]:
        if language.id == language_id:
            raise SandboxFailed("no jail has come to stand")
        async with cell(self, language, *given) as made:
            yield made

    patch.setattr(_Nsjail, "cell", failing)


async def test_a_language_that_nobody_could_ask_is_not_taken_for_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be missing as long as occd lives, although the machine was only busy at the start."""
    with monkeypatch.context() as patch:
        fail_for("python", patch)
        told = "/usr/bin/.* in the machine's files could not be tried: no jail has come to stand"
        with pytest.raises(SandboxUnavailable, match=told):
            async with open_sandbox(Config(), tmp_path / "cache"):
                pass
    async with open_sandbox(Config(), tmp_path / "cache", "python") as sandbox:
        assert set(sandbox.available) == {"python"}


async def test_a_sandbox_that_fails_at_the_start_is_one_finding_of_the_doctor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fail_for("python", monkeypatch)
    *others, last = await examine(Config())
    assert others
    assert (last.grade, "no jail has come to stand" in last.text) == (Grade.BAD, True)


async def test_a_trial_of_tracing_that_failed_does_not_say_that_nothing_can_be_traced(
    language_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = _Cell.run

    async def failing(self: _Cell, run_: Run, **given: Any) -> Ended:
        if run_.trace:
            raise SandboxFailed("the jail's init was killed, not by us")
        return await run(self, run_, **given)

    monkeypatch.setattr(_Cell, "run", failing)
    with pytest.raises(
        SandboxUnavailable, match="a trial of tracing in the machine's files failed"
    ):
        async with open_sandbox(Config(), language_cache):
            pass
