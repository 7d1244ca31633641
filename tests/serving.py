"""A real server for tests, `occd --roles all` in a process of its own, and plain clients for it."""

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import trio
from trio_websocket import WebSocketConnection, wrap_client_stream

OCCD = str(Path(sys.executable).with_name("occd"))
API = "/api/v1"
PATIENCE_S = 60.0
"""How long something may take that takes a moment on a quiet machine."""
_VERSIONS: dict[str, str] = {}
"""The answers of this machine's compilers, as servers keep them. A new server gets them as if it were started
again: asking everyone takes it longer than all else."""


@dataclass(frozen=True)
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Server:
    process: subprocess.Popen[bytes]
    data_dir: Path
    output: Path
    log: Path
    port: int = 0
    told: bool = False
    """Whether it got a signal. A second one would cut short how it ends."""

    def request(self, method: str, path: str, body: bytes = b"", **headers: str) -> Answer:
        """`headers` are written as names of Python: `content_type`."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2 * PATIENCE_S)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            with suppress(BrokenPipeError, ConnectionResetError):  # refused before all was sent
                connection.request(method, path, body or None, named)
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Answer:
        return self.request("GET", path, b"", **headers)

    def post(self, body: bytes | dict[str, Any], query: str = "", **headers: str) -> Answer:
        if isinstance(body, dict):
            body = json.dumps(body).encode()
        return self.request("POST", f"{API}/submissions{query}", body, **headers)

    def submit(self, source: str, **fields: Any) -> str:
        """The id of a program that was accepted."""
        answer = self.post({"language": "python", "source": source} | fields)
        assert answer.status == 202, answer.body
        return str(answer.json()["id"])

    def run(self, source: str, **fields: Any) -> dict[str, Any]:
        """The result of a program."""
        return self.result(self.submit(source, **fields))

    def look(self, id: str) -> dict[str, Any]:
        answer = self.get(f"{API}/submissions/{id}")
        assert answer.status == 200, answer.body
        found: dict[str, Any] = answer.json()
        return found

    def result(self, id: str) -> dict[str, Any]:
        result: dict[str, Any] = self.get(f"{API}/submissions/{id}?wait={PATIENCE_S}").json()
        assert result["status"] == "finished"
        return result

    def wait_running(self, id: str) -> None:
        while self.look(id)["status"] == "queued":
            time.sleep(0.02)

    def signal(self, number: signal.Signals) -> None:
        self.told = True
        self.process.send_signal(number)

    def stop(self) -> int:
        """End as a supervisor would, unless it was told to; the exit code."""
        if not self.told:
            self.signal(signal.SIGTERM)
        return self.process.wait(PATIENCE_S)

    @property
    def resident(self) -> int:
        """Bytes of memory in use."""
        return self._status("VmRSS")

    @property
    def peak(self) -> int:
        """The most bytes of memory in use since `forget_peak`."""
        return self._status("VmHWM")

    def forget_peak(self) -> int:
        """Begin `peak` anew; returns the bytes in use now."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")
        return self.resident

    def _status(self, name: str) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition(f"{name}:")[2].split()[0]) * 1024


def start(
    data_dir: Path,
    *args: str,
    program: Path | str = OCCD,
    cwd: Path | None = None,
    roles: str = "all",
    **settings: str,
) -> Server:
    """A process that may or may not come to serve. `settings` as in `execute__slots="1"`."""
    environment = {name: value for name, value in os.environ.items() if name[:5] != "OCCD_"}
    environment.pop("PYTHONUNBUFFERED", None)  # it would hide that a line is not flushed
    environment["OCCD_METRICS__LISTEN"] = "null"  # each process would want the same port
    if program == OCCD:  # an older one does not know it
        environment["OCCD_PRECOMPILED__BYTES"] = "0"  # it takes a minute of a processor
    environment |= {f"OCCD_{name.upper()}": value for name, value in settings.items()}
    data_dir.parent.mkdir(parents=True, exist_ok=True)
    if _VERSIONS and program == OCCD and not os.path.lexists(data_dir):
        data_dir.mkdir(0o700)
        _versions(data_dir).write_text(json.dumps(_VERSIONS))
    output, log = data_dir.with_suffix(".out"), data_dir.with_suffix(".log")
    with output.open("wb") as out, log.open("ab") as err:
        process = subprocess.Popen(
            [
                program,
                f"--roles={roles}",
                f"--data-dir={data_dir}",
                *(args or ["--listen=127.0.0.1:0"]),
            ],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            cwd=cwd or data_dir.parent,
            env=environment,
        )
    return Server(process, data_dir, output, log)


def wait_open(server: Server) -> None:
    deadline = time.monotonic() + PATIENCE_S
    address = r"(?:open|ready:) http://127\.0\.0\.1:(\d+)/"
    while not (said := re.search(address, server.output.read_text())):
        assert server.process.poll() is None, server.log.read_text()
        assert time.monotonic() < deadline, "it does not come up"
        time.sleep(0.02)
    server.port = int(said[1])
    _learn(server)


def _learn(server: Server) -> None:
    with suppress(OSError):  # it may have another user, or no jails
        _VERSIONS.update(json.loads(_versions(server.data_dir).read_text()))


def _versions(data_dir: Path) -> Path:
    return data_dir / "languages.json"


@contextmanager
def serving(
    data_dir: Path,
    *,
    program: Path | str = OCCD,
    cwd: Path | None = None,
    roles: str = "all",
    port: str = "0",
    **settings: str,
) -> Iterator[Server]:
    """A server for as long as the context lasts; it ends well and complained of nothing."""
    listen = f"--listen=127.0.0.1:{port}"
    server = start(data_dir, listen, program=program, cwd=cwd, roles=roles, **settings)
    try:
        wait_open(server)
        yield server
        assert server.stop() == 0
        assert "Traceback" not in server.log.read_text()
    finally:
        if server.process.poll() is None:
            server.process.kill()
            server.process.wait()
        _learn(server)  # it has asked more compilers meanwhile
        print(server.log.read_text()[-5000:])


@dataclass
class Client:
    """A WebSocket. Frames that nobody asked for yet wait in `frames`."""

    socket: WebSocketConnection
    frames: list[dict[str, Any]] = field(default_factory=list)
    refs: Iterator[int] = field(default_factory=count)

    async def receive(self) -> dict[str, Any]:
        with trio.fail_after(PATIENCE_S):
            message = await self.socket.get_message()
        assert isinstance(message, str)
        frame: dict[str, Any] = json.loads(message)
        return frame

    async def ask(self, kind: str, **fields: Any) -> dict[str, Any]:
        """Send a frame; the answer to it, while other frames are kept."""
        ref = f"ref-{next(self.refs)}"
        await self.socket.send_message(json.dumps({"type": kind, "ref": ref} | fields))
        while (frame := await self.receive()).get("ref") != ref:
            self.frames.append(frame)
        return frame

    async def submit(self, source: str, **fields: Any) -> str:
        submission = {"language": "python", "source": source} | fields
        answer = await self.ask("submit", submission=submission)
        assert answer["type"] == "accepted", answer
        return str(answer["id"])

    async def next_event(self, id: str) -> dict[str, Any]:
        """The next event frame of a submission."""
        for frame in self.frames:
            if frame["type"] == "event" and frame["id"] == id:
                self.frames.remove(frame)
                return frame
        while not ((frame := await self.receive())["type"] == "event" and frame["id"] == id):
            self.frames.append(frame)
        return frame

    async def until(self, id: str, name: str) -> list[dict[str, Any]]:
        """Event frames up to the first of this name."""
        found = [await self.next_event(id)]
        while found[-1]["event"]["name"] != name:
            found.append(await self.next_event(id))
        return found

    async def until_output(self, id: str, wanted: str) -> str:
        """What the program wrote, until it has written `wanted`."""
        seen = ""
        while wanted not in seen:
            event = (await self.next_event(id))["event"]
            assert event["name"] != "finished", event
            seen += event["data"] if event["name"] == "output" else ""
        return seen


def output(frames: Sequence[dict[str, Any]], stream: str = "stdout") -> str:
    """The output events of a stream, joined."""
    events = [frame["event"] for frame in frames]
    return "".join(
        event["data"] for event in events if event["name"] == "output" and event["stream"] == stream
    )


def without_output(result: dict[str, Any]) -> dict[str, Any]:
    """A result as the event `finished` has it."""
    stages = {
        stage: result[stage] and result[stage] | {"stdout": None, "stderr": None}
        for stage in ("compile", "run")
    }
    return result | stages | {"tests": [{"verdict": each["verdict"]} for each in result["tests"]]}


@asynccontextmanager
async def connected(server: Server, **headers: str) -> AsyncIterator[Client]:
    stream = await trio.open_tcp_stream("127.0.0.1", server.port)
    async with talking(stream, server, **headers) as client:
        yield client
        with trio.move_on_after(PATIENCE_S):
            await client.socket.aclose()


@asynccontextmanager
async def talking(
    stream: trio.SocketStream, server: Server, **headers: str
) -> AsyncIterator[Client]:
    """Unlike `open_websocket` this closes the stream in every case."""
    async with stream, trio.open_nursery() as nursery:
        socket = await wrap_client_stream(
            nursery,
            stream,
            f"127.0.0.1:{server.port}",
            f"{API}/ws",
            extra_headers=[(name.encode(), value.encode()) for name, value in headers.items()],
            max_message_size=64 * 2**20,
        )
        yield Client(socket)
        nursery.cancel_scope.cancel()
