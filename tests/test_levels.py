"""Properties of a sandbox: those that are told hold, those that do not hold are not told, and nothing starts
without one that is required."""

import os
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
from sandboxed import Lab
from serving import OCCD, serving
from walls import standing

import occd.sandbox.host
from occd.config import Config, SandboxConfig, load_config
from occd.errors import ConfigError
from occd.levels import (
    DEMANDED,
    LEVELS,
    PROPERTIES,
    Kind,
    holding,
    in_words,
    level,
    read_required,
    refuse_less,
)
from occd.sandbox import open_sandbox
from occd.sandbox.cgroup import find_cgroups
from occd.sandbox.doctor import Grade, examine

PATIENCE_S = 120
NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]


# Names


def test_a_level_stands_for_its_properties() -> None:
    assert read_required(["cpu", "separate"]) == ("own-uid", "memory", "cpu")
    assert read_required([]) == read_required(["basic"]) == ()
    for name, holds in LEVELS.items():
        assert read_required([name]) == holds
        assert level(holds) == name
    assert level((*PROPERTIES, "of-a-later-version")) == "virtual"
    assert level(("own-root", "own-kernel")) == "basic"


def test_each_property_is_told_by_its_own_name() -> None:
    for name in PROPERTIES:
        facts = {each.replace("-", "_"): each == name for each in PROPERTIES}
        assert holding(**facts) == (name,)


@pytest.mark.parametrize("kind", get_args(Kind))
def test_for_each_property_that_is_missing_one_line_says_what_to_do(kind: Kind) -> None:
    for name in PROPERTIES:
        with pytest.raises(ConfigError) as refused:
            refuse_less((name,), (), kind)
        said = str(refused.value)
        assert said.startswith(f"sandbox.require: {name}: not so here (level basic: no property)")
        assert f"for {name}, " in said
        assert "\n" not in said
    refuse_less(PROPERTIES, PROPERTIES, kind)
    with pytest.raises(ConfigError, match=r"sandbox.require: own-uid, own-kernel: not so here"):
        refuse_less(PROPERTIES, LEVELS["closed"], kind)


def test_in_a_container_memory_is_required_where_nothing_is_said() -> None:
    """There nobody may sample it."""
    refuse_less(None, (), "nsjail")
    with pytest.raises(ConfigError, match="memory: not so here"):
        refuse_less(None, ("own-root", "own-kernel"), "docker")
    refuse_less((), (), "docker")
    assert set(DEMANDED) == set(get_args(Kind))


def test_an_unknown_property_is_one_error_that_names_the_known_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sandbox.yaml").write_text("sandbox:\n  require: [memory, own-house]\n")
    with pytest.raises(ConfigError) as refused:
        load_config(tmp_path)
    assert str(refused.value) == (
        f"{tmp_path}/sandbox.yaml: sandbox.require: 'own-house' is no property of a sandbox and no level; "
        "the properties are own-uid, memory, cpu, own-root, own-kernel, and the levels basic, limited, "
        "separate, closed, virtual"
    )
    monkeypatch.setenv("OCCD_SANDBOX__REQUIRE", "memory, closed")
    assert load_config(tmp_path).sandbox.require == ("memory", "cpu", "own-root")


# What is told is so


@pytest.fixture(params=["as it is", "without control groups", "without the cpu controller"])
async def lab(
    request: pytest.FixtureRequest,
    nothing_left_over: None,
    language_cache: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Lab]:
    found = find_cgroups()
    if request.param == "without control groups":
        monkeypatch.setattr(occd.sandbox.host, "find_cgroups", lambda: None)
    elif request.param == "without the cpu controller":
        if found is None or found.cpu is None:
            pytest.skip("the controller cpu has no hierarchy of its own here")
        without = replace(found, cpu=None, shares_cpu=False)
        monkeypatch.setattr(occd.sandbox.host, "find_cgroups", lambda: without)
    async with open_sandbox(Config(), language_cache) as sandbox:
        yield Lab(sandbox)


async def test_the_properties_that_are_told_are_those_that_hold(lab: Lab) -> None:
    assert await standing(lab) == set(lab.sandbox.holds)


AS_NOBODY = """
import sys, trio
sys.path.insert(0, sys.argv[1])
from sandboxed import Lab
from walls import standing
from occd.config import Config
from occd.sandbox import open_sandbox
from occd.sandbox.cgroup import find_cgroups

async def main():
    async with open_sandbox(Config(), only="python") as sandbox:
        print(*sorted(await standing(Lab(sandbox))))
        print(*sorted(sandbox.holds))

trio.run(main)
"""


def as_nobody(*argv: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*NOBODY, *argv],
        cwd="/",
        env={"PYTHONPATH": os.pathsep.join(sys.path)} | environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_normal_user_is_told_what_holds(nothing_left_over: None) -> None:
    done = as_nobody(sys.executable, "-c", AS_NOBODY, Path(__file__).parent)
    assert done.returncode == 0, done.stderr
    seen, told = done.stdout.splitlines()
    assert seen == told
    assert "own-uid" not in told


# A start without a required property


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_normal_user_who_requires_users_apart_is_refused(tmp_path: Path) -> None:
    (tmp_path / "program.sh").write_text("echo ran")
    tmp_path.chmod(0o755)
    for folder in list(tmp_path.parents)[:3]:
        folder.chmod(folder.stat().st_mode | 0o011)
    done = as_nobody(OCCD, "run", tmp_path / "program.sh", OCCD_SANDBOX__REQUIRE="own-uid")
    assert (done.returncode, done.stdout) == (125, "")
    assert "occd: sandbox.require: own-uid: not so here" in done.stderr
    assert "run occd as root" in done.stderr
    assert done.stderr.count("\n") == 1


async def test_a_sandbox_that_lacks_what_is_required_is_not_opened(
    nothing_left_over: None, language_cache: Path
) -> None:
    config = Config(sandbox=SandboxConfig(require=("own-kernel",)))
    with pytest.raises(ConfigError, match=r"own-kernel: not so here .* runsc"):
        async with open_sandbox(config, language_cache):
            raise AssertionError("it was opened")
    bad = [each for each in await examine(config) if each.grade is Grade.BAD]
    assert ["own-kernel: not so here" in each.text for each in bad] == [True]


def test_a_server_without_a_required_property_does_not_start(tmp_path: Path) -> None:
    done = subprocess.run(
        [OCCD, "--roles=all", f"--data-dir={tmp_path}/data", "--listen=127.0.0.1:0"],
        env=os.environ
        | {"OCCD_SANDBOX__REQUIRE": "basic,own-kernel", "OCCD_METRICS__LISTEN": "null"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert (done.returncode, done.stdout) == (125, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("occd: sandbox.require: own-kernel: not so here")


# Who tells


def test_the_start_readiness_and_doctor_tell_what_holds(tmp_path: Path) -> None:
    doctor = subprocess.run([OCCD, "doctor"], cwd=tmp_path, capture_output=True, text=True)
    with serving(tmp_path / "data") as server:
        told = server.get("/readyz").json()["sandbox"]
        (line,) = [
            each for each in server.output.read_text().splitlines() if ": isolation: level " in each
        ]
    assert told["level"] == level(told["holds"])
    assert set(told["holds"]) <= set(PROPERTIES)
    assert f"isolation: {in_words(told['holds'])}; without " in line
    assert f"ok    {in_words(told['holds'])}; without " in doctor.stdout
    assert ("own-uid" in told["holds"]) == (os.geteuid() == 0)
