"""`make bench`: what running a Python hello costs, side by side in one run.

*bare* starts the very binary that runs in the jail, by fork and exec; *sandbox* is the sandbox seam
alone; *http* is `POST /submissions?wait=` on a daemon of its own. The machine drifts, so the kinds
take turns and the figures to quote are the ratios to bare.
"""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

import trio

from occd.config import load_config
from occd.model import File, Limits
from occd.sandbox import Job, Sandbox, no_signals, no_stdin, open_sandbox
from occd.sandbox.kernel import enter_private_mounts
from occd.sandbox.spawn import Process

SOURCE = b'print("Hello, world!")\n'
ALONE_RUNS = 150
SECONDS = 6.0
CLIENTS = (1, 2, 8, 32)
Run = Callable[[], Awaitable[None]]


async def bare(binary: str, file: str) -> None:
    read, write = os.pipe2(os.O_CLOEXEC)
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    process = Process([binary, file], {0: null, 1: write, 2: null})
    os.close(write)
    os.close(null)
    async with trio.lowlevel.FdStream(read) as stdout:
        output = b"".join([part async for part in stdout])
    assert await process.wait() == 0
    assert output == b"Hello, world!\n", output
    process.close()


async def sandboxed(sandbox: Sandbox, binary: str) -> None:
    language = sandbox.languages["python"]
    job = Job("run", [binary, "main.py"], tuple(language.env.items()), Limits())
    async with sandbox.cell(language, [File("main.py", SOURCE)], Limits()) as cell:
        outcome = await cell.run(
            job, no_stdin(), lambda _stream, _data: None, trio.Event(), no_signals()
        )
    assert outcome.succeeded, outcome


class HttpClient:
    """Connections kept open, and no more of HTTP than this needs: its work is on the same cores."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._idle: list[trio.SocketStream] = []
        body = json.dumps({"language": "python", "source": SOURCE.decode()})
        self._request = (
            f"POST /api/v1/submissions?wait=60 HTTP/1.1\r\nHost: bench\r\n"
            f"Content-Length: {len(body)}\r\n\r\n{body}"
        ).encode()

    async def run(self) -> None:
        stream = (
            self._idle.pop() if self._idle else await trio.open_tcp_stream("127.0.0.1", self._port)
        )
        await stream.send_all(self._request)
        answer = b""
        while not answer.endswith(b'"}'):
            part = await stream.receive_some(65_536)
            assert part, answer
            answer += part
        assert answer.startswith(b"HTTP/1.1 200"), answer
        assert b'"verdict":"ok"' in answer, answer
        self._idle.append(stream)


@contextmanager
def daemon(folder: str) -> Iterator[int]:
    command = [sys.executable, "-m", "occd", "--roles", "all", "--listen", "127.0.0.1:0"]
    process = subprocess.Popen([*command, "--data-dir", folder], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if found := re.search(r"open http://127\.0\.0\.1:(\d+)", line):
                yield int(found[1])
                break
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


async def timed(run: Run) -> float:
    started = time.perf_counter()
    await run()
    return time.perf_counter() - started


async def rate(run: Run, clients: int, seconds: float) -> float:
    """Runs per second by so many clients at once."""
    done = 0

    async def client() -> None:
        nonlocal done
        while time.perf_counter() < until:
            await run()
            done += 1

    started = time.perf_counter()
    until = started + seconds
    async with trio.open_nursery() as nursery:
        for _ in range(clients):
            nursery.start_soon(client)
    return done / (time.perf_counter() - started)


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


async def alone(kinds: dict[str, Run]) -> None:
    print(f"{ALONE_RUNS} runs of each, one at a time, in turn")
    times: dict[str, list[float]] = {name: [] for name in kinds}
    for number in range(ALONE_RUNS + 10):
        for name, run in kinds.items():
            seconds = await timed(run)
            if number >= 10:
                times[name].append(seconds)
    print(f"{'':10}{'p50 ms':>9}{'p95 ms':>9}{'p99 ms':>9}   p50 to bare")
    for name, each in times.items():
        p50, p95, p99 = (percentile(each, share) * 1e3 for share in (0.5, 0.95, 0.99))
        ratio = percentile(each, 0.5) / percentile(times["bare"], 0.5)
        print(f"{name:10}{p50:9.1f}{p95:9.1f}{p99:9.1f}{ratio:12.2f}x")


async def together(kinds: dict[str, Run]) -> None:
    print(f"\nruns per second, {SECONDS:g} s of each in three turns (in brackets: share of bare)")
    print(f"{'clients':10}" + "".join(f"{name:>18}" for name in kinds))
    for clients in CLIENTS:
        rates: dict[str, list[float]] = {name: [] for name in kinds}
        for _ in range(3):
            for name, run in kinds.items():
                rates[name].append(await rate(run, clients, SECONDS / 3))
        middle = {name: percentile(each, 0.5) for name, each in rates.items()}
        cells = (f"{each:10.1f} ({each / middle['bare']:4.2f})" for each in middle.values())
        print(f"{clients:<10}" + "".join(f"{cell:>18}" for cell in cells))


async def main() -> None:
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        file = folder / "main.py"
        file.write_bytes(SOURCE)
        sandbox = await stack.enter_async_context(open_sandbox(load_config(), only="python"))
        binary = sandbox.available["python"][0].binary
        port = stack.enter_context(daemon(str(folder / "data")))
        kinds: dict[str, Run] = {
            "bare": lambda: bare(binary, str(file)),
            "sandbox": lambda: sandboxed(sandbox, binary),
            "http": HttpClient(port).run,
        }
        print(f"{binary}, {os.cpu_count()} processors; {'; '.join(sandbox.isolation)}")
        await alone(kinds)
        await together(kinds)


enter_private_mounts()
trio.run(main)
