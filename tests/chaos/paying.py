"""Quotas for clients that nothing is to refuse. In the end they must add up, whatever was killed.

All clients come from one address of IPv6, by the word of a proxy, and count as one, below the record of their
site. The level of processor time sinks a little between two charges, though not below 0."""

import json
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import trio
from daemons import request

UNFINISHED = 10_000
STORED = 10**14


def accounts(cpu_s: int) -> str:
    """With a limit in a day. The lower it is, the less the level sinks; what is used must stay below it."""
    limits = {
        "unfinished": UNFINISHED,
        "runs_per_minute": 1_000_000,
        "cpu_seconds_per_day": cpu_s,
        "stored_bytes": STORED,
    }
    classes = {"it": limits}
    return json.dumps({"anonymous": {"class": "it"}, "default_class": "it", "classes": classes})


LEFT_BEHIND_S = 240.0
"""What a death left is given back after two minutes, by a process that looks once a minute."""


def cost(seen: Mapping[str, Any], log: Sequence[Mapping[str, Any]]) -> float:
    """The processor time of a result, by its events. An attempt that was lost costs nothing."""
    if seen["verdict"] == "internal_error":
        return 0.0
    names = [frame["event"]["name"] for frame in log]
    if "started" not in names:
        return 0.0
    last = len(names) - names[::-1].index("started")
    events = [frame["event"] for frame in log[last:]]
    ends = [event for event in events if event["name"] == "stage" and event["phase"] == "end"]
    return sum(float(event["outcome"]["cpu_time"]) for event in ends)


def charge(seen: Mapping[str, Any], log: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """When a result was paid for, in seconds of the world's clock, and its cost."""
    return datetime.fromisoformat(seen["finished_at"]).timestamp(), cost(seen, log)


def _level(charges: Sequence[tuple[float, float]], limit: float) -> float:
    """The level now. It sinks by the limit in a day."""
    level = last = 0.0
    for at, more in [*sorted(charges), (time.time(), 0.0)]:
        level = max(0.0, level - (at - last) * limit / 86_400) + more
        last = at
    return level


async def faults(
    url: str, charges: Sequence[tuple[float, float]] | None, ids: Sequence[str]
) -> list[str]:
    """The sums that are wrong. All is finished, and is erased: nothing is stored then. `charges`: None where
    Redis was emptied, and quotas began anew."""
    until = time.monotonic() + LEFT_BEHIND_S
    while True:
        _, me = await request(url, "GET", "/me")
        left = {name: each["left"] for name, each in me["quotas"].items()}
        limit = me["quotas"]["cpu_seconds_per_day"]["limit"]
        if left["unfinished"] == UNFINISHED or time.monotonic() > until:
            break
        await trio.sleep(1)
    used = limit - left["cpu_seconds_per_day"]
    wanted = used if charges is None else _level(charges, limit)
    charged = sum(cost for _, cost in charges or ())
    print(
        f"charged {charged:.2f} s, of which {wanted:.2f} s have not sunk, counted {used:.2f} s",
        flush=True,
    )
    found = []
    if left["unfinished"] != UNFINISHED:
        found.append(
            f"{UNFINISHED - left['unfinished']} unfinished submissions are counted for ever"
        )
    if abs(used - wanted) > 0.01 * charged + 0.05:
        found.append(f"{wanted:.2f} s were to be paid, and {used:.2f} s were")
    if left["stored_bytes"] == STORED:
        found.append("no bytes are counted")
    for id in ids:
        status, said = await request(url, "DELETE", f"/submissions/{id}?erase=true")
        if status not in (204, 404):
            found.append(f"{id} cannot be erased: {status} {said}")
    _, me = await request(url, "GET", "/me")
    if kept := STORED - me["quotas"]["stored_bytes"]["left"]:
        found.append(f"{kept} bytes are counted for ever")
    return found
