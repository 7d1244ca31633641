"""The clients' stdin between state and a program: nothing is lost, doubled or hoarded."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from occd.config import Config
from occd.errors import StdinFull
from occd.execution.typed import Typed
from occd.model import File, Submission, new_id
from occd.sqlite import open_database
from occd.state import STDIN_UNREAD_MAX, WATCH_BYTES, State, Taken, open_state
from occd.state.control import ControlEntry, End, Signal, Stdin

SOON_S = 30.0
CHUNK = 2**17


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[tuple[State, Submission]]:
    """A state and an interactive submission that runs."""
    submission = Submission(
        new_id(),
        "python",
        None,
        "main.py",
        (File("main.py", b""),),
        interactive=True,
        created_at=time.time(),
    )
    async with (
        open_database(folder) as database,
        open_state(Config(data_dir=folder), database) as state,
    ):
        await state.submissions.begin(submission, "3", "node")
        yield state, submission


async def follow(state: State, id: str, typed: Typed, after: int = 0) -> None:
    while True:
        for entry in await state.controls.watch(id, after):
            typed.add(entry)
            after = entry.number


async def read(typed: Typed) -> bytes:
    """All of it, as a program does that reads to the end."""
    send, receive = trio.open_memory_channel[bytes](0)
    data = bytearray()

    async def feed() -> None:
        async with send:
            await typed.feed(send)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(feed)
        async for piece in receive:
            data += piece
    return bytes(data)


async def patiently_send(state: State, id: str, data: bytes, offset: int) -> None:
    while True:
        try:
            await state.controls.send_stdin(id, data, offset, end=False)
            return
        except StdinFull:
            await trio.sleep(0.01)


async def test_what_a_program_took_makes_room_for_more(tmp_path: Path) -> None:
    sent = b"".join(bytes([number]) * CHUNK for number in range(24))  # three times the bound
    async with opened(tmp_path) as (state, submission), trio.open_nursery() as nursery:
        typed = Typed(submission.id, state.controls)
        nursery.start_soon(follow, state, submission.id, typed)
        nursery.start_soon(typed.tell)
        got: list[bytes] = []

        async def reading() -> None:
            got.append(await read(typed))

        with trio.fail_after(SOON_S):
            async with trio.open_nursery() as both:
                both.start_soon(reading)
                for at in range(0, len(sent), CHUNK):
                    await patiently_send(state, submission.id, sent[at : at + CHUNK], at)
                await state.controls.send_stdin(submission.id, b"", None, end=True)
        assert got == [sent]
        nursery.cancel_scope.cancel()


async def test_a_program_that_runs_anew_gets_all_of_it_and_little_of_it_waits_in_memory(
    tmp_path: Path,
) -> None:
    sent = b"".join(bytes([number]) * CHUNK for number in range(24))
    async with opened(tmp_path) as (state, submission), trio.open_nursery() as nursery:
        for at in range(0, len(sent), CHUNK):
            await state.controls.send_stdin(submission.id, sent[at : at + CHUNK], at, end=False)
            await state.controls.took(submission.id, at + CHUNK)
            await state.controls.send_signal(submission.id, "SIGCONT")
        await state.controls.send_stdin(submission.id, b"", None, end=True)
        last = 24 * 2 + 1
        typed = Typed(submission.id, state.controls)
        after = 0
        with trio.fail_after(SOON_S):
            while after < last:  # as fast as state gives it
                for entry in await state.controls.watch(submission.id, after):
                    typed.add(entry)
                    after = entry.number
        assert typed.got <= STDIN_UNREAD_MAX + WATCH_BYTES
        with trio.fail_after(SOON_S):
            assert await read(typed) == sent
        nursery.cancel_scope.cancel()


async def test_what_an_emptied_state_has_lost_is_not_waited_for(tmp_path: Path) -> None:
    """A later attempt begins with what there is."""
    async with opened(tmp_path) as (state, _):
        typed = Typed("another", state.controls)
        for entry in (
            ControlEntry(8, Stdin(5, b"or")),
            ControlEntry(9, Stdin(7, b"e")),
            ControlEntry(10, End()),
        ):
            typed.add(entry)
        with trio.fail_after(SOON_S):
            assert await read(typed) == b"ore"


async def test_bytes_that_come_again_are_dropped(tmp_path: Path) -> None:
    async with opened(tmp_path) as (state, submission):
        typed = Typed(submission.id, state.controls)
        typed.add(ControlEntry(1, Stdin(0, b"abc")))
        typed.add(ControlEntry(2, Signal("SIGINT")))
        taken = Taken(controls=2, stdin=typed.got)
        assert taken.stdin == 3
        typed.add(ControlEntry(3, Stdin(1, b"bcde")))
        typed.add(ControlEntry(4, End()))
        with trio.fail_after(SOON_S):
            assert await read(typed) == b"abcde"


@pytest.mark.parametrize("late", [False, True])
async def test_an_empty_stdin_ends(tmp_path: Path, late: bool) -> None:
    async with opened(tmp_path) as (state, submission):
        typed = Typed(submission.id, state.controls)
        if not late:
            typed.add(ControlEntry(1, End()))
        async with trio.open_nursery() as nursery:
            if late:
                nursery.start_soon(follow, state, submission.id, typed)
                await state.controls.send_stdin(submission.id, b"", None, end=True)
            with trio.fail_after(SOON_S):
                assert await read(typed) == b""
            nursery.cancel_scope.cancel()
