"""What a launcher promises of nsjail's log, and of descriptors: none is left open, whenever they run out."""

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sandboxed import Lab, open_descriptors, run_in

import occd.sandbox.nsjail
from occd.errors import out_of_descriptors

PIPE_BYTES = 65_536


@pytest.fixture
def talkative(monkeypatch: pytest.MonkeyPatch) -> None:
    """nsjail logs all that it does."""
    quiet = occd.sandbox.nsjail._Host.jail_argv

    def jail_argv(*args: object) -> list[str]:
        return ["--verbose" if word == "--quiet" else word for word in quiet(*args)]  # type: ignore[arg-type]

    monkeypatch.setattr(occd.sandbox.nsjail._Host, "jail_argv", jail_argv)


async def test_what_nsjail_logs_never_stops_it_and_its_last_lines_are_kept(
    talkative: None, lab: Lab
) -> None:
    async with lab.cell() as cell:
        assert (await run_in(cell, ["/bin/true"])).succeeded
        logged = 0
        while logged < 4 * PIPE_BYTES:  # by two launchers
            assert (await run_in(cell, ["/bin/true"])).succeeded
            launcher, _ = cell._seat._idle[-1]  # type: ignore[attr-defined]
            await launcher.ready()
            said = launcher.said()
            assert 2048 < len(said) <= 4096 + len(": ")
            assert said.startswith(": [")  # whole lines
            assert "Executing" in said.splitlines()[-2]
            assert launcher.said() == ""  # once
            logged += len(said)


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
