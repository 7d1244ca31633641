"""The start finds out which languages can run (`occd/sandbox/probe.py`)."""

import json
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import occd.sandbox.nsjail
import occd.sandbox.probe
from occd.config import Config
from occd.data import data_folder
from occd.errors import SandboxFailed, SandboxUnavailable
from occd.languages import Language
from occd.languages.loading import load_languages
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


def described(id: str, **keys: str) -> str:
    """A language's file: Bash's, with other values of these keys."""
    text = (data_folder("sandbox") / "languages/bash.toml").read_text()
    changed = {"id": f'"{id}"', "name": f'"{id}"', "aliases": "[]", "support": '"popular"'} | keys
    for key, value in changed.items():
        escaped = f"{key} = {value}".replace("\\", r"\\")
        text = re.sub(rf"(?m)^{key} = .*$", escaped, text)
    return text


@pytest.fixture
def known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that the sandbox has its languages from, with Bash in it."""
    folder = tmp_path / "languages"
    folder.mkdir()
    shutil.copy(data_folder("sandbox") / "languages/bash.toml", folder)
    monkeypatch.setattr(occd.sandbox.nsjail, "load_languages", lambda: load_languages(folder))
    limits = replace(occd.sandbox.probe._PROBE_LIMITS, cpu_time=1.0, wall_time=2.0)
    monkeypatch.setattr(occd.sandbox.probe, "_PROBE_LIMITS", limits)
    return folder


async def test_a_compiler_that_hangs_or_floods_costs_itself_alone(
    known: Path, tmp_path: Path
) -> None:
    for id, program, argument in (("hangs", "sleep", "1000"), ("floods", "yes", "1.0")):
        keys = {"candidates": f'["/usr/bin/{program}"]', "version": f'["{{bin}}", "{argument}"]'}
        (known / f"{id}.toml").write_text(described(id, **keys))
    (known / "other.toml").write_text(described("other"))
    async with open_sandbox(Config(), tmp_path / "cache", soon=True) as sandbox:
        assert set(sandbox.available) == {"bash"}
        await sandbox.look_further()
        assert set(sandbox.available) == {"bash", "other"}


async def test_a_language_that_takes_too_long_to_look_for_costs_itself_alone(known: Path) -> None:
    keys = {"candidates": '["/usr/share/*/*/*", "/usr/lib/*/*/*"]'}
    (known / "all.toml").write_text(described("all", **keys))
    async with open_sandbox(Config()) as sandbox:
        assert set(sandbox.available) == {"bash"}
    async with open_sandbox(Config(), only="all") as sandbox:
        told = await occd.sandbox.probe.why_unanswered(sandbox, sandbox.languages["all"])
    why = "looking for languages in the machine's files ended with output"
    assert told == [f"`candidates`, with those of `formatters`: {why}"]


async def test_a_second_start_asks_nothing_that_was_answered(
    known: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_sandbox(Config(), tmp_path / "cache") as sandbox:
        assert set(sandbox.available) == {"bash"}
    monkeypatch.setattr(occd.sandbox.probe, "_ended", None)
    async with open_sandbox(Config(), tmp_path / "cache", soon=True) as sandbox:
        assert set(sandbox.available) == {"bash"}
        await sandbox.look_further()


async def test_a_program_that_did_not_answer_is_asked_at_the_next_start(
    known: Path, tmp_path: Path
) -> None:
    """A library or an interpreter may have come, without a change of the program."""
    keys = {"candidates": '["/usr/bin/cat"]', "version": '["{bin}", "/tmp/absent"]'}
    (known / "later.toml").write_text(described("later", **keys))
    cache = tmp_path / "cache"
    async with open_sandbox(Config(), cache) as sandbox:
        assert set(sandbox.available) == {"bash"}
    answers = json.loads(cache.read_text())
    assert answers
    assert all(answers.values())


async def test_an_answer_that_is_no_version_costs_its_program_alone(
    known: Path, tmp_path: Path
) -> None:
    keys = {"candidates": '["/usr/bin/printf"]', "version": '["{bin}", "1.%05000d", "7"]'}
    (known / "long.toml").write_text(described("long", **keys))
    (known / "other.toml").write_text(described("other"))
    async with open_sandbox(Config(), tmp_path / "cache", soon=True) as sandbox:
        assert await sandbox.look_further()
        assert set(sandbox.available) == {"bash", "other"}


async def test_what_could_not_be_asked_beside_programs_is_asked_again(
    known: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And costs no other language its turn."""
    (known / "other.toml").write_text(described("other"))
    (known / "third.toml").write_text(described("third"))
    async with open_sandbox(Config(), tmp_path / "cache", soon=True) as sandbox:
        with monkeypatch.context() as patch:
            fail_for("other", patch)
            assert not await sandbox.look_further()
            assert set(sandbox.available) == {"bash", "third"}
        assert await sandbox.look_further()
        assert set(sandbox.available) == {"bash", "other", "third"}


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
