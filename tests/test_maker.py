"""A process that made containers can be told to be dead, by others of its machine alone. What it had half
made is removed at once."""

import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import docker
import docker.errors
import pytest
import requests
import trio
from engine import Reached
from shared_engine import IMAGE

from occd.errors import SandboxFailed
from occd.sandbox.engine import Bounds, Engine, Wall
from occd.sandbox.maker import is_dead, ourselves

NAMED = "from occd.sandbox.maker import ourselves\nprint(ourselves(), flush=True); input()"


@contextmanager
def another(*before: str) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Its name, and the process, or what stands before it."""
    argv = [*before, sys.executable, "-c", NAMED]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout
            yield process.stdout.readline().decode().strip(), process
        finally:
            process.kill()


class ManyLeft:
    """An engine with ten containers of a dead process. It takes 1 s for each, and cannot remove the first."""

    def __init__(self) -> None:
        self.clock = 0.0
        self.left = [str(number) for number in range(10)]

    def containers(self, **_: Any) -> list[dict[str, Any]]:
        return [{"Id": each, "Labels": {}, "Created": 0} for each in self.left]

    def info(self) -> dict[str, Any]:
        return {"SystemTime": "2026-01-01T00:00:00+00:00"}

    def remove_container(self, container: str, **_: Any) -> None:
        self.clock += 1
        if container == "0":
            raise docker.errors.APIError("device or resource busy")
        self.left.remove(container)


def test_many_that_are_left_are_removed_at_times_without_one_that_cannot_be(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The engine is not taken for one that is away, which would end all programs."""
    engine: Any = Engine("unix:///nowhere")
    engine._client = left = ManyLeft()
    monkeypatch.setattr("occd.sandbox.engine.monotonic", lambda: left.clock)
    engine._remove_left()
    assert 0 < len(left.left) < 9
    assert left.clock < 10
    for _ in range(3):
        engine._remove_left()
    assert left.left == ["0"]


def test_who_lives_is_not_dead() -> None:
    assert not is_dead(ourselves())
    assert not is_dead(f"{ourselves()}.more")
    with another() as (name, _):
        assert not is_dead(name)


def test_who_was_killed_is_dead_also_before_anybody_has_taken_note() -> None:
    with another() as (name, process):
        process.kill()
        assert process.stdout
        assert process.stdout.read() == b""
        while not is_dead(name):  # until the kernel has made a zombie of it
            pass
        process.wait()
        assert is_dead(name)


def test_who_had_the_number_of_one_that_lives_is_dead() -> None:
    place, pid, started = ourselves().split(".")
    assert is_dead(f"{place}.{pid}.{int(started) - 1}")


def test_who_counts_elsewhere_may_live() -> None:
    with another("unshare", "--pid", "--fork", "--kill-child") as (name, _):
        place, pid, started = name.split(".")
        assert pid == "1"
        assert not is_dead(name)
        assert not is_dead(f"{place}.{2**22 + 1}.{started}")


def test_who_counts_in_a_machine_of_another_name_may_live() -> None:
    """As one that went on from the same snapshot."""
    renamed = 'echo other > /proc/sys/kernel/hostname; exec "$@"'
    with another("unshare", "--uts", "/bin/sh", "-c", renamed, "sh") as (name, _):
        place, _, started = name.split(".")
        assert not is_dead(f"{place}.{2**22 + 1}.{started}")
    place, _, started = ourselves().split(".")
    assert is_dead(f"{place}.{2**22 + 1}.{started}")


@pytest.mark.parametrize("name", ["", "dead", "a.b.c", "...", f"{ourselves().split('.')[0]}.-1.5"])
def test_what_is_no_name_may_live(name: str) -> None:
    assert not is_dead(name)


# Containers that are half made

PATIENCE_S = 60.0
HALF_MADE = """
import sys, time, trio
sys.path.insert(0, sys.argv[1])
import docker
from test_maker import Engine, wall
def attach_socket(*given, **named):
    print("made", flush=True)
    time.sleep(1000)
docker.APIClient.attach_socket = attach_socket
trio.run(Engine(sys.argv[2]).start, wall(sys.argv[3]), ["/bin/true"])
"""


def wall(label: str) -> Wall:
    return Wall(IMAGE, None, label, "unconfined", "rw", {}, {}, [], Bounds(2**27, 64))


@contextmanager
def half_made(engine: Reached, label: str) -> Iterator[subprocess.Popen[bytes]]:
    """By a process that stands still before it starts its container."""
    argv = [sys.executable, "-c", HALF_MADE, str(Path(__file__).parent), engine.host, label]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout
            assert process.stdout.readline() == b"made\n"
            yield process
        finally:
            process.kill()


@asynccontextmanager
async def asked(engine: Reached) -> AsyncIterator[Engine]:
    """With no container of these tests afterwards."""
    client = Engine(engine.host)
    try:
        yield client
    finally:
        with trio.move_on_after(PATIENCE_S, shield=True):
            for label in ("lives", "died", "lost", "making"):
                for each in await client.of(label):
                    await client.remove(each)
            await client.close()


async def test_what_a_dead_process_had_half_made_is_removed_at_once_and_nothing_of_one_that_lives(
    docker_engine: Reached,
) -> None:
    async with asked(docker_engine) as engine:
        with half_made(docker_engine, "lives"), half_made(docker_engine, "died") as died:
            assert await engine.of("died")
            died.kill()
            died.wait()
            await engine.remove_left()
            assert len(await engine.of("lives")) == 1
            assert await engine.of("died") == []


async def test_what_we_have_given_up_is_removed_at_once_and_nothing_that_we_still_make(
    docker_engine: Reached, monkeypatch: pytest.MonkeyPatch
) -> None:
    create, attach = docker.APIClient.create_container, docker.APIClient.attach_socket
    attaching, go_on = trio.Event(), threading.Event()

    def lose(*given: Any, **named: Any) -> None:
        create(*given, **named)
        raise requests.ConnectionError(ConnectionResetError(104, "the engine died"))

    def hesitate(*given: Any, **named: Any) -> Any:
        trio.from_thread.run_sync(attaching.set)
        assert go_on.wait(PATIENCE_S)
        return attach(*given, **named)

    async with asked(docker_engine) as engine, trio.open_nursery() as nursery:

        async def make() -> None:
            made = await engine.start(wall("making"), ["/bin/true"])
            made.socket.close()

        monkeypatch.setattr(docker.APIClient, "attach_socket", hesitate)
        nursery.start_soon(make)
        await attaching.wait()
        monkeypatch.setattr(docker.APIClient, "create_container", lose)
        with pytest.raises(SandboxFailed):
            await engine.start(wall("lost"), ["/bin/true"])
        assert await engine.of("lost")
        await engine.remove_left()
        assert len(await engine.of("making")) == 1
        assert await engine.of("lost") == []
        go_on.set()
