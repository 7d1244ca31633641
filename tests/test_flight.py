"""One makes what many want, and none of them waits for ever (`occd/execution/flight.py`)."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from occd.config import CacheConfig
from occd.execution.arbiter import ASIDE_BYTES, Arbiter, Turn
from occd.execution.built import Built, Claim
from occd.execution.entry import ERROR_S, Entry
from occd.execution.program import Program
from occd.languages.installed import Installed
from occd.languages.loading import load_languages
from occd.model import COMPILE, File
from occd.sandbox import Packed, Sandbox

CPP = load_languages()["cpp"]
PROGRAM = Program(CPP, Installed("12.2.0", "/usr/bin/g++"), "a.cpp", (File("a.cpp", b"1"),))
MADE = Entry(0, (("stderr", b"\xffhm"), ("stdout", b"so")), Packed(b"tree"), 0.0)
BOX = 2**20


class Machine:
    """As much of a sandbox as names what was compiled."""

    def __init__(self) -> None:
        self.available: dict[str, Sequence[Installed]] = {"cpp": [PROGRAM.installed]}
        self.files = "as they were"

    def identity(self, installed: Installed) -> str:
        return self.files


@pytest.fixture
async def machine() -> Machine:
    return Machine()


@pytest.fixture
async def built(machine: Machine) -> AsyncIterator[Built]:
    made = Built(CacheConfig(), None, cast(Sandbox, machine))
    async with made.opened():
        yield made


async def claim(
    built: Built,
    program: Program = PROGRAM,
    stop: trio.Event | None = None,
    turn: Turn | None = None,
    **more: Any,
) -> Claim:
    usual: dict[str, Any] = {"step": COMPILE, "box": BOX, "owner": None}
    stop = trio.Event() if stop is None else stop
    return await built.claim(program, stop=stop, turn=turn, **usual | more)


@asynccontextmanager
async def waiters(built: Built, count: int, *turns: Turn) -> AsyncIterator[list[Claim]]:
    """So many wait. The list has the claims of those who need not wait any more."""
    came: list[Claim] = []

    async def wait(turn: Turn | None) -> None:
        came.append(await claim(built, turn=turn))

    async with trio.open_nursery() as nursery:
        for number in range(count):
            nursery.start_soon(wait, turns[number] if turns else None)
            await wait_all_tasks_blocked()
        yield came
        nursery.cancel_scope.cancel()


async def test_an_entry_is_read_as_it_was_written(built: Built) -> None:
    await (await claim(built)).keep(MADE)
    assert (await claim(built)).known == MADE


async def test_who_waits_gets_what_the_first_one_makes(built: Built) -> None:
    first = await claim(built)
    async with waiters(built, 3) as came:
        assert not came
        await first.keep(MADE)
        await wait_all_tasks_blocked()
        assert [each.known for each in came] == [MADE] * 3


async def test_when_nothing_can_be_kept_nobody_waits_for_another(built: Built) -> None:
    first = await claim(built)
    async with waiters(built, 3) as came:
        await first.keep(None)
        await wait_all_tasks_blocked()
        assert [(each.known, each.is_for_others) for each in came] == [(None, False)] * 3


@pytest.mark.parametrize("failed", [False, True])
async def test_who_waits_longest_takes_over_from_one_that_was_cut_off(
    built: Built, failed: bool
) -> None:
    first = await claim(built)
    async with waiters(built, 3) as came:
        if failed:
            with pytest.raises(OSError, match="ours"), first:
                raise OSError("ours")
        else:
            first.give_up()
        await wait_all_tasks_blocked()
        (second,) = came
        assert (second.known, second.is_for_others) == (None, True)
        await second.keep(MADE)
        await wait_all_tasks_blocked()
        assert [each.known for each in came[1:]] == [MADE] * 2


@pytest.mark.parametrize("end", ["stop", "cancel"])
async def test_one_that_is_told_to_take_over_and_ends_without_a_slot_passes_it_on(
    built: Built, end: str
) -> None:
    arbiter, stop, scope = Arbiter(1, 0, lambda: True), trio.Event(), trio.CancelScope()
    turn = await arbiter.slot()
    await turn.begin()
    first = await claim(built)

    async def wait() -> None:
        with scope:
            assert (await claim(built, stop=stop, turn=turn)).stopped

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        other = await arbiter.slot()
        await other.begin()
        async with waiters(built, 1) as came:
            first.give_up()
            await wait_all_tasks_blocked()
            assert not came  # the one that is to take over waits for its slot
            if end == "stop":
                stop.set()
            else:
                scope.cancel()
            await wait_all_tasks_blocked()
            assert [each.is_for_others for each in came] == [True]


@pytest.mark.parametrize("comes", ["before", "after"])
async def test_who_keeps_its_slot_does_not_wait_for_one_that_waits_for_a_slot(
    built: Built, comes: str
) -> None:
    """One with a long message does not step aside. Several fill all slots."""
    arbiter = Arbiter(1, 0, lambda: True)
    short = await arbiter.slot()
    await short.begin()
    first = await claim(built)
    async with waiters(built, 1, short) as shorts:
        long = await arbiter.slot()
        long.bytes = ASIDE_BYTES + 1
        await long.begin()
        if comes == "after":
            first.give_up()
        async with waiters(built, 1, long) as longs:
            if comes == "before":
                first.give_up()
            await wait_all_tasks_blocked()
            assert [each.is_for_others for each in longs] == [True]
            await longs[0].keep(MADE)
            long.end()
            await wait_all_tasks_blocked()
            assert len(shorts) == 1


async def test_who_is_stopped_waits_no_longer_and_has_no_part_in_it(built: Built) -> None:
    first, stop = await claim(built), trio.Event()
    async with trio.open_nursery() as nursery:

        async def wait() -> None:
            stopped = await claim(built, stop=stop)
            assert (stopped.stopped, stopped.known, stopped.is_for_others) == (True, None, False)

        nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        stop.set()
    first.give_up()
    assert (await claim(built)).is_for_others


async def test_one_that_hangs_is_replaced(built: Built, autojump_clock: MockClock) -> None:
    hanging = await claim(built)
    async with waiters(built, 2) as came:
        await trio.sleep(1000)
        assert not came  # its compiler has not begun: it may wait for its slot
        hanging.begin()
        await trio.sleep(CPP.compile_limits.wall_time + 5)
        assert not came
        await trio.sleep(10)
        assert [each.is_for_others for each in came] == [True]
        await came[0].keep(MADE)
        await trio.sleep(1)
        assert came[1].known == MADE
    await hanging.keep(MADE)
    assert (await claim(built)).known == MADE


async def test_a_fault_is_believed_for_a_while(
    built: Built, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1e9
    monkeypatch.setattr("occd.execution.entry.time.time", lambda: now)
    fault = Entry(1, (), None, now)
    await (await claim(built)).keep(fault)
    now += ERROR_S
    assert (await claim(built)).known == fault
    now += 1
    again = await claim(built)
    assert again.known is None
    await again.keep(replace(MADE, made_at=now))
    now += 10 * ERROR_S
    assert (await claim(built)).known


@pytest.mark.parametrize(
    "other",
    [
        replace(PROGRAM, compile_args=("-O0",)),
        replace(PROGRAM, files=(File("a.cpp", b"2"),)),
        replace(PROGRAM, files=(*PROGRAM.files, File("b.h", b""))),
        replace(PROGRAM, files=(File("a.cpp", b"1", executable=True),)),
        replace(PROGRAM, installed=Installed("13.1.0", "/usr/bin/g++")),
        replace(PROGRAM, installed=Installed("12.2.0", "/usr/local/bin/g++")),
        replace(PROGRAM, installed=Installed("12.2.0", "/usr/bin/g++", "debian-12")),
        replace(PROGRAM, language=load_languages()["c"]),
        replace(PROGRAM, language=replace(CPP, env={"LANG": "C"})),
        replace(PROGRAM, language=replace(CPP, compile_limits=CPP.limits)),
    ],
)
async def test_another_program_is_another(built: Built, other: Program) -> None:
    await (await claim(built)).keep(MADE)
    assert (await claim(built, other)).known is None


async def test_in_another_place_it_is_another(built: Built, machine: Machine) -> None:
    await (await claim(built)).keep(MADE)
    assert (await claim(built, box=BOX + 1)).known is None
    assert (await claim(built, owner="key:alice")).known is None
    assert (await claim(built, step=replace(COMPILE, program="checker"))).known is None
    machine.files = "upgraded"
    assert (await claim(built)).known is None
    machine.files = "as they were"
    assert (await claim(built)).known == MADE


async def test_what_is_put_away_is_there_for_those_who_come_meanwhile(
    built: Built, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk may take its time, and may be full."""
    go = trio.Event()

    async def put(*_: object) -> None:
        await go.wait()

    monkeypatch.setattr(built._shelf, "put", put)
    first = await claim(built)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(first.keep, MADE)
        await wait_all_tasks_blocked()
        assert (await claim(built)).known == MADE
        go.set()
    assert (await claim(built)).is_for_others


async def test_it_is_kept_in_files_where_there_is_a_folder(
    machine: Machine, tmp_path: Path
) -> None:
    for known in (None, MADE):
        built = Built(CacheConfig(), tmp_path / "built", cast(Sandbox, machine))
        async with built.opened():
            found = await claim(built)
            assert found.known == known
            await found.keep(MADE)
