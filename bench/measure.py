"""What the benches share: a client, a daemon, and the ways to time."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import trio

from bench.runners import NotRun

Run = Callable[[], Awaitable[None]]


@contextmanager
def daemon(
    folder: str,
    roles: str = "all",
    environment: Mapping[str, str] | None = None,
    module: str = "occd",
) -> Iterator[tuple[int, int]]:
    """The port and the process id of one that serves."""
    # In the background, to precompile and to look for languages would take the processor from what is
    # measured.
    settings = os.environ | {"OCCD_PRECOMPILED__BYTES": "0"} | dict(environment or {})
    if roles in ("all", "execute"):
        Path(folder).mkdir(mode=0o700, parents=True, exist_ok=True)
        occd = [sys.executable, "-m", "occd", "--data-dir", folder]
        subprocess.run([*occd, "languages"], check=True, stdout=subprocess.DEVNULL, env=settings)
    command = [sys.executable, "-m", module, "--roles", roles, "--listen", "127.0.0.1:0"]
    process = subprocess.Popen(
        [*command, "--data-dir", folder],
        stdout=subprocess.PIPE,
        text=True,
        env=settings,
    )
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if found := re.search(r"(?:open|ready:) http://127\.0\.0\.1:(\d+)", line):
                yield int(found[1]), process.pid
                break
        else:
            raise SystemExit(f"occd --roles {roles} did not start")
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def cpu_seconds(pid: int) -> float:
    """The processor time that all threads of a process have used, to the nanosecond."""
    used = 0
    for thread in Path(f"/proc/{pid}/task").iterdir():
        used += int((thread / "schedstat").read_text().split()[0])
    return used / 1e9


async def timed(run: Run) -> float:
    started = time.perf_counter()
    await run()
    return time.perf_counter() - started


async def rate(
    run: Run, clients: int, seconds: float, failed: list[Exception] | None = None
) -> float:
    """Runs per second by so many clients at once. `failed` takes the errors, which else are raised."""
    done = 0

    async def client() -> None:
        nonlocal done
        while time.perf_counter() < until:
            try:
                await run()
            except (OSError, NotRun, trio.BrokenResourceError) as error:
                if failed is None:
                    raise
                failed.append(error)
            else:
                done += 1

    started = time.perf_counter()
    until = started + seconds
    async with trio.open_nursery() as nursery:
        for _ in range(clients):
            nursery.start_soon(client)
    return done / (time.perf_counter() - started)


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]
