"""The cost of tracing a hello, with nsjail and with Docker: the time that a client waits, and the processor
time and memory of the result. One run a second, in turn, so that containers stand ready."""

import json
import os
import tempfile
import time
from contextlib import ExitStack
from itertools import product
from pathlib import Path

import trio
from shared_engine import hold, shared

from bench.clients import ask
from bench.docker import serve_with
from bench.measure import daemon, percentile

RUNS = 20
EVERY_S = 1.0
HELLOS = {
    "Python": ("python", 'print("Hello, world!")'),
    "C": ("c", '#include <stdio.h>\nint main(void) { puts("Hello, world!"); }'),
}


async def run(port: int, hello: str, *, traced: bool) -> tuple[float, float, float]:
    """The seconds until the answer, the program's processor time, and its memory in MiB."""
    language, source = HELLOS[hello]
    body = json.dumps(
        {"language": language, "source": source} | ({"trace": True} if traced else {})
    )
    began = time.perf_counter()
    result = await ask(port, "POST", "/api/v1/submissions?wait=60", body.encode())
    waited = time.perf_counter() - began
    assert result["verdict"] == "ok", result
    assert not traced or result["trace"]["ended"] == "whole", result
    return waited, result["run"]["cpu_time"], result["run"]["memory"] / 2**20


async def trace() -> None:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir="/var/tmp")))
        session = folder / "session"
        session.mkdir()
        stack.callback(os.close, hold(session))
        ports = {
            "nsjail": stack.enter_context(daemon(str(folder / "nsjail")))[0],
            "Docker": serve_with(stack, folder, shared(session), "runc"),
        }
        kinds = list(product(HELLOS, ports, (False, True)))
        seen: dict[tuple[str, str, bool], list[tuple[float, float, float]]] = {}
        for number in range(RUNS + 1):
            for hello, place, traced in kinds:
                began = time.monotonic()
                found = await run(ports[place], hello, traced=traced)
                if number:
                    seen.setdefault((hello, place, traced), []).append(found)
                await trio.sleep(max(0, began + EVERY_S - time.monotonic()))
    print(
        f"{RUNS} runs of each, one a second, in turn: the answer and the processor time in ms, memory in MiB"
    )
    print(
        f"{'p50 of':16}{'answer':>9}{'cpu':>9}{'memory':>9}{'traced':>12}{'cpu':>9}{'memory':>9}{'ratio':>9}"
    )
    for hello, place in product(HELLOS, ports):
        plain, with_trace = (
            [percentile(list(each), 0.5) for each in zip(*seen[hello, place, traced], strict=True)]
            for traced in (False, True)
        )
        print(
            f"{f'{hello}, {place}':16}"
            f"{plain[0] * 1e3:9.1f}{plain[1] * 1e3:9.1f}{plain[2]:9.1f}"
            f"{with_trace[0] * 1e3:12.1f}{with_trace[1] * 1e3:9.1f}{with_trace[2]:9.1f}"
            f"{with_trace[0] / plain[0]:8.1f}x"
        )
