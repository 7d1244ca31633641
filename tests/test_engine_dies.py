"""Docker's engine is killed, held, filled up; containers and occd are killed. Nothing is lost, nothing is
left, and whoever waits is told soon."""

import gc
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
import trio
from mortal_engine import Mortal, mortal_engine
from serving import Server, start, wait_open
from shared_engine import IMAGE

from occd.config import Config, ExecuteConfig, SandboxConfig
from occd.errors import SandboxFailed, SandboxUnavailable
from occd.model import Limits
from occd.sandbox import Ended, Run, Running, Sandbox, Sink, open_sandbox
from occd.sandbox.engine import LABEL

# Docker's SDK forgets the sockets that it could not connect.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")

ROOT = IMAGE.removeprefix("occd/")
SILENCE_S = 10.0
"""For so long a container goes on that hears of nobody. What ends sooner was ended."""
PATIENCE_S = 60.0
NO_ROOM = r"no space left on device\. Free space on the disk"
SLEEP = "import time; print(1, flush=True); time.sleep(60)"


@pytest.fixture(scope="module")
def engine() -> Iterator[Mortal]:
    with mortal_engine() as mortal:
        yield mortal


@pytest.fixture(autouse=True)
def alone(engine: Mortal) -> Iterator[None]:
    """Each test begins with an engine that has nothing, and leaves nothing."""
    if not engine.is_up():
        engine.start()
    for id in engine.ids():  # of a test that failed
        engine.docker("rm", "--force", id)
    engine.end_unborn()
    yield
    if not engine.is_up():
        engine.start()
    until(lambda: not engine.ids() and not engine.programs())
    gc.collect()  # while the mark above holds


def until(condition: Callable[[], object], seconds: float = PATIENCE_S) -> float:
    """How long it took to come true."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, "it has not come true"
        time.sleep(0.02)
    return time.monotonic() - began


async def come_true(condition: Callable[[], object]) -> float:
    """As `until`, while the sandbox works."""
    began = trio.current_time()
    with trio.fail_after(PATIENCE_S):
        while not condition():  # noqa: ASYNC110
            await trio.sleep(0.05)
    return trio.current_time() - began


@asynccontextmanager
async def opened(engine: Mortal) -> AsyncIterator[Sandbox]:
    config = Config(
        sandbox=SandboxConfig(kind="docker", host=engine.host, images=(ROOT,)),
        execute=ExecuteConfig(slots=1),
    )
    async with open_sandbox(config, only="python") as sandbox:
        yield sandbox


async def run(
    sandbox: Sandbox, source: str, task_status: trio.TaskStatus[Running] = trio.TASK_STATUS_IGNORED
) -> Ended:
    told = Limits(wall_time=90)
    program = Run(["/usr/bin/python3", "-c", source], (), told, Sink(100), Sink(1000))
    async with sandbox.cell(sandbox.languages["python"], (), told) as cell:
        return await cell.run(program, task_status=task_status)


async def works(sandbox: Sandbox) -> bool:
    return (await run(sandbox, "print(2)")).outcome.stdout.head == b"2\n"


async def work_on(sandbox: Sandbox) -> None:
    """Beyond what stood ready."""
    for _ in range(4):
        await works(sandbox)


async def well(sandbox: Sandbox) -> None:
    """Wait until it works again."""
    await come_true(lambda: not sandbox.stuck)


@asynccontextmanager
async def running(sandbox: Sandbox, failures: list[SandboxFailed]) -> AsyncIterator[None]:
    """A program runs for a minute, or until the sandbox fails, which is waited for."""

    async def go(task_status: trio.TaskStatus[Running]) -> None:
        try:
            await run(sandbox, SLEEP, task_status)
        except SandboxFailed as error:
            failures.append(error)

    async with trio.open_nursery() as nursery:
        await nursery.start(go)
        yield


async def test_no_program_runs_without_its_engine_and_none_is_left_when_it_returns(
    engine: Mortal,
) -> None:
    failures: list[SandboxFailed] = []
    async with opened(engine) as sandbox:
        async with running(sandbox, failures):
            await come_true(engine.strangers)
            began = trio.current_time()
            engine.kill()
        assert trio.current_time() - began < SILENCE_S / 2
        assert len(failures) == 1
        await come_true(lambda: not engine.strangers())  # on another machine than ours: by silence
        await come_true(lambda: sandbox.stuck)
        assert "cannot be reached: Connection refused. Start Docker's engine" in str(sandbox.stuck)
        with pytest.raises(SandboxFailed, match="cannot be reached"):
            await works(sandbox)
        with pytest.raises(SandboxUnavailable, match="cannot be reached"):
            await sandbox.trial()
        await come_true(lambda: not engine.programs())
        engine.start()
        await well(sandbox)
        assert await works(sandbox)
        await sandbox.trial()


ON_ITS_MACHINE = """
import os, sys, trio
os.chdir(sys.argv[1])
sys.path[:0] = [sys.argv[1]]
from mortal_engine import Reached
from test_engine_dies import SLEEP, Path, opened, run
async def main():
    async with opened(Reached(Path(sys.argv[2]))) as sandbox:
        print("opened", flush=True)
        await run(sandbox, SLEEP)
trio.run(main)
"""


def test_a_program_ends_at_once_with_its_engine_where_occd_is_on_the_same_machine(
    engine: Mortal,
) -> None:
    argv = [sys.executable, "-c", ON_ITS_MACHINE, str(Path(__file__).parent), str(engine.folder)]
    with subprocess.Popen(engine.entered(*argv), stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline() == b"opened\n"
        until(engine.strangers)
        until(lambda: len(engine.names("running")) == 2)  # its container's successor stands ready
        killed_at = time.monotonic()
        engine.kill()
        until(engine.died)
        assert until(lambda: not engine.strangers()) < SILENCE_S / 2
        assert time.monotonic() - killed_at < SILENCE_S  # nobody waited for the silence
        process.wait(PATIENCE_S)


async def test_whoever_waits_for_an_engine_that_stands_still_is_told_and_can_go(
    engine: Mortal,
) -> None:
    failures: list[SandboxFailed] = []
    async with opened(engine) as sandbox:
        began = trio.current_time()
        async with running(sandbox, failures):
            engine.signal(signal.SIGSTOP)
        try:
            assert "has not answered for 10 s" in str(failures[0])
            assert trio.current_time() - began < 30
            assert sandbox.stuck
            began = trio.current_time()
            with pytest.raises(SandboxFailed, match="has not answered"):
                await works(sandbox)
            assert trio.current_time() - began < 5
        finally:
            engine.signal(signal.SIGCONT)
        await well(sandbox)
        assert await works(sandbox)
        engine.signal(signal.SIGSTOP)
        try:
            with trio.move_on_after(0.5) as scope:  # nobody knows yet that it stands still
                await work_on(sandbox)
            assert scope.cancelled_caught
            assert trio.current_time() < scope.deadline + 5
            closing = trio.current_time()
        except BaseException:
            engine.signal(signal.SIGCONT)
            raise
    closed = trio.current_time() - closing
    engine.signal(signal.SIGCONT)
    assert closed < 25


async def test_an_engine_without_room_says_so_and_works_when_it_has_room(engine: Mortal) -> None:
    async with opened(engine) as sandbox:
        with engine.full(), pytest.raises(SandboxFailed, match=NO_ROOM):
            await work_on(sandbox)
        assert await works(sandbox)


def cleared_by_the_next(engine: Mortal) -> None:
    """Of a container that was being made when occd or its engine was killed, more may be left than its end:
    the next occd removes it. A process that the engine has forgotten is the operator's."""

    async def clear() -> None:
        left = engine.ids()
        async with opened(engine):
            await come_true(lambda: left.isdisjoint(engine.ids()))

    engine.end_unborn()
    trio.run(clear)


async def gone(engine: Mortal, names: set[str]) -> None:
    """Until then, the end of a container may be on its way to occd."""
    await come_true(lambda: names.isdisjoint(engine.names()))


async def test_a_container_that_was_killed_while_it_stood_ready_is_not_used(engine: Mortal) -> None:
    async with opened(engine) as sandbox:
        for _ in range(3):
            assert await works(sandbox)
            await come_true(lambda: any("running" in each for each in engine.containers()))
            stood = set(engine.names("running"))
            for pid in engine.programs():
                with suppress(ProcessLookupError):  # that of the last job
                    os.kill(pid, signal.SIGKILL)
            await gone(engine, stood)


async def test_what_a_dead_process_did_not_start_is_removed_and_nothing_else(
    engine: Mortal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("occd.sandbox.engine._NOBODYS_S", 6.0)
    async with opened(engine) as other, opened(engine) as sandbox:
        assert await works(other)
        await come_true(lambda: len(engine.names("running")) == 2)  # each has one that stands ready
        engine.docker("create", "--name=left", f"--label={LABEL}=dead", IMAGE, "/bin/true")
        engine.docker("create", "--name=foreign", IMAGE, "/bin/true")
        engine.docker("run", "--detach", "--name=theirs", f"--label={LABEL}=lives", "--network=none",
                      IMAGE, "/bin/sleep", "1000")  # fmt: skip
        try:
            await come_true(lambda: not any("left" in each for each in engine.containers()))
            assert await works(other)
            assert await works(sandbox)
            names = " ".join(engine.containers())
            assert "created foreign" in names
            assert "running theirs" in names
        finally:
            engine.docker("rm", "--force", "foreign", "theirs")


# Through HTTP


@pytest.fixture
def server(engine: Mortal, tmp_path: Path) -> Iterator[Server]:
    server = start(
        tmp_path / "data",
        sandbox__kind="docker",
        sandbox__host=engine.host,
        sandbox__images=f'["{ROOT}"]',
        execute__slots="2",
    )
    try:
        wait_open(server)
        until(lambda: server.get("/readyz").status == 200)
        yield server
        if server.process.poll() is None:
            assert server.stop() == 0
        assert "Traceback" not in server.log.read_text()
    finally:
        if server.process.poll() is None:
            server.process.kill()
            server.process.wait()
        print(server.log.read_text()[-5000:])


@pytest.mark.parametrize("how", ["kill", "hold"])
def test_a_run_that_lost_its_engine_is_repeated_and_the_reason_is_told_once(
    engine: Mortal, server: Server, how: str
) -> None:
    id = server.submit("import time; time.sleep(8); print(3)")
    server.wait_running(id)
    # Two stand ready beside it. An engine that dies while it makes one forgets it (docs/operating.md).
    until(lambda: len(engine.strangers()) == 1 and len(engine.names("running")) == 3)
    if how == "kill":
        engine.kill()
    else:
        engine.signal(signal.SIGSTOP)
    until(lambda: server.get("/readyz").status == 503)
    reason = server.get("/readyz").body.decode()
    said = "cannot be reached: Connection re" if how == "kill" else "has not answered for"
    assert said in reason, reason
    time.sleep(3)  # a trial is repeated every 2 s, and would tell again
    if how == "kill":
        engine.start()
    else:
        engine.signal(signal.SIGCONT)
    result = server.result(id)
    assert (result["verdict"], result["run"]["stdout"]) == ("ok", "3\n"), result
    until(lambda: server.get("/readyz").status == 200)
    log = server.log.read_text()
    assert log.count("no program can be run now") == 1, log
    assert log.count("programs can be run again") == 1, log
    assert server.stop() == 0
    cleared_by_the_next(engine)


def test_no_program_outlives_occd(engine: Mortal, server: Server) -> None:
    server.wait_running(server.submit(SLEEP))
    server.wait_running(server.submit(SLEEP))
    until(lambda: len(engine.strangers()) == 2)
    server.process.kill()
    server.process.wait()
    assert until(lambda: not engine.strangers()) < SILENCE_S / 2
    until(lambda: not engine.programs())
    cleared_by_the_next(engine)


def test_no_program_outlives_occd_and_its_engine_for_long(engine: Mortal, server: Server) -> None:
    server.wait_running(server.submit(SLEEP))
    until(lambda: engine.strangers())
    engine.kill()
    server.process.kill()
    server.process.wait()
    until(lambda: not engine.strangers(), seconds=3 * SILENCE_S)
    engine.start()
    cleared_by_the_next(engine)
