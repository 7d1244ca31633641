"""What systemd is told of how occd fares, and packaging/systemd as far as no systemd is needed."""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio
import trio.testing
from serving import OCCD, PATIENCE_S, serving, start, wait_open

from occd import supervisor

UNIT = Path(__file__).parents[1] / "packaging/systemd/occd.service"


@contextmanager
def told(place: Path | str, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """systemd's end. `place` may be abstract."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(place).replace("@", "\0"))
        listener.settimeout(PATIENCE_S)
        monkeypatch.setenv("NOTIFY_SOCKET", str(place))
        yield listener


@pytest.mark.parametrize("abstract", [False, True])
def test_systemd_is_told_when_occd_is_ready_and_when_it_stops(
    abstract: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = f"@occd-{os.getpid()}" if abstract else tmp_path / "notify"
    with told(place, monkeypatch) as listener:
        with serving(tmp_path / "data", grace_s="100") as server:
            said = listener.recv(1024).split(b"\n")
            assert b"READY=1" in said
            assert server.get("/readyz").status == 200
        said = listener.recv(1024).split(b"\n")
        assert b"STOPPING=1" in said
        assert b"EXTEND_TIMEOUT_USEC=130000000" in said


def test_systemd_is_told_why_occd_is_not_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with told(tmp_path / "notify", monkeypatch) as listener:
        server = start(tmp_path / "data", sandbox__nsjail="/no\nwhere")
        try:
            wait_open(server)
            for _ in range(2):
                (said,) = listener.recv(1024).splitlines()
                assert said.startswith(b"STATUS=not ready: ")
                assert rb"/no\nwhere" in said
            server.stop()
            while (last := listener.recv(1024)).startswith(b"STATUS=not ready"):
                pass
            assert last.startswith(b"STOPPING=1")
        finally:
            server.process.kill()
            server.process.wait()


def fill(place: Path) -> int:
    """As somebody does who tells more than is read; the number of messages."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.setblocking(False)
        for count in range(100_000):
            try:
                sender.sendto(b"STATUS=full", str(place))
            except BlockingIOError:
                return count
    raise AssertionError("never full")


class Steps(trio.abc.Instrument):
    count = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.count += 1


async def test_occd_waits_idly_for_a_supervisor_that_is_slow_to_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def none() -> list[str]:
        return []

    with told(tmp_path / "notify", monkeypatch) as listener:
        unread, steps = fill(tmp_path / "notify"), Steps()
        with trio.fail_after(PATIENCE_S):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(supervisor.tell_readiness, none)
                await trio.testing.wait_all_tasks_blocked()
                trio.lowlevel.add_instrument(steps)
                await trio.sleep(0.2)
                trio.lowlevel.remove_instrument(steps)
                for _ in range(unread):
                    assert listener.recv(1024) == b"STATUS=full"
                said = await trio.to_thread.run_sync(listener.recv, 1024)
        assert said.startswith(b"READY=1")
        assert steps.count < 10


async def test_no_drain_waits_long_for_a_supervisor_that_reads_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "_PATIENCE_S", 0.2)
    with told(tmp_path / "notify", monkeypatch):
        fill(tmp_path / "notify")
        with trio.fail_after(PATIENCE_S):
            await supervisor.tell_stop(30)


@pytest.mark.parametrize("drop_in", [None, "root.conf"])
def test_systemd_reads_the_unit_without_a_complaint(drop_in: str | None, tmp_path: Path) -> None:
    assert shutil.which("systemd-analyze"), "systemd-analyze is missing: install systemd"
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/usr/local/bin/occd", OCCD))
    if drop_in:
        (tmp_path / f"{UNIT.name}.d").mkdir()
        shutil.copy(UNIT.with_name(drop_in), tmp_path / f"{UNIT.name}.d")
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_unit_is_started_with_the_machine_once_it_is_enabled(tmp_path: Path) -> None:
    units = tmp_path / "etc/systemd/system"
    units.mkdir(parents=True)
    shutil.copy(UNIT, units)
    subprocess.run(["systemctl", f"--root={tmp_path}", "enable", UNIT.name], check=True)
    assert (units / f"multi-user.target.wants/{UNIT.name}").is_symlink()
