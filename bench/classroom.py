"""A classroom: 200 owners submit a Python program with ten tests within ten seconds, and one more owner sends
fifty. The client is on the same processors."""

import json
import os
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import trio

from bench.clients import resident_kb, socket
from bench.measure import daemon, percentile

OWNERS = 200
GREEDY = 50
TESTS = 10
WITHIN_S = 10.0
MEMORY_MB = 250
TOLERANCE_S = 0.5
"""Events are written a moment before or after what they tell of: longer on a busy machine."""

SOURCE = "numbers = sorted(map(int, input().split()))\nprint(*numbers)\n"


@dataclass
class Sent:
    """A submission as its owner saw it. Times of events are the server's."""

    owner: str
    sent: float
    answered: float = 0.0
    queued: dict[str, Any] = field(default_factory=dict)
    times: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    seen: list[float] = field(default_factory=list)
    """When the client saw the end of each test."""
    verdict: str | None = None


async def submit(port: int, owner: str, count: int, into: list[Sent]) -> None:
    """Submit over one connection and follow each submission to its end."""
    by_id: dict[str, Sent] = {}
    tests = [{"stdin": f"{at} 3 1\n", "expected_stdout": f"{_sorted(at)}\n"} for at in range(TESTS)]
    body = {"language": "python", "source": SOURCE, "tests": tests}
    frame = {"type": "submit", "submission": body, "bearer": f"{owner:-<24}"}
    async with socket(port) as connection:
        sent = time.perf_counter()
        for _ in range(count):
            await connection.send_message(json.dumps(frame))
        while len(by_id) < count or not all(each.verdict for each in by_id.values()):
            frame = json.loads(await connection.get_message())
            assert frame["type"] in ("accepted", "event"), frame
            if frame["type"] == "accepted":
                by_id[frame["id"]] = Sent(owner, sent)
                continue
            one, event = by_id[frame["id"]], frame["event"]
            one.times[event["name"]].append(datetime.fromisoformat(frame["time"]).timestamp())
            match event["name"]:
                case "queued":
                    one.queued, one.answered = event, time.perf_counter()
                case "test":
                    one.seen.append(time.perf_counter())
                case "finished":
                    one.verdict = event["result"]["verdict"]
    into += by_id.values()


def _sorted(at: int) -> str:
    return " ".join(map(str, sorted((at, 3, 1))))


def out_of_turn(all_sent: list[Sent]) -> list[float]:
    """By how many seconds each submission began too early that began while another waited whose owner was
    served less recently. An owner who had nothing waiting begins to wait behind those who wait already."""
    served: dict[str, float] = defaultdict(float)
    found = []
    for one in sorted(all_sent, key=lambda one: one.times["started"][0]):
        at = one.times["started"][0]
        mine = max(served[one.owner], _since(one, all_sent, at))
        early = [
            mine - max(served[other.owner], _since(other, all_sent, at))
            for other in all_sent
            if other.owner != one.owner
            and other.times["queued"][0] < at - TOLERANCE_S
            and other.times["started"][0] > at + TOLERANCE_S
        ]
        if early and max(early) > TOLERANCE_S:
            found.append(max(early))
        served[one.owner] = at
    return found


def _since(one: Sent, all_sent: list[Sent], at: float) -> float:
    """Since when submissions of this owner wait without a gap, at the time `at`."""
    mine = [each for each in all_sent if each.owner == one.owner and each.times["queued"][0] <= at]
    since = one.times["queued"][0]
    for each in sorted(mine, key=lambda each: -each.times["queued"][0]):
        if each.times["queued"][0] <= since <= each.times["started"][0]:
            since = each.times["queued"][0]
    return since


async def classroom() -> None:
    everyone = OWNERS + GREEDY
    print(
        f"\n{OWNERS} owners send a Python program with {TESTS} tests within {WITHIN_S:g} s, "
        f"and one sends {GREEDY}"
    )
    all_sent: list[Sent] = []
    with tempfile.TemporaryDirectory() as folder:
        settings = {"OCCD_LANGUAGES": '["python"]'}
        with daemon(f"{folder}/data", environment=settings) as (port, pid):
            await submit(port, "teacher", 8, [])  # from now on there are estimates
            began = time.perf_counter()
            async with trio.open_nursery() as nursery:
                for number in range(OWNERS):
                    nursery.start_soon(submit, port, f"owner-{number}", 1, all_sent)
                    if number == OWNERS // 10:
                        nursery.start_soon(submit, port, "greedy", GREEDY, all_sent)
                    await trio.sleep(WITHIN_S / OWNERS)
            took = time.perf_counter() - began
            peak_mb = resident_kb(pid, peak=True) / 1024
    assert len(all_sent) == everyone
    _show(all_sent, took, peak_mb)


def _show(all_sent: list[Sent], took: float, peak_mb: float) -> None:
    answered = [1e3 * (one.answered - one.sent) for one in all_sent if one.owner != "greedy"]
    whole = [one.times["finished"][0] - one.times["queued"][0] for one in all_sent]
    spread = [1e3 * (one.seen[-1] - one.seen[0]) for one in all_sent]
    unsaid = sum(not one.queued["position"] or one.queued["estimate_s"] is None for one in all_sent)
    wrong = sum(one.verdict != "accepted" or len(one.seen) != TESTS for one in all_sent)
    print(f"all were over after {took:.1f} s: {len(all_sent) * TESTS / took:.0f} tests a second")
    for name, each in (
        ("`queued` seen after", answered),
        ("first test to last seen", spread),
    ):
        p50, p99 = (percentile(each, share) for share in (0.5, 0.99))
        print(f"{name:24} p50 {p50:8.1f}  p99 {p99:8.1f} ms")
    print(
        f"{'queued to finished':24} p50 {percentile(whole, 0.5):8.1f}  p99 {percentile(whole, 0.99):8.1f} s"
    )
    print(f"without position and estimate: {unsaid} (must be 0); not accepted: {wrong} (must be 0)")
    early = out_of_turn(all_sent)
    print(
        f"begun out of turn: {len(early)} (must be 0), by {max(early, default=0.0):.2f} s at most"
    )
    print(f"the daemon's memory at most: {peak_mb:.0f} MB (below {MEMORY_MB})")
    print(f"load of the machine: {os.getloadavg()[0]:.1f}")
