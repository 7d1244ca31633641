"""A real daemon to be killed and measured, its processes seen from outside, and the client that
storms it."""

import fcntl
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h11
import trio
from processes import child_of, descendants
from serving import without_output
from trio_websocket import open_websocket_url

from occd.sandbox import kernel
from occd.sandbox.cgroup import find_cgroups
from occd.sandbox.slots import host_folder

START_TIMEOUT_S = 180.0
REQUEST_TIMEOUT_S = 60.0
ADDRESS = "2001:db8:7:1::1"
"""Where the clients are, where a proxy's word counts: where EVERYBODY is a trusted proxy."""

EVERYBODY = "0.0.0.0/0"

GONE = (OSError, EOFError, trio.BrokenResourceError, h11.RemoteProtocolError, trio.TooSlowError)
"""What a client sees when the daemon dies under it."""


def _groups_of(pid: int) -> set[str]:
    """The names of the jails' control groups that a process is in."""
    with suppress(OSError):
        paths = Path(f"/proc/{pid}/cgroup").read_text().split()
        return {part for path in paths for part in path.split("/") if part.startswith("occd-")}
    return set()


@dataclass
class Daemon:
    """One `occd` after another on one data folder."""

    folder: Path
    slots: int = 4
    accounts: str | None = None
    settings: dict[str, str] = field(default_factory=dict)
    """Further ones, by the names of their variables."""
    prefix: Sequence[str] = ()
    """Before its command: what starts it as a child, elsewhere on this machine."""
    url: str = ""
    process: subprocess.Popen[bytes] | None = None
    groups: set[str] = field(default_factory=set)
    lives: int = 0

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def pid(self) -> int:
        assert self.process
        return child_of(self.process.pid) if self.prefix else self.process.pid

    def launch(self) -> None:
        self.lives += 1
        self.url = ""
        environment = {k: v for k, v in os.environ.items() if not k.startswith("OCCD_")}
        environment["OCCD_PRECOMPILED__BYTES"] = (
            "0"  # it takes a minute of a processor, once a folder
        )
        if self.accounts:
            environment["OCCD_ACCOUNTS"] = self.accounts
            environment["OCCD_TRUSTED_PROXIES"] = EVERYBODY
        argv = [
            *self.prefix,
            sys.executable,
            "-m",
            "occd",
            "--roles",
            "all",
            "--listen",
            "127.0.0.1:0",
        ]
        with self._output.open("wb") as out, (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [*argv, "--data-dir", str(self.data)],
                env=environment | {"OCCD_EXECUTE__SLOTS": str(self.slots)} | self.settings,
                cwd=self.folder,
                stdout=out,
                stderr=log,
            )

    async def ready(self) -> None:
        with trio.fail_after(START_TIMEOUT_S):
            while "occd: open " not in (said := self._output.read_text()):
                assert self.process
                assert self.process.poll() is None, self.told()
                await trio.sleep(0.02)
        self.url = said.split("occd: open ")[1].split()[0].rstrip("/")

    def told(self) -> str:
        return (self.folder / "log").read_text()[-5000:]

    async def kill(self) -> float:
        """SIGKILL. Gives the seconds until the last of its processes was dead."""
        assert self.process
        os.kill(self.pid, signal.SIGSTOP)  # so that none is started between looking and killing
        theirs = descendants(self.pid)
        for proc in theirs:
            self.groups |= _groups_of(proc.pid)
        self._kill()
        killed_at = time.monotonic()
        await trio.to_thread.run_sync(self.process.wait)
        with trio.move_on_after(10):
            while any(proc.alive for proc in theirs):  # noqa: ASYNC110
                await trio.sleep(0.01)
        return time.monotonic() - killed_at

    def _kill(self) -> None:
        assert self.process
        with suppress(ValueError, ProcessLookupError):  # there is no child yet, or it has ended
            os.kill(self.pid, signal.SIGKILL)
        self.process.kill()  # what stands before it stops and waits with it

    async def stop(self) -> None:
        """The orderly stop."""
        assert self.process
        os.kill(self.pid, signal.SIGTERM)
        with trio.fail_after(START_TIMEOUT_S):
            while self.process.poll() is None:  # noqa: ASYNC110
                await trio.sleep(0.02)
        assert self.process.returncode == 0, self.told()

    def end(self) -> None:
        """Whatever happened in the test."""
        if self.process and self.process.poll() is None:
            self._kill()
            self.process.wait()

    def leftovers(self) -> list[str]:
        """What an orderly stop must not leave: control groups that were ours and that nobody else
        leases now, mounts, and files besides those that are to be kept."""
        cgroups, names = find_cgroups(), self.groups
        groups = [
            str(parent / name)
            for parent in (cgroups.folders if cgroups else ())
            for name in names
            if (parent / name).exists() and _is_free(name)
        ]
        mounts = [each for each in Path("/proc/self/mounts").read_text().splitlines() if
                  str(self.folder) in each]  # fmt: skip
        kept = {"occd.db", "blobs", "built", "lock", "languages.json"}
        return groups + mounts + sorted(set(os.listdir(self.data)) - kept)

    def counted(self) -> list[object]:
        """What of quotas the stopped daemon still counts, beside levels that sink."""
        with closing(sqlite3.connect(self.data / "occd.db")) as db:
            some = "SELECT * FROM quotas WHERE unfinished <> 0 OR stored <> 0 OR reserved <> 0"
            tables = (some, "SELECT * FROM admitted", "SELECT * FROM stored")
            return [row for each in tables for row in db.execute(each)]

    def queued_messages(self, queue: str | None = None) -> int:
        """Of the stopped daemon, in one queue or all."""
        with closing(sqlite3.connect(self.data / "occd.db")) as db:
            count: int = db.execute(
                "SELECT count(*) FROM messages WHERE queue = coalesce(?, queue)", [queue]
            ).fetchone()[0]
        return count

    @property
    def _output(self) -> Path:
        return self.folder / f"said{self.lives}"


def _is_free(group: str) -> bool:
    """Nobody has the slot after which a group is named."""
    number = group.split("-")[1]
    try:
        with (host_folder(kernel.enter_private_mounts()) / number).open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except FileNotFoundError:
        return True
    return True


# the client


async def request(
    url: str, method: str, path: str, body: Any = None, key: str | None = None
) -> tuple[int, Any]:
    """One request on a connection of its own. Raises one of GONE when nobody answers."""
    host, port = url.removeprefix("http://").split(":")
    payload = b"" if body is None else json.dumps(body).encode()
    headers = [("Host", host), ("Connection", "close"), ("Content-Length", str(len(payload)))]
    headers += [("Content-Type", "application/json")] if payload else []
    headers += [("Idempotency-Key", key)] if key else []
    headers += [("X-Forwarded-For", ADDRESS)]
    connection = h11.Connection(h11.CLIENT)
    with trio.fail_after(REQUEST_TIMEOUT_S):
        async with await trio.open_tcp_stream(host, int(port)) as stream:
            head = h11.Request(method=method, target="/api/v1" + path, headers=headers)
            sent = [connection.send(event) for event in (head, h11.Data(data=payload))]
            await stream.send_all(b"".join(filter(None, sent)))
            connection.send(h11.EndOfMessage())
            return await _answer(connection, stream)


async def _answer(connection: h11.Connection, stream: trio.SocketStream) -> tuple[int, Any]:
    status, data = 0, b""
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await stream.receive_some())
        elif isinstance(event, h11.Response):
            status = event.status_code
        elif isinstance(event, h11.Data):
            data += event.data
        elif isinstance(event, h11.EndOfMessage):
            return status, json.loads(data) if data else None
        else:
            raise EOFError("the answer stops half-way")


async def events_of(url: str, ids: list[str]) -> dict[str, list[dict[str, Any]]]:
    """The whole event logs of finished submissions, over one WebSocket."""
    logs: dict[str, list[dict[str, Any]]] = {id: [] for id in ids}
    async with open_websocket_url(url.replace("http", "ws") + "/api/v1/ws") as socket:
        for id in ids:  # one after the other: a log may be long
            await socket.send_message(json.dumps({"type": "subscribe", "id": id, "after": 0}))
            with trio.fail_after(REQUEST_TIMEOUT_S):
                while not logs[id] or logs[id][-1]["event"]["name"] != "finished":
                    frame = json.loads(await socket.get_message())
                    assert frame["type"] in ("done", "event"), frame
                    if frame["type"] == "event":
                        logs[id].append(frame)
    return logs


def log_faults(
    id: str, log: list[dict[str, Any]], seen: dict[str, Any], *, whole: bool = True
) -> list[str]:
    """What is wrong with the event log of a finished submission whose result was `seen`. It is not whole
    when state was emptied while it was under way: then its beginning may be missing."""
    names = [frame["event"]["name"] for frame in log]
    attempts = [frame["event"]["attempt"] for frame in log if frame["event"]["name"] == "started"]
    faults = []
    if [frame["seq"] for frame in log] != list(range(1, len(log) + 1)):
        faults.append(f"{id}: the log has gaps")
    if names.count("finished") != 1 or names[-1] != "finished":
        faults.append(f"{id}: the log has not one finished, at its end: {names}")
    if whole and names[0] != "queued":
        faults.append(f"{id}: the log does not begin with queued: {names}")
    numbers = list(range(1, len(attempts) + 1))
    if whole and (attempts != numbers or len(attempts) != seen["attempts"]):
        faults.append(f"{id}: attempts {attempts} for {seen['attempts']}")
    if log[-1]["event"]["result"] != without_output(seen):
        faults.append(f"{id}: the event has another result than the submission")
    return faults
