"""The cost that accounts and quotas add to a Python hello: pairs of one without and one with, in turn.

Both daemons take the same submission over http. The one with accounts is given a key, whose class has every
quota. The figure is the processor time of the daemon itself, without its nsjails.
"""

import json
import os
import tempfile
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path

from bench.measure import cpu_seconds, daemon, percentile
from bench.runners import HttpClient

PAIRS = int(os.environ.get("PAIRS", "1000"))
WARM = 50
BLOCK = 20
"""The pairs of which a ratio is made: the processor time of one is too short to be compared."""

KEY = "occd_" + "k" * 43


def configuration() -> str:
    every = {
        "unfinished": 1000,
        "runs_per_minute": 1_000_000,
        "cpu_seconds_per_hour": 1e6,
        "cpu_seconds_per_day": 1e6,
        "stored_bytes": 10**12,
    }
    digest = sha256(KEY.encode()).hexdigest()
    key = {"id": "bench", "owner": "bench", "class": "all", "sha256": digest}
    return json.dumps(
        {"anonymous": "refuse", "default_class": "all", "classes": {"all": every}, "keys": [key]}
    )


async def accounts() -> None:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        environment = {"OCCD_ACCOUNTS": configuration()}
        kinds = {
            "without": (daemon(str(folder / "without")), None),
            "with": (daemon(str(folder / "with"), environment=environment), KEY),
        }
        clients: dict[str, tuple[HttpClient, int]] = {}
        for name, (context, bearer) in kinds.items():
            port, pid = stack.enter_context(context)
            clients[name] = HttpClient(port, bearer), pid
        for client, _ in clients.values():
            for _ in range(WARM):
                await client.run()
        used: dict[str, list[float]] = {name: [] for name in clients}
        for _ in range(PAIRS // BLOCK):
            block = dict.fromkeys(clients, 0.0)
            for pair in range(BLOCK):
                for name in sorted(clients, reverse=pair % 2 == 0):
                    client, pid = clients[name]
                    before = cpu_seconds(pid)
                    await client.run()
                    block[name] += (cpu_seconds(pid) - before) / BLOCK
            for name, each in block.items():
                used[name].append(each)
        ratios = [b / a for a, b in zip(used["without"], used["with"], strict=True)]
        print(f"{PAIRS} pairs of a hello over http, the daemon's own processor time (p50)")
        for name, times in used.items():
            print(f"{name:10}{percentile(times, 0.5) * 1e3:7.2f} ms")
        print(f"with accounts and quotas it takes {percentile(ratios, 0.5):.3f} times as much")
