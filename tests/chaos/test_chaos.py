"""The whole cluster under faults, an emptied Redis, orderly stops, and upgrades: see `chaos.py` and
`upgrade.py`, which are run here in a network namespace of their own."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from servers import SETS

HERE = Path(__file__).parent


Run = Callable[..., None]


@pytest.fixture
def run_chaos(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """A form, for so many seconds, with so many from fault to fault."""

    def run(form: str, seconds: int, every: int, *more: str) -> None:
        options = (f"--form={form}", f"--seconds={seconds}", f"--every={every}", *more)
        printed = apart("chaos.py", *options, seconds=seconds, folder=tmp_path)
        with capsys.disabled():
            print("", *printed.splitlines()[:1], *printed.splitlines()[-1:], sep="\n")

    return run


def apart(program: str, *options: str, seconds: int, folder: Path) -> str:
    """Fails with what it printed, which has the seed that repeats the faults."""
    command = ["unshare", "--net", "--mount", sys.executable, str(HERE / program)]
    done = subprocess.run(
        [*command, *options],
        env={"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
        | {"PYTHONPATH": str(HERE.parent), "TMPDIR": str(folder)}
        | {"SERVERS": os.environ.get("SERVERS", "")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=seconds + 600,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:]
    return done.stdout


def test_whatever_is_killed_held_or_cut_off_each_submission_ends_and_is_paid_for_once(
    run_chaos: Run,
) -> None:
    run_chaos("faults", 40, 6, "--quotas")


def test_after_redis_was_emptied_what_was_unfinished_ends_once(run_chaos: Run) -> None:
    run_chaos("empty", 30, 6, "--quotas")


def test_an_orderly_stop_of_any_role_costs_nobody_an_attempt(run_chaos: Run) -> None:
    run_chaos("drain", 1, 1, "--quotas")


def test_nodes_that_are_a_field_behind_are_replaced_under_load(tmp_path: Path) -> None:
    apart("upgrade.py", "--field=artifacts", seconds=0, folder=tmp_path)


@pytest.mark.long
def test_nodes_that_do_not_know_a_field_of_tests_are_replaced_under_load(tmp_path: Path) -> None:
    apart("upgrade.py", "--field=judging.tests.weight", seconds=0, folder=tmp_path)


@pytest.mark.long
def test_chaos_for_five_minutes(run_chaos: Run) -> None:
    run_chaos("faults", 300, 10, "--quotas")


@pytest.mark.long
def test_chaos_with_an_emptied_redis_for_two_minutes(run_chaos: Run) -> None:
    run_chaos("empty", 120, 10, "--quotas")


@pytest.mark.long
def test_orderly_stops_for_two_minutes(run_chaos: Run) -> None:
    run_chaos("drain", 120, 10, "--quotas")


@pytest.mark.long
@pytest.mark.parametrize("servers", SETS)
def test_chaos_over_newer_servers(
    run_chaos: Run, servers: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    SETS[servers].command("true")  # their folder is made here: chaos has no way to a mirror
    monkeypatch.setenv("SERVERS", servers)
    run_chaos("faults", 40, 6, "--quotas")
    run_chaos("empty", 30, 6, "--quotas")
