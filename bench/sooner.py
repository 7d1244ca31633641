"""`make bench PARTS=sooner`: how much sooner a program ends here than in the user's own shell.

A table of figures, each with what it is to be at this step. Each figure is a ratio, or a difference, between
two measurements that took turns. It takes some minutes, half of them to precompile (`occd warm`), as a node
does once. OCCD_PRECOMPILED__FOLDER names what was precompiled before.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any

import trio

from bench.clients import ask
from bench.hello import BARE_MAX, bare
from bench.judging import SOURCE as SUM
from bench.judging import beyond_bare
from bench.measure import Run, daemon, percentile, rate, timed
from bench.runners import SOURCE, HttpClient, NotRun
from occd.config import load_config
from occd.sandbox import open_sandbox

ALONE_RUNS = 100
WARM_RUNS = 10
RATE_S = 2.0
TURNS = 3
ROUNDS = 5
SENT = 100
COMPILED = 10

_WITH_PACKAGES = "import numpy, pandas\nprint(pandas.Series(numpy.arange(3)).sum())\n"
_CPP = "#include <bits/stdc++.h>\nint main() {{ std::cout << {number} << std::endl; }}\n"
_JAVA = "public class Main {{ public static void main(String[] a) {{ System.out.println({number}); }} }}\n"
_numbers = count(int(time.time()))
"""A source with another number was never compiled before."""


class Table:
    def __init__(self) -> None:
        print(f"{'figure':66}{'measured':>24}{'this step':>12}", flush=True)

    def row(self, figure: str, measured: str, step: str) -> None:
        print(f"{figure:66}{measured:>24}{step:>12}", flush=True)


async def sooner() -> None:
    with tempfile.TemporaryDirectory() as folder, _warm_daemon(Path(folder)) as port:
        file = Path(folder) / "main.py"
        file.write_text(SOURCE)
        async with open_sandbox(load_config(), only="python") as sandbox:
            binary = sandbox.available["python"][0].binary
        table = Table()
        await _hello(table, port, lambda: bare(binary, str(file)))
        await _packages(table, port, binary)
        await _compiled(table, port, Path(folder))
        await _judged(table, folder)
        await _sent_again(table, port, Path(folder))
    print(f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}")


@contextmanager
def _warm_daemon(folder: Path) -> Iterator[int]:
    data = str(folder / "data")
    subprocess.run([sys.executable, "-m", "occd", "--data-dir", data, "warm"], check=True)
    settings = load_config().precompiled
    with daemon(data, environment={"OCCD_PRECOMPILED__BYTES": str(settings.bytes)}) as (port, _):
        yield port


async def _hello(table: Table, port: int, run_bare: Run) -> None:
    client = HttpClient(port)
    kinds: dict[str, Run] = {"bare": run_bare, "http": client.run}
    times = await _in_turn(kinds, ALONE_RUNS)
    p50 = {name: median(each) for name, each in times.items()}
    p99 = percentile(times["http"], 0.99)
    table.row("Python hello, HTTP with wait, alone, p50 to bare", _times(p50), "0.7")
    table.row("its p99 to bare p50", f"{p99 / p50['bare']:.2f}", "2.0")
    for clients in (8, 256):
        rates: dict[str, list[float]] = {name: [] for name in kinds}
        failed: list[Exception] = []
        for _ in range(TURNS):
            rates["bare"].append(await rate(run_bare, min(clients, BARE_MAX), RATE_S))
            rates["http"].append(await rate(client.run, clients, RATE_S, failed))
        found = f"{median(rates['http']) / median(rates['bare']):.2f}, {len(failed)} errors"
        table.row(f"runs/s with {clients} in flight, to bare", found, "1.3, 0")
    await client.aclose()


async def _packages(table: Table, port: int, binary: str) -> None:
    figure = "with numpy and pandas imported, p50 (to bare)"
    client = HttpClient(port, source=_WITH_PACKAGES, output="3\n")
    try:
        await client.run()
    except NotRun as error:
        if "ModuleNotFoundError" not in str(error):
            raise
        table.row(figure, "not installed", "15 ms")
        await client.aclose()
        return

    async def run_bare() -> None:
        await trio.run_process([binary, "-c", _WITH_PACKAGES], capture_stdout=True)

    times = await _in_turn({"bare": run_bare, "http": client.run}, 3 * ROUNDS)
    p50 = {name: median(each) for name, each in times.items()}
    found = f"{p50['http'] * 1e3:.1f} ms ({p50['http'] / p50['bare']:.2f})"
    table.row(figure, found, "15 ms")
    await client.aclose()


async def _compiled(table: Table, port: int, folder: Path) -> None:
    """Programs that are compiled: for the first time, and again."""
    main = folder / "main"
    cpp, java = folder / "main.cpp", folder / "Main.java"

    async def bare_cpp(source: str) -> None:
        cpp.write_text(source)
        await _quietly(["g++", "-O2", str(cpp), "-o", str(main)], [str(main)])

    async def bare_java(source: str) -> None:
        java.write_text(source)
        await _quietly(["javac", str(java)], ["java", "-cp", str(folder), "Main"])

    offered = {each["id"] for each in (await ask(port, "GET", "/api/v1/languages"))["languages"]}
    for language, form, run_bare in ("cpp", _CPP, bare_cpp), ("java", _JAVA, bare_java):
        times: dict[str, list[float]] = {"bare": [], "first": [], "again": []}
        for number in range(ROUNDS + 1) if language in offered else ():
            source = form.format(number=next(_numbers))
            found = {
                "bare": await timed(partial(run_bare, source)),
                "first": await _submitted(port, language, source),
                "again": await _submitted(port, language, source),
            }
            for name, seconds in found.items() if number else ():
                times[name].append(seconds)
        p50 = {name: median(each) for name, each in times.items() if each}
        if language == "cpp":
            table.row("C++ with bits/stdc++.h, first time, to bare", _times(p50, "first"), "0.4")
            table.row("the same again", _times(p50, "again"), "0.02")
        else:
            table.row("Java hello to bare javac and java", _times(p50, "first"), "0.6")


async def _judged(table: Table, folder: str) -> None:
    beyond = [test - bare for bare, test in await beyond_bare(folder, ROUNDS)]
    table.row("100 tests of one C++ program, ms a test beyond bare", f"{median(beyond):.2f}", "3")


async def _sent_again(table: Table, port: int, folder: Path) -> None:
    """The same source many times, each with one test, and in turn some compilations of it, by occd and in a
    shell: a source that includes what those of contestants include, and one that includes little."""
    figure = f"a source sent {SENT} times with one test, to compiling {SENT} times"
    main, program = folder / "sum.cpp", folder / "sum"
    for name, including, step in (
        (figure, SUM.replace("<iostream>", "<bits/stdc++.h>"), "1/30"),
        ("the same of one that includes iostream alone", SUM, ""),
    ):
        source = including + f"// {next(_numbers)}\n"
        main.write_text(source)
        sent, compiled, bare = 0.0, [], []
        for _ in range(COMPILED):
            bare.append(
                await timed(partial(_quietly, ["g++", "-O2", str(main), "-o", str(program)]))
            )
            compiled.append(await _submitted(port, "cpp", source, tests=_ONE_TEST, cache=False))
            for _ in range(SENT // COMPILED):
                sent += await _submitted(port, "cpp", source, tests=_ONE_TEST)
        here, shell = (SENT * median(each) / sent for each in (compiled, bare))
        table.row(name, f"1/{here:.0f} (1/{shell:.0f} in a shell)", step)


_ONE_TEST = [{"stdin": "1 2\n", "expected_stdout": "3\n"}]


async def _submitted(port: int, language: str, source: str, **fields: Any) -> float:
    """Seconds until the result."""
    body = json.dumps({"language": language, "source": source} | fields).encode()
    began = time.perf_counter()
    result = await ask(port, "POST", "/api/v1/submissions?wait=60", body)
    took = time.perf_counter() - began
    assert result.get("verdict") in ("ok", "accepted"), result
    return took


async def _quietly(*commands: list[str]) -> None:
    for command in commands:
        await trio.run_process(command, capture_stdout=True)


async def _in_turn(kinds: dict[str, Run], runs: int) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in kinds}
    for number in range(runs + WARM_RUNS):
        for name, run in kinds.items():
            seconds = await timed(run)
            if number >= WARM_RUNS:
                times[name].append(seconds)
    return times


def _times(p50: dict[str, float], name: str = "http") -> str:
    """A ratio to bare, with its two sides in ms."""
    if name not in p50:
        return "not installed"
    ratio = p50[name] / p50["bare"]
    return f"{ratio:.3g} ({p50[name] * 1e3:.1f} of {p50['bare'] * 1e3:.1f} ms)"
