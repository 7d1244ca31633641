"""A Python hello in containers, through HTTP, beside `docker run` of the same image: one run a second, so
that containers stand ready."""

import os
import tempfile
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import trio
from engine import Reached
from sandboxed import PYTHON
from shared_engine import IMAGE, hold, shared

from bench.measure import Run, daemon, percentile, timed
from bench.runners import SOURCE, HttpClient

RUNS = 30
EVERY_S = 1.0


async def docker_run(engine: Reached, runtime: str) -> None:
    options = ["--rm", "--network=none", "--user=1000:1000", f"--runtime={runtime}"]
    command = ["docker", f"--host={engine.host}", "run", *options, IMAGE, PYTHON, "-c", SOURCE]
    done = await trio.run_process(command, capture_stdout=True)
    assert done.stdout == b"Hello, world!\n", done


def serve_with(stack: ExitStack, folder: Path, engine: Reached, runtime: str) -> int:
    """The port of a daemon whose programs run in containers."""
    settings = {"KIND": "docker", "HOST": engine.host, "RUNTIME": runtime}
    settings["IMAGES"] = f'["{IMAGE.removeprefix("occd/")}"]'
    named = {f"OCCD_SANDBOX__{name}": value for name, value in settings.items()}
    port, _ = stack.enter_context(daemon(str(folder / runtime), environment=named))
    return port


async def docker() -> None:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir="/var/tmp")))
        session = folder / "session"
        session.mkdir()
        lock = hold(session)
        stack.callback(os.close, lock)
        engine = shared(session)
        nsjail, _ = stack.enter_context(daemon(str(folder / "nsjail")))
        kinds: dict[str, Run] = {"nsjail, http": HttpClient(nsjail).run}
        for name, runtime in (("Docker", "runc"), ("gVisor", "runsc")):
            kinds[f"{name}, http"] = HttpClient(serve_with(stack, folder, engine, runtime)).run
            kinds[f"docker run, {runtime}"] = partial(docker_run, engine, runtime)
        times: dict[str, list[float]] = {name: [] for name in kinds}
        for number in range(RUNS + 1):
            for name, run in kinds.items():
                began = time.monotonic()
                seconds = await timed(run)
                if number:
                    times[name].append(seconds)
                await trio.sleep(max(0, began + EVERY_S - time.monotonic()))
    print(f"{RUNS} runs of each, one a second, in turn")
    print(f"{'':20}{'p50 ms':>9}{'p95 ms':>9}")
    for name, each in times.items():
        p50, p95 = (percentile(each, share) * 1e3 for share in (0.5, 0.95))
        print(f"{name:20}{p50:9.1f}{p95:9.1f}")
