"""Blows at occd, at Docker's engine and at its containers under load, and what has to be true after each.

Within AT_ONCE_S no program of what died runs, within GONE_S of the return no container is left of it, and
`/readyz` tells the reason while no program can be run.
"""

import http.client
import json
import os
import signal
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio
from engine import ToolFailed
from mortal_engine import Mortal
from programs import CANCEL, CHECKED, FAIL, JUDGED, LEAVES, LINES, SLEEP, C, Program
from storm import Storm

from occd.sandbox.engine import LABEL

AT_ONCE_S = 5.0
"""A second, on a machine with nothing else to do."""
SILENCE_S = 10.0
"""For so long a container goes on that hears of nobody."""
GONE_S = 10.0
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


@dataclass
class Blows(Storm):
    engine: Mortal = field(kw_only=True)
    beside: bool = field(kw_only=True)
    dead_labels: set[str] = field(default_factory=set)
    died_after: dict[str, float] = field(default_factory=dict)
    """The longest time for which a program ran on, by kind of blow."""
    gone_after: dict[str, float] = field(default_factory=dict)
    """The longest time for which a container was left, by kind of blow."""

    async def strike(self, kind: str) -> None:
        await self._fit(kind)
        await self._busy()
        await trio.sleep(self.random.uniform(0.0, 2.5))
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
        await self._cleared(kind, self._ghosts)

    # The blows

    async def _kill_occd(self, kind: str) -> None:
        self.dead_labels |= {each["Config"]["Labels"][LABEL] for each in await self.containers()}
        await self.daemon.kill()
        await self._dead(kind, self.engine.strangers, AT_ONCE_S)
        self.daemon.launch()
        await self.daemon.ready()

        async def left() -> list[str]:
            return [
                f"{each['Name']} {each['State']['Status']}"
                for each in await self.containers()
                if each["Config"]["Labels"][LABEL] in self.dead_labels
            ]

        await self._cleared(kind, left)

    async def _kill_engine(self, kind: str) -> None:
        if kind == "engine and containerd":
            self.engine.signal(signal.SIGSTOP)  # so that it starts no other
            self.engine.kill_containerd()
        self.engine.kill()
        await self._dead(
            kind, self.engine.strangers, AT_ONCE_S if self.beside else SILENCE_S + AT_ONCE_S
        )
        await self._unfit(kind, "cannot be reached")
        at = time.time()
        await trio.to_thread.run_sync(self.engine.start)
        await self._cleared(kind, lambda: self._made_before(at))

    async def _kill_containerd(self, kind: str) -> None:
        """The engine starts another, and the containers run on."""
        self.engine.kill_containerd()

    async def _kill_container(self, kind: str) -> None:
        while not (inits := self.engine.inits()):  # noqa: ASYNC110
            await trio.sleep(0.01)
        first = self.random.choice(inits)
        space = _space_of(first)
        name = next(
            (each["Id"] for each in await self.containers() if self._host_pid(each) == first), None
        )
        if kind == "docker kill" and name:
            with suppress(ToolFailed):  # it has just ended by itself
                await self._docker("kill", name)
        else:
            with suppress(ProcessLookupError):
                os.kill(first, signal.SIGKILL)

        def programs() -> list[int]:
            return [pid for pid in self.engine.strangers() if _space_of(pid) == space]

        await self._dead(kind, programs, AT_ONCE_S)

        async def left() -> list[str]:
            return [name for each in await self.containers() if each["Id"] == name]

        await self._cleared(kind, left)

    async def _hold_engine(self, kind: str) -> None:
        at = time.time()
        with self.engine.held():
            # Nobody knows at once that it stands still.
            await self._dead(kind, self.engine.strangers, 2 * SILENCE_S + AT_ONCE_S)
            await self._unfit(kind, "has not answered for")
        await self._cleared(kind, lambda: self._made_before(at))

    async def _fill_disk(self, kind: str) -> None:
        with self.engine.full():
            await self._unfit(kind, "no space left on device")

    # Promises

    async def _dead(self, kind: str, found: Callable[[], list[int]], within: float) -> None:
        """The programs that run now, and those that come, end."""
        began = time.monotonic()
        while found() and time.monotonic() < began + 60:  # noqa: ASYNC110
            await trio.sleep(0.01)
        self._note(kind, time.monotonic() - began, within, "a program runs on", self.died_after)

    async def _cleared(self, kind: str, left: Callable[[], Awaitable[list[str]]]) -> None:
        """The containers that are seen at first go. One that comes and goes meanwhile does not count."""
        began = time.monotonic()
        last = set(await left())
        while last and time.monotonic() < began + 60:
            await trio.sleep(0.1)
            last &= set(await left())
        took = time.monotonic() - began
        self._note(kind, took, GONE_S, f"containers are left: {sorted(last)}", self.gone_after)

    def _note(
        self, kind: str, took: float, within: float, what: str, longest: dict[str, float]
    ) -> None:
        longest[kind] = max(longest.get(kind, 0.0), round(took, 2))
        if took > within:
            self._fault(f"{kind}: {what}, {took:.1f} s after it")

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

    async def _docker(self, *argv: str) -> str:
        return await trio.to_thread.run_sync(lambda: self.engine.docker(*argv))

    async def containers(self) -> list[dict[str, Any]]:
        ids = await self._docker("ps", "--all", "--quiet", "--no-trunc", f"--filter=label={LABEL}")
        found: list[dict[str, Any]] = []
        for each in ids.split():
            with suppress(ToolFailed):  # it has gone
                found += json.loads(await self._docker("inspect", each))
        return found

    async def _made_before(self, at: float) -> list[str]:
        return [
            f"{each['Name']} {each['State']['Status']} {each['Created']}"
            for each in await self.containers()
            if each["Created"] < time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at))
        ]

    async def _ghosts(self) -> list[str]:
        """Containers that run for the engine alone."""
        found = await self.containers()
        alive = set(self.engine.inits())
        return [
            f"{each['Name']} is a ghost"
            for each in found
            if each["State"]["Status"] == "running" and self._host_pid(each) not in alive
        ]

    def _host_pid(self, container: dict[str, Any]) -> int | None:
        """Of its first process, which the engine's machine counts apart."""
        wanted = str(container["State"]["Pid"])
        for pid in self.engine.inits():
            with suppress(OSError):
                status = Path(f"/proc/{pid}/status").read_text()
                if status.partition("NSpid:")[2].split("\n")[0].split()[-2] == wanted:
                    return pid
        return None


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
