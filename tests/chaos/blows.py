"""Blows at occd, at Docker's engine and at its containers under load, and what has to be true after each.

Within AT_ONCE_S no program of what died runs, within GONE_S of the return no container is left of it, and
`/readyz` tells the reason while no program can be run.
"""

import http.client
import json
import os
import select
import signal
import statistics
import threading
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import docker
import docker.errors
import trio
from engine import ToolFailed
from mortal_engine import Mortal
from programs import CANCEL, CHECKED, FAIL, JUDGED, LEAVES, LINES, SLEEP, C, Program
from shared_engine import IMAGE
from storm import Storm

from occd.sandbox.engine import LABEL

AT_ONCE_S = 1.0
"""For so long a program goes on when what it needs was killed, where nobody waits for a processor. Where
several can run for each processor, all takes so many times longer."""
SILENCE_S = 10.0
"""For so long a container goes on that hears of nobody."""
GONE_S = 10.0
MISSED_S = 10.0
"""For so long Docker waits for the end of a container that it kills: in vain when the container ended while
containerd was away."""
TOLD_S = 120.0
"""More than the time until a trial job tells that it cannot run, on a busy machine."""

LONG = Program(
    "long",
    "ok",
    "import time\nfor n in range(20): print(n, flush=True); time.sleep(0.2)",
    share=3,
    stdout="".join(f"{n}\n" for n in range(20)),
)
DAEMONS = Program(
    "daemons",
    "ok",
    """
import os, time
for _ in range(3):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.closerange(0, 3)
            while True:
                time.sleep(0.1)
        os._exit(0)
time.sleep(1.5)
print("left")
""",
    share=2,
    stdout="left\n",
)
PROGRAMS = (LINES, SLEEP, LONG, DAEMONS, C, FAIL, CANCEL, JUDGED, CHECKED, LEAVES)


class Business:
    """How many processes can run for each processor, in the mean while this is open, and 1 at least."""

    def __init__(self) -> None:
        self._seen: list[int] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def _look(self) -> None:
        while not self._over.wait(0.005):
            running = Path("/proc/loadavg").read_text().split()[3]
            self._seen.append(int(running.partition("/")[0]))

    @property
    def now(self) -> float:
        return max(1.0, sum(self._seen) / max(1, len(self._seen)) / (os.cpu_count() or 1))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()


Container = dict[str, Any]
"""As the engine lists it."""
Times = defaultdict[str, list[float]]
"""Seconds by kind of blow."""


def _times() -> Times:
    return defaultdict(list)


def _is_there(client: docker.APIClient, container: Container) -> bool:
    """An engine that was killed while it removed a container may list one that it does not know."""
    try:
        client.inspect_container(container["Id"])
    except docker.errors.NotFound:
        return False
    return True


@dataclass
class Blows(Storm):
    engine: Mortal = field(kw_only=True)
    beside: bool = field(kw_only=True)
    dead_labels: set[str] = field(default_factory=set)
    missed: set[str] = field(default_factory=set)
    """Containers whose end Docker missed while containerd was away. It lists them until it is started anew,
    although no process of them is left (docs/operating.md)."""
    died_after: Times = field(default_factory=_times)
    """For how long a program ran on."""
    business: list[float] = field(default_factory=list)
    """How many could run for each processor meanwhile."""
    gone_after: Times = field(default_factory=_times)
    """For how long a container was left."""

    async def strike(self, kind: str) -> None:
        await self._fit(kind)
        await self._busy()
        await trio.sleep(self.random.uniform(0.0, 2.5))
        await self._busy()
        print(f"{time.monotonic() - self.began:6.1f} s  {kind}", flush=True)
        blows: dict[str, Callable[[str], Awaitable[None]]] = {
            "occd": self._kill_occd,
            "engine": self._kill_engine,
            "engine and containerd": self._kill_engine,
            "containerd": self._kill_containerd,
            "first process": self._kill_container,
            "docker kill": self._kill_container,
            "hold": self._hold_engine,
            "full": self._fill_disk,
        }
        await blows[kind](kind)
        await self._fit(kind)
        if kind == "containerd":
            await self._miss_ends()
        await self._cleared(kind, self._ghosts)

    # The blows

    async def _kill_occd(self, kind: str) -> None:
        self.dead_labels |= {each["Labels"][LABEL] for each in await self.containers()}
        await self._busy()

        async def kill() -> float:
            return time.monotonic() - await self.daemon.kill()

        await self._dead(kind, kill, self.engine.strangers, AT_ONCE_S)
        self.daemon.launch()
        await self.daemon.ready()

        async def left() -> list[Container]:
            found = await self.containers()
            return [each for each in found if each["Labels"][LABEL] in self.dead_labels]

        await self._cleared(kind, left)

    async def _kill_engine(self, kind: str) -> None:
        async def kill() -> float:
            if kind == "engine and containerd":
                self.engine.signal(signal.SIGSTOP)  # so that it starts no other
                self.engine.kill_containerd()
            at = time.monotonic()
            self.engine.kill()
            return at

        within = AT_ONCE_S if self.beside else SILENCE_S + AT_ONCE_S
        await self._dead(kind, kill, self.engine.strangers, within)
        await self._unfit(kind, "cannot be reached")
        self.missed.clear()
        at = time.time()
        await trio.to_thread.run_sync(self.engine.start)
        await self._cleared(kind, lambda: self._made_before(at))

    async def _kill_containerd(self, kind: str) -> None:
        """The engine starts another, and the containers run on. It has returned when it runs a container."""
        self.engine.kill_containerd()
        with trio.fail_after(TOLD_S):
            while not await trio.to_thread.run_sync(self._runs):  # noqa: ASYNC110
                await trio.sleep(0.1)

    async def _miss_ends(self) -> None:
        """Docker waits in vain for the ends that it missed. Some it never notices."""
        until = time.monotonic() + GONE_S + MISSED_S
        while (ghosts := await self._ghosts()) and _before(until):  # noqa: ASYNC110
            await trio.sleep(0.1)
        self.missed |= {each["Id"] for each in ghosts}

    def _runs(self) -> bool:
        try:
            self.engine.docker("run", "--rm", "--network=none", IMAGE, "/bin/true")
        except ToolFailed:
            return False
        return True

    async def _kill_container(self, kind: str) -> None:
        while not (inits := self.engine.inits()):  # noqa: ASYNC110
            await trio.sleep(0.01)
        first = self.random.choice(inits)
        space = _space_of(first)
        firsts = await trio.to_thread.run_sync(self._firsts, await self.containers())
        name = next((id for id, pid in firsts.items() if pid == _inner(first)), None)

        async def kill() -> float:
            if kind == "docker kill" and name:
                with suppress(ToolFailed):  # it has just ended by itself
                    await trio.to_thread.run_sync(self.engine.docker, "kill", name)
                return time.monotonic()
            at = time.monotonic()
            with suppress(ProcessLookupError):
                os.kill(first, signal.SIGKILL)
            return at

        def programs() -> list[int]:
            return [pid for pid in self.engine.strangers() if _space_of(pid) == space]

        await self._dead(kind, kill, programs, AT_ONCE_S)

        async def left() -> list[Container]:
            return [each for each in await self.containers() if each["Id"] == name]

        await self._cleared(kind, left)

    async def _hold_engine(self, kind: str) -> None:
        at = time.time()

        async def hold() -> float:
            self.engine.signal(signal.SIGSTOP)
            return time.monotonic()

        try:
            # Nobody knows at once that it stands still.
            await self._dead(kind, hold, self.engine.strangers, 2 * SILENCE_S + AT_ONCE_S)
            await self._unfit(kind, "has not answered for")
        finally:
            self.engine.signal(signal.SIGCONT)
        await self._cleared(kind, lambda: self._made_before(at))

    async def _fill_disk(self, kind: str) -> None:
        with self.engine.full():
            await self._unfit(kind, "no space left on device")

    # Promises

    async def _dead(
        self,
        kind: str,
        kill: Callable[[], Awaitable[float]],
        found: Callable[[], list[int]],
        within: float,
    ) -> None:
        """The programs that run when this is killed, and those that come, end. `kill` gives its time. To look
        for programs takes long on a busy machine, so the kernel tells the end of those that run."""
        with ExitStack() as stack, Business() as business:
            watched = []
            for pid in found():
                with suppress(ProcessLookupError):
                    watched.append(os.pidfd_open(pid))
                    stack.callback(os.close, watched[-1])
            at = await kill()
            until = at + 60
            while len(select.select(watched, [], [], 0)[0]) < len(watched) and _before(until):  # noqa: ASYNC110
                await trio.sleep(0.005)
            took = time.monotonic() - at
            while found() and _before(until):
                await trio.sleep(0.005)
                took = time.monotonic() - at
        self.business.append(round(business.now, 1))
        self._note(kind, took, within * business.now, "a program runs on", self.died_after)

    async def _cleared(
        self, kind: str, left: Callable[[], Awaitable[list[Container]]], within: float = GONE_S
    ) -> None:
        """The containers that are seen at first go. One that comes and goes meanwhile does not count."""
        began = time.monotonic()
        with Business() as business:
            last = {each["Id"]: each for each in await left()}
            seen = last
            while last and time.monotonic() < began + 60:
                seen = last
                await trio.sleep(0.1)
                last = {each["Id"]: each for each in await left() if each["Id"] in seen}
        took = time.monotonic() - began
        told = f"a container is left: {[_named(each) for each in seen.values()]}"
        self._note(kind, took, within * business.now, told, self.gone_after)

    def _note(self, kind: str, took: float, within: float, what: str, times: Times) -> None:
        times[kind].append(round(took, 3))
        if took > within:
            self._fault(f"{kind}: {what}, {took:.2f} s after it, where {within:.2f} s are allowed")

    def figures(self) -> str:
        """All times, and the longest and the median of the kills after which programs end at once."""
        at_once = {"occd", "first process", "docker kill"}
        at_once |= {"engine", "engine and containerd"} if self.beside else set()
        took = [each for kind in at_once for each in self.died_after[kind]]
        return (
            f"no program ran {max(took):.3f} s after a kill, {statistics.median(took):.3f} s in the median "
            f"of {len(took)}; for each processor {statistics.median(self.business)} could run in the median, "
            f"and {max(self.business)} at most\n"
            f"programs died after {dict(self.died_after)}\ncontainers were gone after {dict(self.gone_after)}"
        )

    def _fault(self, told: str) -> None:
        print(f"FAULT {told}", flush=True)  # where nobody sees the end
        self.faults.append(told)

    async def _busy(self) -> None:
        while not self.engine.strangers():  # noqa: ASYNC110
            await trio.sleep(0.05)

    async def _fit(self, kind: str) -> None:
        await self._until_ready(200, "", kind)

    async def _unfit(self, kind: str, reason: str) -> None:
        said = await self._until_ready(503, reason, kind)
        if "\n" in said or len(said) > 400:
            self._fault(f"{kind}: this is not one clear line: {said}")

    async def _until_ready(self, status: int, reason: str, kind: str) -> str:
        try:
            return await until_ready(self.daemon.url, status, reason)
        except trio.TooSlowError:
            seen = await readyz(self.daemon.url)
            self._fault(f"{kind}: /readyz does not become {status}: {seen}")
            return ""

    # The engine's containers

    async def containers(self) -> list[Container]:
        return await trio.to_thread.run_sync(self._containers)

    def _containers(self) -> list[Container]:
        """As the engine lists them. Without its command line tool, which takes longer than all else here."""
        with closing(docker.APIClient(base_url=self.engine.host, timeout=60)) as client:
            found: list[Container] = client.containers(all=True, filters={"label": LABEL})
            return [
                each
                for each in found
                if each["Id"] not in self.missed
                and (each["State"] != "dead" or _is_there(client, each))
            ]

    async def _made_before(self, at: float) -> list[Container]:
        return [each for each in await self.containers() if each["Created"] < int(at)]

    async def _ghosts(self) -> list[Container]:
        """Containers that run for the engine alone."""
        found = [each for each in await self.containers() if each["State"] == "running"]
        firsts = await trio.to_thread.run_sync(self._firsts, found)
        alive = {_inner(pid) for pid in self.engine.inits()}
        return [each for each in found if firsts.get(each["Id"], 0) not in {0, *alive}]

    def _firsts(self, containers: list[Container]) -> dict[str, int]:
        """The first processes of those that are there, as the engine's machine counts them. 0 has ended."""
        firsts = {}
        with closing(docker.APIClient(base_url=self.engine.host, timeout=60)) as client:
            for each in containers:
                with suppress(docker.errors.NotFound):
                    firsts[each["Id"]] = client.inspect_container(each["Id"])["State"]["Pid"]
        return firsts


def _named(container: Container) -> str:
    return f"{container['Names']} {container['Id'][:12]} {container['State']}"


def _inner(pid: int) -> int | None:
    """The number that the engine's machine counts for the first process of a container."""
    with suppress(OSError):
        status = Path(f"/proc/{pid}/status").read_text()
        return int(status.partition("NSpid:")[2].split("\n")[0].split()[-2])
    return None


def _before(until: float) -> bool:
    return time.monotonic() < until


def _space_of(pid: int) -> str | None:
    with suppress(OSError):
        return os.readlink(f"/proc/{pid}/ns/pid")
    return None


async def until_ready(url: str, status: int, reason: str = "") -> str:
    """Until /readyz answers with this status and, somewhere, this reason. Gives what it said."""
    with trio.fail_after(TOLD_S):
        while True:
            seen, said = await readyz(url)
            if seen == status and reason in said:
                return said
            await trio.sleep(0.1)


async def readyz(url: str) -> tuple[int, str]:
    """The status, and the reason of another than 200. The status is 0 when nobody answers."""
    return await trio.to_thread.run_sync(_readyz, url)


def _readyz(url: str) -> tuple[int, str]:
    host = url.removeprefix("http://") or "127.0.0.1:1"
    connection = http.client.HTTPConnection(host, timeout=30)
    try:
        connection.request("GET", "/readyz")
        response = connection.getresponse()
        return response.status, json.loads(response.read()).get("detail", "")
    except (OSError, http.client.HTTPException):
        return 0, "nobody answers"
    finally:
        connection.close()
