"""The cost of running a Python hello, side by side in one run.

*bare* starts the very binary that runs in the jail, by fork and exec; *sandbox* is the sandbox seam
alone; *http* is `POST /submissions?wait=` on a daemon of its own; others are the servers that `RUNNERS` names
(`runners.py`). The machine drifts, so the kinds take turns and the figures to quote are the ratios to bare.
"""

import os
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path

import trio

from bench.measure import Run, cpu_seconds, daemon, percentile, rate, timed
from bench.runners import SOURCE, HttpClient, others
from occd.config import load_config
from occd.model import File, Limits
from occd.sandbox import Run as Program
from occd.sandbox import Sandbox, Sink, open_sandbox
from occd.sandbox.spawn import Process

ALONE_RUNS = 150
SECONDS = 6.0
CLIENTS = (1, 2, 8, 32, 256)
BARE_MAX = 32
"""So many processes, or jails outside of a daemon, are started at once: two cores do no more with more."""


async def bare(binary: str, file: str) -> None:
    read, write = os.pipe2(os.O_CLOEXEC)
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    process = Process([binary, file], {}, {0: null, 1: write, 2: null})
    os.close(write)
    os.close(null)
    async with trio.lowlevel.FdStream(read) as stdout:
        output = b"".join([part async for part in stdout])
    assert await process.wait() == 0
    assert output == b"Hello, world!\n", output
    process.close()


async def sandboxed(sandbox: Sandbox, binary: str) -> None:
    language = sandbox.languages["python"]
    limits = Limits()
    sink = Sink(limits.output)
    program = Program([binary, "main.py"], tuple(language.env.items()), limits, sink, sink)
    async with sandbox.cell(language, [File("main.py", SOURCE.encode())], limits) as cell:
        outcome = (await cell.run(program)).outcome
    assert outcome.succeeded, outcome


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


async def processor(pid: int, run: Run) -> None:
    """The daemon's own CPU time, without its nsjails. A busy machine adds to it, because caches are cold."""
    before = cpu_seconds(pid)
    for _ in range(ALONE_RUNS):
        await run()
    used = (cpu_seconds(pid) - before) / ALONE_RUNS
    print(f"\nthe daemon uses {used * 1e3:.2f} ms of CPU for each of {ALONE_RUNS} over http")


async def together(kinds: dict[str, Run]) -> None:
    print(f"\nruns per second, {SECONDS:g} s of each in three turns (in brackets: share of bare)")
    print(f"{'clients':10}" + "".join(f"{name:>18}" for name in kinds))
    for clients in CLIENTS:
        rates: dict[str, list[float]] = {name: [] for name in kinds}
        failed: dict[str, list[Exception]] = {name: [] for name in kinds}
        for _ in range(3):
            for name, run in kinds.items():
                if name != "sandbox" or clients <= BARE_MAX:
                    at_once = min(clients, BARE_MAX) if name == "bare" else clients
                    rates[name].append(await rate(run, at_once, SECONDS / 3, failed[name]))
        middle = {name: percentile(each, 0.5) for name, each in rates.items() if each}
        cells = (
            f"{middle[name]:10.1f} ({middle[name] / middle['bare']:4.2f})"
            if name in middle
            else "-"
            for name in kinds
        )
        print(f"{clients:<10}" + "".join(f"{cell:>18}" for cell in cells))
        for name, errors in failed.items():
            if errors:
                print(f"{'':10}{len(errors)} errors of {name}, first: {errors[0]!r}")


async def hello() -> None:
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        file = folder / "main.py"
        file.write_text(SOURCE)
        sandbox = await stack.enter_async_context(open_sandbox(load_config(), only="python"))
        binary = sandbox.available["python"][0].binary
        port, pid = stack.enter_context(daemon(str(folder / "data")))
        kinds: dict[str, Run] = {
            "bare": lambda: bare(binary, str(file)),
            "sandbox": lambda: sandboxed(sandbox, binary),
            "http": HttpClient(port).run,
        }
        kinds |= {name: client.run for name, client in others().items()}
        print(f"{binary}, {os.cpu_count()} processors; {'; '.join(sandbox.isolation)}")
        await alone(kinds)
        await processor(pid, kinds["http"])
        await together(kinds)
