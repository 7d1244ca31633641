"""The cost that metrics add to a Python hello: pairs of one without and one with, in turn.

Both daemons take the same submission over http. The one without counts nothing (`uncounted.py`). The one with
metrics is scraped every 15 s, as by Prometheus. The figure is all processor time of the daemon itself
meanwhile, its scrapes included, without its nsjails.
"""

import os
import random
import tempfile
from contextlib import ExitStack
from pathlib import Path

import trio
from redis_server import free_port

from bench.measure import cpu_seconds, daemon, percentile
from bench.runners import HttpClient

PAIRS = int(os.environ.get("PAIRS", "1000"))
WARM = 50
BLOCK = 20
"""The pairs whose processor time is read at once. Drawing blocks anew shows what chance does."""
SCRAPE_EVERY_S = 15.0


async def scrape(port: int) -> bytes:
    text = b""
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(
            b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
        )
        async for part in stream:
            text += part
    assert text.startswith(b"HTTP/1.1 200"), text
    return text


def ratio(blocks: list[tuple[float, float]]) -> float:
    return sum(with_ for _, with_ in blocks) / sum(without for without, _ in blocks)


async def metrics() -> None:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        scraped = free_port()
        clients: dict[str, tuple[HttpClient, int]] = {}
        for name, module, listen in (
            ("without", "bench.uncounted", "null"),
            ("with", "occd", f"127.0.0.1:{scraped}"),
        ):
            environment = {"OCCD_METRICS__LISTEN": listen}
            port, pid = stack.enter_context(
                daemon(str(folder / name), environment=environment, module=module)
            )
            clients[name] = HttpClient(port), pid
        for client, _ in clients.values():
            for _ in range(WARM):
                await client.run()
        used: dict[str, list[float]] = {name: [] for name in clients}
        due, scrapes = trio.current_time(), 0
        for _ in range(PAIRS // BLOCK):
            before = {name: cpu_seconds(pid) for name, (_, pid) in clients.items()}
            for pair in range(BLOCK):
                for name in sorted(clients, reverse=pair % 2 == 0):
                    await clients[name][0].run()
                if trio.current_time() >= due:
                    due, scrapes = trio.current_time() + SCRAPE_EVERY_S, scrapes + 1
                    await scrape(scraped)
            for name, (_, pid) in clients.items():
                used[name].append((cpu_seconds(pid) - before[name]) / BLOCK)
        print(
            f"{PAIRS} pairs of a hello over http, {scrapes} scrapes, the daemon's own processor time"
        )
        for name, times in used.items():
            print(f"{name:10}{sum(times) / len(times) * 1e3:7.2f} ms")
        blocks = list(zip(used["without"], used["with"], strict=True))
        drawn = [ratio(random.choices(blocks, k=len(blocks))) for _ in range(1000)]
        low, high = percentile(drawn, 0.025), percentile(drawn, 0.975)
        print(
            f"with metrics it takes {ratio(blocks):.3f} times as much ({low:.3f} to {high:.3f} in 19 of 20"
            " drawings of the blocks)"
        )
