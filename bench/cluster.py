"""`make bench-cluster`: what the roles apart cost, beside the embedded set-up in the same run.

RabbitMQ (quorum queues) and Redis (`appendfsync always`) are real and private, started by the tests' own
modules; wrk is the client where the rate of acceptance is measured. The machine drifts: the figures to
quote are the ratios.
"""

import argparse
import json
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import trio

from bench.clients import ask, post, resident_kb, socket
from bench.interactive import interactive
from bench.measure import percentile, rate, timed
from bench.runners import HttpClient
from bench.setups import RUNNING, Servers, show, title

WRK_S = 4
ALONE_RUNS = 100
RATE_S = 6.0
LINES = 200
SOCKETS = 5000
CLIENTS = 32
HOLD = {
    "language": "python",
    "source": "import time; time.sleep(250)",
    "limits": {"wall_time": 299},
}
HELLO = {"language": "python", "source": 'print("Hello, world!")'}
WAITING = {
    "language": "python",
    "source": "print('on', flush=True); print(input(), flush=True)",
    "interactive": True,
    "limits": {"wall_time": 299},
}
TICKER = {
    "language": "python",
    "source": f"import time\nfor _ in range({LINES}): print(time.time_ns(), flush=True); time.sleep(0.05)",
    "limits": {"wall_time": 60},
}


def wrk(folder: Path, ports: Sequence[int], clients: int) -> float:
    """Submissions accepted each second, by one wrk for each port."""
    script = folder / "post.lua"
    script.write_text(
        'wrk.method = "POST"\n'
        f"wrk.body = [==[{json.dumps(HELLO)}]==]\n"
        'wrk.headers["Content-Type"] = "application/json"\n'
        "function done(summary) io.write('errors ', summary.errors.status, '\\n') end\n"
    )
    each = max(1, clients // len(ports))
    processes = [
        subprocess.Popen(
            ["wrk", "-t1", f"-c{each}", f"-d{WRK_S}s", "-s", str(script),
             f"http://127.0.0.1:{port}/api/v1/submissions"],
            stdout=subprocess.PIPE, text=True,
        )
        for port in ports[: max(1, min(clients, len(ports)))]
    ]  # fmt: skip
    total = 0.0
    for process in processes:
        said, _ = process.communicate()
        errors = int(re.findall(r"errors (\d+)", said)[0])
        if errors:
            raise SystemExit(f"wrk: {errors} submissions were not accepted\n{said}")
        total += float(re.findall(r"Requests/sec:\s+([\d.]+)", said)[0])
    return total


async def acceptance(servers: Servers) -> None:
    """One program holds the one slot of the embedded set-up; the cluster has no execute at all."""
    title("durable acceptance, submissions each second (client: wrk, on the same processors)")
    rates: dict[str, dict[int, list[float]]] = {}
    room = {"queue__length_max": "10000000"}
    with ExitStack() as stack:
        one = stack.enter_context(servers.setup(["all"], execute__slots="1", **room))
        many = stack.enter_context(servers.setup(["submit", "submit"], **room))
        await post(one.submit[0], HOLD)
        ports = {"embedded": one.submit, "1 submit": many.submit[:1], "2 submit": many.submit}
        for _ in range(3):
            for clients in (1, 32, 256):
                for name, each in ports.items():
                    measured = await trio.to_thread.run_sync(wrk, servers.folder, each, clients)
                    rates.setdefault(name, {}).setdefault(clients, []).append(measured)
    print(f"{'clients':10}" + "".join(f"{name:>20}" for name in rates))
    for clients in (1, 32, 256):
        middle = {name: percentile(of[clients], 0.5) for name, of in rates.items()}
        cells = (f"{each:10.0f} ({each / middle['embedded']:4.2f})" for each in middle.values())
        print(f"{clients:<10}" + "".join(f"{cell:>20}" for cell in cells))


async def latency(servers: Servers) -> None:
    title("Python hello with `wait`, one at a time, in turn")
    times: dict[str, list[float]] = {}
    with ExitStack() as stack:
        clients = {
            name: HttpClient(stack.enter_context(servers.setup(roles)).submit[0])
            for name, roles in {"embedded": ["all"], "cluster": RUNNING}.items()
        }
        for number in range(ALONE_RUNS + 10):
            for name, client in clients.items():
                took = await timed(client.run)
                if number >= 10:
                    times.setdefault(name, []).append(took * 1e3)
    show(times)
    added = percentile(times["cluster"], 0.5) - percentile(times["embedded"], 0.5)
    print(f"broker and state add {added:.1f} ms at p50")


async def live(servers: Servers) -> None:
    title(
        f"from the program's print to the client, {LINES} lines, by the one clock of this machine"
    )
    late = {}
    for name, roles in {"embedded": ["all"], "cluster": [*RUNNING, "ws"]}.items():
        with servers.setup(roles) as setup:
            late[name] = await _ticks(setup.ws[0])
    show(late)


async def _ticks(port: int) -> list[float]:
    late: list[float] = []
    async with socket(port) as client:
        await client.send_message(json.dumps({"type": "submit", "submission": TICKER}))
        while True:
            frame = json.loads(await client.get_message())
            now = time.time_ns()
            event = frame.get("event", {})
            if event.get("name") == "output":
                late += [(now - int(line)) / 1e6 for line in event["data"].split()]
            if event.get("name") == "finished":
                assert len(late) == LINES, event
                return late


async def throughput(servers: Servers) -> None:
    title("Python hello with `wait` by 16 clients, runs each second (in brackets: of embedded)")
    rates: dict[str, list[float]] = {}
    kinds = {"embedded": ["all"], "1 execute": RUNNING, "2 execute": ["execute", *RUNNING]}
    with ExitStack() as stack:
        clients = {
            name: HttpClient(stack.enter_context(servers.setup(roles)).submit[0])
            for name, roles in kinds.items()
        }
        for _ in range(3):
            for name, client in clients.items():
                rates.setdefault(name, []).append(await rate(client.run, 16, RATE_S / 3))
    for name, each in rates.items():
        middle = percentile(each, 0.5)
        print(f"{name:10}{middle:9.1f} ({middle / percentile(rates['embedded'], 0.5):4.2f})")


async def sockets(servers: Servers) -> None:
    title(f"{SOCKETS} WebSockets that follow one submission, which then prints a line")
    with servers.setup([*RUNNING, "ws"]) as setup:
        before = resident_kb(setup.pids["ws1"])
        id = (await post(setup.submit[0], WAITING))["id"]
        told: list[float] = []
        followers = Followers(setup.ws[0], id, told)
        async with trio.open_nursery() as nursery:
            for _ in range(SOCKETS):
                await nursery.start(followers.follow)
            each_kb = (resident_kb(setup.pids["ws1"]) - before) / SOCKETS
            asked = time.perf_counter()
            async with socket(setup.ws[0]) as speaker:
                frame = {"type": "stdin", "id": id, "data": "now\n", "eof": True}
                await speaker.send_message(json.dumps(frame))
                await followers.all_told.wait()
            nursery.cancel_scope.cancel()
    print(
        f"{each_kb:.1f} kB each; all told {max(told) - asked:.2f} s after it was typed "
        f"({max(told) - min(told):.2f} s from the first to the last)"
    )


@dataclass
class Followers:
    """Read no more of a frame than they must: all of them share this process."""

    port: int
    id: str
    told: list[float]
    all_told: trio.Event = field(default_factory=trio.Event)

    async def follow(self, *, task_status: trio.TaskStatus[None]) -> None:
        async with await trio.open_tcp_stream("127.0.0.1", self.port) as stream:
            await stream.send_all(
                b"GET /api/v1/ws HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
            )
            await self._until(stream, b"101 ")
            frame = json.dumps({"type": "subscribe", "id": self.id}).encode()
            await stream.send_all(bytes([0x81, 0x80 | len(frame)]) + bytes(4) + frame)
            await self._until(stream, b'"data":"on')
            task_status.started()
            await self._until(stream, b'"data":"now')
            self.told.append(time.perf_counter())
            if len(self.told) == SOCKETS:
                self.all_told.set()

    async def _until(self, stream: trio.SocketStream, wanted: bytes) -> None:
        seen = b""
        while wanted not in seen:
            part = await stream.receive_some()
            assert part, seen
            seen += part


async def backlog(servers: Servers, queued: int, drained: int) -> None:
    title(f"{queued} accepted, {drained} of them run, the rest cancelled")
    with servers.setup(["notify", "submit", "submit"], queue__length_max=str(2 * queued)) as setup:
        before = {name: resident_kb(pid) for name, pid in setup.pids.items()}
        ids: list[str] = []
        await _spread(lambda number: _accept(setup.submit[number % 2], queued, ids), "accepted")
        setup.start("execute")
        before["execute1"] = resident_kb(setup.pids["execute1"])
        last = ids[drained - CLIENTS : drained]
        await _spread(lambda number: _finished(setup.submit[0], last[number]), "run")
        rest = ids[drained:]
        await _spread(
            lambda number: _cancel(setup.submit[number % 2], rest[number::CLIENTS]), "cancelled"
        )
        for name, pid in setup.pids.items():
            print(
                f"{name:10}{before[name] / 1024:6.0f} MiB before, {resident_kb(pid) / 1024:6.0f} after"
            )


async def _spread(work: Callable[[int], Awaitable[None]], what: str) -> None:
    began = time.perf_counter()
    async with trio.open_nursery() as nursery:
        for number in range(CLIENTS):
            nursery.start_soon(work, number)
    print(f"{what} in {time.perf_counter() - began:.0f} s", flush=True)


async def _accept(port: int, queued: int, ids: list[str]) -> None:
    while len(ids) < queued:
        ids.append((await post(port, HELLO))["id"])
        if len(ids) % 1000 == 0:
            ready = await ask(port, "GET", "/readyz")
            assert ready["status"] == "ready", ready


async def _finished(port: int, id: str) -> None:
    while (await ask(port, "GET", f"/api/v1/submissions/{id}?wait=60"))["status"] != "finished":
        pass


async def _cancel(port: int, ids: Sequence[str]) -> None:
    for id in ids:
        await ask(port, "DELETE", f"/api/v1/submissions/{id}")


async def main(parts: Sequence[str], queued: int) -> None:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="occd-bench-")))
        servers = Servers(folder, stack)
        print(
            f"{os.cpu_count()} processors, RabbitMQ with quorum queues, Redis with appendfsync always"
        )
        for name, part in PARTS.items():
            if name in parts:
                await part(servers)
        if "backlog" in parts:
            await backlog(servers, queued, queued // 10)


PARTS = {
    "acceptance": acceptance,
    "latency": latency,
    "live": live,
    "interactive": interactive,
    "throughput": throughput,
    "sockets": sockets,
}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "parts", nargs="*", choices=[*PARTS, "backlog"], default=[*PARTS, "backlog"]
    )
    parser.add_argument("--queued", type=int, default=100_000)
    options = parser.parse_args()
    trio.run(main, options.parts, options.queued)
