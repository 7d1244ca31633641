"""Compiled checkers are kept, made once, and never taken for one another (`occd/execution/built.py`)."""

import tracemalloc
from dataclasses import replace

import pytest
import trio
from serving import PATIENCE_S
from trio.testing import wait_all_tasks_blocked

from occd.execution.built import ALL_MAX, EACH_MAX, FILE_BYTES, Built
from occd.execution.program import Program
from occd.languages import Installed, load_languages
from occd.model import File, LeftOut
from occd.sandbox import Collected

CPP = load_languages()["cpp"]
PROGRAM = Program(CPP, Installed("12.2.0", "/usr/bin/g++"), "a.cpp", (File("a.cpp", b"1"),))
MADE = Collected((File("a.cpp", b"1"), File("main", b"ELF")))


async def take(built: Built, program: Program = PROGRAM, made: Collected = MADE) -> bool:
    """Whether the program had to be compiled."""
    async with built.turn(program, trio.Event()) as (files, keep):
        if files is None:
            keep(made)
        return files is None


async def test_what_was_compiled_is_kept_and_can_be_executed() -> None:
    built = Built()
    assert await take(built)
    async with built.turn(PROGRAM, trio.Event()) as (files, _):
        assert files
        assert [(each.name, each.content, each.executable) for each in files] == [
            ("a.cpp", b"1", True),
            ("main", b"ELF", True),
        ]


@pytest.mark.parametrize(
    "other",
    [
        replace(PROGRAM, compile_args=("-O0",)),
        replace(PROGRAM, files=(File("a.cpp", b"2"),)),
        replace(PROGRAM, files=(*PROGRAM.files, File("b.h", b""))),
        replace(PROGRAM, files=(File("a.cpp", b"1", executable=True),)),
        replace(PROGRAM, installed=Installed("13.1.0", "/usr/bin/g++")),
        replace(PROGRAM, installed=Installed("12.2.0", "/usr/local/bin/g++")),
        replace(PROGRAM, language=load_languages()["c"]),
        replace(PROGRAM, main="b.cpp"),
    ],
)
async def test_another_program_is_another(other: Program) -> None:
    built = Built()
    await take(built)
    assert await take(built, other)


async def test_a_tree_of_which_a_part_is_missing_is_not_kept() -> None:
    built = Built()
    part = replace(MADE, left_out=(LeftOut("link", "no_file"),), left_out_count=1)
    assert await take(built, made=part)
    assert await take(built)


async def test_the_one_that_was_used_least_lately_makes_room() -> None:
    built = Built()
    large = Collected((File("main", bytes(EACH_MAX - FILE_BYTES)),))
    programs = [replace(PROGRAM, compile_args=(str(n),)) for n in range(ALL_MAX // EACH_MAX + 1)]
    for program in programs[:-1]:
        assert await take(built, program, large)
    assert not await take(built, programs[0])
    assert await take(built, programs[-1], large)
    assert [await take(built, each) for each in (programs[0], programs[2], programs[1])] == [
        False,
        False,
        True,
    ]


def test_small_files_take_no_more_memory_than_large_ones() -> None:
    """Kept trees of files that are empty, with names as long as they may be."""
    built = Built()
    tracemalloc.start()
    try:
        for number in range(2000):
            names = [f"{number:04}{at:03}".ljust(68, "😀") for at in range(50)]
            built._keep(b"%d" % number, Collected(tuple(File(name, b"") for name in names)))
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert taken < ALL_MAX


async def test_a_tree_without_files_is_not_kept() -> None:
    built = Built()
    assert await take(built, made=Collected())
    assert not built._kept


async def test_of_many_at_once_one_compiles() -> None:
    built = Built()
    compiled: list[int] = []

    async def attempt(number: int) -> None:
        async with built.turn(PROGRAM, trio.Event()) as (files, keep):
            if files is None:
                compiled.append(number)
                await wait_all_tasks_blocked(0.05)
                keep(MADE)

    async with trio.open_nursery() as nursery:
        for number in range(10):
            nursery.start_soon(attempt, number)
    assert len(compiled) == 1


async def test_when_nothing_was_kept_the_others_do_not_wait_for_one_another() -> None:
    built = Built()
    together = trio.Event()
    compiling = 0

    async def attempt() -> None:
        nonlocal compiling
        async with built.turn(PROGRAM, trio.Event()) as (files, _):
            assert files is None
            compiling += 1
            if compiling == 9:
                together.set()
            await together.wait()

    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery, built.turn(PROGRAM, trio.Event()):
            (making,) = built._making.values()
            for _ in range(9):
                nursery.start_soon(attempt)
            while making.statistics().tasks_waiting < 9:  # noqa: ASYNC110
                await trio.sleep(0.001)
            assert not compiling
    assert await take(built)
    assert not await take(built)


async def test_who_is_stopped_does_not_wait_for_another() -> None:
    built = Built()
    stop = trio.Event()

    async def attempt() -> None:
        async with built.turn(PROGRAM, stop) as (files, _):
            assert files is None

    async with built.turn(PROGRAM, trio.Event()):
        with trio.fail_after(PATIENCE_S):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(attempt)
                await wait_all_tasks_blocked(0.05)
                stop.set()
    assert await take(built)
