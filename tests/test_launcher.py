"""What a launcher promises of nsjail's log, and of descriptors: none is left open, whenever they run out."""

import os
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import trio
from sandboxed import Lab, open_descriptors, run_in

import occd.sandbox.group
import occd.sandbox.host
import occd.sandbox.launcher
from occd.errors import SandboxFailed, out_of_descriptors
from occd.sandbox.spawn import Process

PIPE_BYTES = 65_536


@pytest.fixture
def talkative(monkeypatch: pytest.MonkeyPatch) -> None:
    """nsjail logs all that it does."""
    quiet = occd.sandbox.host.Host.jail_argv

    def jail_argv(*args: object) -> list[str]:
        return ["--verbose" if word == "--quiet" else word for word in quiet(*args)]  # type: ignore[arg-type]

    monkeypatch.setattr(occd.sandbox.host.Host, "jail_argv", jail_argv)


async def test_the_last_lines_that_nsjail_logs_are_kept(talkative: None, lab: Lab) -> None:
    async with lab.cell() as cell:
        assert (await run_in(cell, ["/bin/true"])).succeeded
        launcher = cell._jailer._idle[-1].launcher  # type: ignore[attr-defined]
        await launcher.ready()
        said = launcher.said()
        assert 2048 < len(said) <= 4096 + len(": ")
        assert said.startswith(": [")  # whole lines
        assert "Executing" in said.splitlines()[-2]
        assert launcher.said() == ""  # once


async def test_what_nsjail_logs_of_each_jail_never_stops_it(talkative: None, lab: Lab) -> None:
    """Where it makes the jails itself."""
    sandbox: Any = lab.sandbox
    sandbox._host = replace(sandbox._host, forks=False)
    async with lab.cell() as cell:
        logged = 0
        while logged < 4 * PIPE_BYTES:  # by two launchers
            assert (await run_in(cell, ["/bin/true"])).succeeded
            launcher = cell._jailer._idle[-1].launcher  # type: ignore[attr-defined]
            await launcher.ready()
            logged += len(launcher.said())


@contextmanager
def descriptors_left(number: int) -> Iterator[None]:
    """So many are free in this process. Children get none of those that are taken."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
    taken: list[int] = []
    try:
        while True:
            try:
                taken.append(os.dup(0))
            except OSError:
                break
        while number and taken:
            os.close(taken.pop())
            number -= 1
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        for fd in taken:
            os.close(fd)


@pytest.mark.parametrize("warm", [True, False])
async def test_running_out_of_descriptors_is_told_and_leaves_none(lab: Lab, warm: bool) -> None:
    failed = 0
    for number in range(60):
        await lab.sandbox.close()  # type: ignore[attr-defined]
        if warm:
            assert (await lab.python("")).succeeded
        before = open_descriptors()
        with descriptors_left(number):
            error: Exception | None = None
            try:
                assert (await lab.python("print('fine')")).stdout == b"fine\n"
            except Exception as raised:
                error = raised
        if error is None:
            break
        assert out_of_descriptors(error), error
        failed += 1
        if warm:
            assert (await lab.python("")).succeeded
            assert open_descriptors().keys() == before.keys()
        else:
            assert open_descriptors() == before
    assert 3 < failed < 50  # it came to an end, and not at the first


async def test_a_launcher_that_does_not_die_holds_nobody_up_and_keeps_its_slot(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the kernel does not let it go: signals do nothing."""
    monkeypatch.setattr(occd.sandbox.launcher, "_END_TIMEOUT_S", 0.3)
    monkeypatch.setattr(occd.sandbox.launcher, "_DEATH_S", 0.3)
    sandbox: Any = lab.sandbox
    await sandbox.close()
    assert (await lab.python("")).succeeded
    (jailer,) = sandbox._idle
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await trio.sleep(0.01)
            turns += 1

    with monkeypatch.context() as deaf:
        deaf.setattr(Process, "_send", lambda *_: None)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(count)
            began = time.monotonic()
            await sandbox.close()
            took = time.monotonic() - began
            nursery.cancel_scope.cancel()
        assert took > 0.5  # it was waited for
        assert turns > 10  # by a loop that went on
        assert sandbox._unclear == [jailer]
        began = time.monotonic()
        await sandbox.trial()
        assert time.monotonic() - began < 10.0  # a trial that takes longer makes the node unfit
        assert sandbox._unclear == [jailer]
    (other,) = sandbox._idle
    assert other.slot.name != jailer.slot.name
    await sandbox.trial()
    assert sandbox._unclear == []


async def test_a_slot_that_cannot_be_cleared_is_kept_back_until_it_can(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox: Any = lab.sandbox
    assert (await lab.python("")).succeeded
    (jailer,) = sandbox._idle
    with monkeypatch.context() as stuck:
        stuck.setattr(occd.sandbox.group, "_REMOVE_TIMEOUT_S", 0.1)
        stuck.setattr(occd.sandbox.group, "_removed", lambda _folder: False)
        stuck.setattr(occd.sandbox.group.Group, "empty", False)
        async with lab.cell() as cell:
            with pytest.raises(SandboxFailed, match="do not end"):
                await run_in(cell, ["/bin/true"])
        assert (sandbox._idle, sandbox._unclear) == ([], [jailer])
    assert (await lab.python("")).succeeded
    (other,) = sandbox._idle
    assert other.slot.name != jailer.slot.name
    await sandbox.trial()
    assert sandbox._unclear == []
    assert not jailer.folder.exists()
    assert not jailer.groups


async def test_a_group_is_removed_and_the_next_one_made_beside_the_next_run(lab: Lab) -> None:
    sandbox: Any = lab.sandbox
    cgroups = sandbox._host.cgroups
    assert cgroups is not None, "this test needs control groups that occd may use"
    await sandbox.close()

    def groups(name: str) -> list[set[str]]:
        return [
            {each.name.removeprefix(f"{name}-") for each in parent.glob(f"{name}-[0-9]*")}
            for parent in cgroups.parents
        ]

    for number in range(1, 4):
        assert (await lab.python("")).succeeded
        (jailer,) = sandbox._idle
        for ready in (*jailer._idle, *jailer._warm.values()):
            await ready.place.cleared()
        for names in groups(jailer.slot.name):  # that of this run may be there, without processes
            assert names - {f"{number}"} == {f"{number + 1}"}
        assert len(jailer.groups) <= 1
        assert jailer.clear
    await sandbox.close()
    assert groups(jailer.slot.name) == [set()] * len(cgroups.parents)
