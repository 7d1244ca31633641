"""`make bench-page`: the page's share of a run, a flood of output in it, and how it opens.

The browser is on the same cores as the daemon and the programs.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import trio
from e2e.editor import ARGS, CHROMIUM
from e2e.measuring import FLOODS, WIDE, Flood, Hello, flood, opening, ready_ms
from playwright.sync_api import Browser, sync_playwright
from serving import serving

from bench.clients import socket
from bench.measure import percentile

RUNS = 50
SHARE_MS = 12.0
FLOOD_RUNS = int(os.environ.get("FLOOD_RUNS", "10"))
FLOOD_SECONDS = float(os.environ.get("FLOOD_SECONDS", "30"))
LONGEST_MS = 100.0
HEAP = 256 * 10**6
OPENINGS = 10
VIEW = 200_000
TRIPS = 3
READY_MS = 1000.0
SLOWER = 4.0
OUTPUT = 2**30
MOST = 250_000_000
"""Bytes that a program writes, if it is so fast. They keep the page busy for 30 s and longer."""
HELLO = "import os\nprint('Hello', os.urandom(4).hex())\n"


async def page() -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(Path(folder) / "data", ceilings__output=str(OUTPUT)) as server,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGS)
        url = f"http://127.0.0.1:{server.port}/"
        _open(browser, url)
        await _share(browser, server.port, Path(folder))
        _floods(browser, url)
        browser.close()


def _open(browser: Browser, url: str) -> None:
    first = min((opening(browser, url) for _ in range(3)), key=lambda each: each.trips)
    print("\nhow the page opens")
    _tell(f"{first.size / 1000:6.0f} kB on the wire (below {VIEW / 1000:g})", first.size < VIEW)
    _tell(
        f"{first.trips:6.2f} round trips before the program shows (at most {TRIPS})",
        int(first.trips) <= TRIPS,
    )
    times = [ready_ms(browser, url, SLOWER) for _ in range(OPENINGS)]
    _tell(
        f"{median(times):6.0f} ms until it can be used, {SLOWER:g} times slower,"
        f" median of {OPENINGS} (below {READY_MS:g})",
        median(times) < READY_MS,
    )


async def _share(browser: Browser, port: int, folder: Path) -> None:
    """Of a run, interleaved: in the page, on a plain WebSocket, and without any of us."""
    file = folder / "hello.py"
    file.write_text(HELLO)
    print(f"\nfrom Ctrl-Enter to the first character, p50 of {RUNS} in turn")
    for kind, given in (("with input", "some\n"), ("terminal", "")):
        width, height = WIDE
        with browser.new_context(viewport={"width": width, "height": height}) as context:
            hello = Hello(context.new_page(), f"http://127.0.0.1:{port}/", HELLO, given)
            times: dict[str, list[float]] = {"page": [], "socket": [], "bare": []}
            hello.run()  # which may fetch and make the terminal
            for _ in range(RUNS):
                times["page"].append(hello.run())
                times["socket"].append(await _on_socket(port, hello.frame))
                times["bare"].append(_bare(file))
            p50 = {name: percentile(each, 0.5) for name, each in times.items()}
            share = p50["page"] - p50["socket"]
            _tell(
                f"{kind:12}{p50['page']:6.1f} ms, on a plain WebSocket {p50['socket']:6.1f}:"
                f" the page's share {share:5.1f} ms (at most {SHARE_MS:g});"
                f" {p50['page'] / p50['bare']:.1f} times python3 hello.py ({p50['bare']:.1f} ms)",
                share <= SHARE_MS,
            )


async def _on_socket(port: int, submit: dict[str, Any]) -> float:
    async with socket(port) as connection:
        began = trio.current_time()
        await connection.send_message(json.dumps(submit))
        seen = None
        while True:
            frame = json.loads(await connection.get_message())
            event = frame.get("event", {})
            if event.get("name") == "output" and seen is None:
                seen = trio.current_time()
            if event.get("name") == "finished":
                assert seen is not None, event
                return 1e3 * (seen - began)


def _bare(file: Path) -> float:
    began = time.perf_counter()
    subprocess.run(["/usr/bin/python3", file], check=True, stdout=subprocess.PIPE)
    return 1e3 * (time.perf_counter() - began)


def _floods(browser: Browser, url: str) -> None:
    print(
        f"\na program prints at full speed for {FLOOD_SECONDS:g} s, or {MOST / 1e6:g} MB;"
        f" the longest task of the page, median of {FLOOD_RUNS} runs (below {LONGEST_MS:g} ms)"
    )
    print(f"{'':24}longest ms  (worst)  working ms   heap MB    nodes  shown MB  after s")
    raised = {"output": OUTPUT, "cpu_time": 60, "wall_time": 300}
    for kind in FLOODS:
        runs: list[Flood] = []
        for _ in range(FLOOD_RUNS):
            runs.append(flood(browser, url, kind, seconds=FLOOD_SECONDS, most=MOST, raised=raised))
            if sys.stderr.isatty():
                print(f"{kind}: {len(runs)} of {FLOOD_RUNS}", end="\r", file=sys.stderr)
        longest = median(each.longest_ms for each in runs)
        heap = max(each.heap for each in runs)
        _tell(
            f"{kind:24}{longest:10.0f}{max(each.longest_ms for each in runs):9.0f}"
            f"{median(each.longest_cpu_ms for each in runs):12.0f}{heap / 1e6:10.0f}"
            f"{max(each.nodes for each in runs):9}"
            f"{median(each.received for each in runs) / 1e6:10.0f}"
            f"{median(each.took_s for each in runs):9.1f}",
            longest < LONGEST_MS and heap < HEAP,
        )


def _tell(line: str, good: bool) -> None:
    print(line if good else f"{line}  TOO MUCH; the load is {os.getloadavg()[0]:.1f}", flush=True)
