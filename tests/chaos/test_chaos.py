"""The whole cluster under faults, an emptied Redis, and orderly stops: see `chaos.py`, which is run here in
a network namespace of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def run_chaos(form: str, seconds: int, every: int, tmp_path: Path) -> None:
    """Fails with what it printed, which has the seed that repeats it."""
    command = ["unshare", "--net", "--mount", sys.executable, str(HERE / "chaos.py")]
    options = [f"--form={form}", f"--seconds={seconds}", f"--every={every}"]
    done = subprocess.run(
        [*command, *options],
        env={"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
        | {"PYTHONPATH": str(HERE.parent), "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=seconds + 600,
        check=False,
    )
    print(done.stdout[-6000:])
    assert done.returncode == 0, done.stdout[-6000:]


def test_whatever_is_killed_held_or_cut_off_each_submission_ends_once(tmp_path: Path) -> None:
    run_chaos("faults", 40, 6, tmp_path)


def test_after_redis_was_emptied_what_was_unfinished_ends_once(tmp_path: Path) -> None:
    run_chaos("empty", 30, 6, tmp_path)


def test_an_orderly_stop_of_any_role_costs_nobody_an_attempt(tmp_path: Path) -> None:
    run_chaos("drain", 1, 1, tmp_path)


@pytest.mark.long
def test_chaos_for_five_minutes(tmp_path: Path) -> None:
    run_chaos("faults", 300, 10, tmp_path)


@pytest.mark.long
def test_chaos_with_an_emptied_redis_for_two_minutes(tmp_path: Path) -> None:
    run_chaos("empty", 120, 10, tmp_path)


@pytest.mark.long
def test_orderly_stops_for_two_minutes(tmp_path: Path) -> None:
    run_chaos("drain", 120, 10, tmp_path)
