"""`make chaos`: a cluster under steady load while everything in it is killed, held and cut off in turn.

Clients submit with idempotency keys, repeat what was not answered, follow over WebSockets of any ws node
and reconnect. At the end every accepted submission has one result, its events have no gap, and each
client saw `finished` once. With `--quotas` each is also paid for once (but where Redis was
emptied), and none is counted for ever. Three
forms: faults (the default); `--empty`, in which Redis also loses all it knows once in the middle; `--drain`,
in which every node is stopped in order instead, and nothing may take a second attempt.

Run as root; it makes a private network namespace for itself (`cluster.py`).
"""

import argparse
import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import paying
import redis
import trio
from cluster import Cluster, Node, Server, cluster, enter_private_network
from daemons import EVERYBODY, GONE, events_of, log_faults, request
from programs import BAD_C, CANCEL, CHECKED, FAIL, JUDGED, LEAVES, LINES, SLEEP, SPIN, C, Program
from serving import without_output
from trio_websocket import ConnectionClosed, HandshakeError, open_websocket_url

CLIENTS = 10
HOLD_S, RESTART_S = 5.0, 1.0
FINISH_S = 240.0
SILENT_S = 15.0
"""A WebSocket that says nothing for longer than any program is silent is given up for another."""

LONG = Program(
    "long",
    "ok",
    "import time\nfor n in range(25): print(n, flush=True); time.sleep(0.2)",
    share=2,
    stdout="".join(f"{n}\n" for n in range(25)),
)
PROGRAMS = (LINES, SLEEP, C, BAD_C, FAIL, SPIN, CANCEL, LONG, JUDGED, CHECKED, LEAVES)
GONE_WS = (*GONE, ConnectionClosed, HandshakeError)


@dataclass
class Chaos:
    cluster: Cluster
    fault_random: random.Random
    """Its own, so that a seed gives the same faults in the same order, whatever the clients do."""
    random: random.Random
    every_s: float
    quotas: bool = False
    over: bool = False
    numbers: int = 0
    emptied_at: float | None = None
    known_only_to_redis: set[str] = field(default_factory=set)
    """What was finished when Redis was emptied; it may be recorded anew, or be gone."""
    started: float = 0.0
    accepted: dict[str, Program] = field(default_factory=dict)
    accepted_at: dict[str, float] = field(default_factory=dict)
    cancelled_at: dict[str, float] = field(default_factory=dict)
    excused: set[str] = field(default_factory=set)
    by_key: dict[str, str] = field(default_factory=dict)
    results: dict[str, dict[str, Any]] = field(default_factory=dict)
    finished_at: dict[str, float] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    resets: int = 0
    reconnects: int = 0
    done: Counter[str] = field(default_factory=Counter)

    async def client(self) -> None:
        while not self.over:
            self.numbers += 1
            key = f"key-{self.numbers}"
            (program,) = self.random.choices(PROGRAMS, [each.share for each in PROGRAMS])
            began = time.monotonic()
            seen = await self.ask("POST", "/submissions", program.body, key)
            self.note(seen["id"], key, program, began)
            if program.cancel:
                await trio.sleep(self.random.random())
                await self.cancel(seen["id"])
            if seen["id"] not in self.excused:
                await self.follow(seen["id"])

    def note(self, id: str, key: str, program: Program, began: float) -> None:
        known = self.by_key.setdefault(key, id)
        if known != id:
            self.faults.append(f"{key} made both {known} and {id}")
        self.accepted[id] = program
        self.accepted_at[id] = began

    async def cancel(self, id: str) -> None:
        while id not in self.excused:
            asked_at = time.monotonic()
            if await self._ask_once("DELETE", f"/submissions/{id}"):
                self.cancelled_at[id] = asked_at
                return

    async def ask(self, method: str, path: str, body: Any = None, key: str | None = None) -> Any:
        """Until some submit node answers."""
        while not (answer := await self._ask_once(method, path, body, key)):
            pass
        return answer

    async def _ask_once(
        self, method: str, path: str, body: Any = None, key: str | None = None
    ) -> Any:
        """None asks to come again, after a moment: so say 503, and 404 of what a Redis that was emptied
        has to be told again."""
        node = self.random.choice(self.cluster.of("submit"))
        try:
            with trio.fail_after(SILENT_S):
                status, answer = await request(node.url, method, path, body, key)
        except (*GONE, ValueError):
            await trio.sleep(0.05)
            return None
        if status in (200, 202):
            return answer
        if not (status == 503 or (status == 404 and self._forgotten(path.rpartition("/")[2]))):
            self.faults.append(f"{method} {path}: {status} {answer}")
        await trio.sleep(0.1)
        return None

    def _forgotten(self, id: str) -> bool:
        """Whether Redis may have forgotten it; if it was finished by then, it is excused."""
        if id in self.known_only_to_redis:
            self.excused.add(id)
        return self.emptied_at is not None and self.accepted_at[id] <= self.emptied_at

    async def follow(self, id: str) -> None:
        """Over one WebSocket after another, until `finished`."""
        log: list[dict[str, Any]] = []
        while not log or log[-1]["event"]["name"] != "finished":
            if id in self.excused:
                return
            node = self.random.choice(self.cluster.of("ws"))
            try:
                await self._follow_on(node, id, log)
            except GONE_WS:
                self.reconnects += 1
                await trio.sleep(0.05)
            except BaseExceptionGroup as group:
                if group.split(GONE_WS)[1]:
                    raise
                self.reconnects += 1
        self.finished_at[id] = time.monotonic()
        result = log[-1]["event"]["result"]
        self.results[id] = result
        if not self._forgotten_cancel(id, result):
            self.faults += filter(None, [self.accepted[id].fault(result)])
        if [frame["seq"] for frame in log] != list(range(1, len(log) + 1)):
            self.faults.append(f"{id}: its client saw a gap")
        if sum(frame["event"]["name"] == "finished" for frame in log) != 1:
            self.faults.append(f"{id}: its client saw finished more than once")

    async def _follow_on(self, node: Node, id: str, log: list[dict[str, Any]]) -> None:
        url = f"{node.url.replace('http', 'ws')}/api/v1/ws"
        async with open_websocket_url(
            url, connect_timeout=SILENT_S, disconnect_timeout=1
        ) as socket:
            after = log[-1]["seq"] if log else 0
            await socket.send_message(json.dumps({"type": "subscribe", "id": id, "after": after}))
            while not log or log[-1]["event"]["name"] != "finished":
                with trio.fail_after(SILENT_S):
                    frame = json.loads(await socket.get_message())
                if frame["type"] == "event":
                    log.append(frame)
                elif frame["type"] == "error":
                    if not self._expected(id, frame["problem"], log):
                        self.faults.append(f"{id}: {frame}")
                    await trio.sleep(0.2)
                    return

    def _forgotten_cancel(self, id: str, result: dict[str, Any]) -> bool:
        """A cancel that Redis had been told of went with all else that it knew."""
        asked_at = self.cancelled_at.get(id)
        told_before = asked_at is not None and asked_at <= (self.emptied_at or 0.0)
        return told_before and result["verdict"] == "ok"

    def _expected(self, id: str, problem: dict[str, Any], log: list[dict[str, Any]]) -> bool:
        """What a client mends by coming again."""
        if problem["type"] == "events-reset" and self.emptied_at:
            self.resets += 1
            log.clear()
            return True
        forgotten = problem["type"] == "unknown-submission" and self._forgotten(id)
        return forgotten or problem["status"] == 503

    # What is done to them

    async def disturb(self, seconds: float, *, empty: bool) -> None:
        until = time.monotonic() + seconds
        middle = time.monotonic() + seconds / 2
        while time.monotonic() < until:
            with trio.move_on_after(self.every_s):
                if empty and not self.emptied_at and time.monotonic() > middle:
                    self.known_only_to_redis = self.cluster.redis.empty()
                    self.emptied_at = time.monotonic()
                    self.say("redis", "emptied")
                else:
                    await self._disturb_one()
                await trio.sleep_forever()

    async def _disturb_one(self) -> None:
        names = [*(node.name for node in self.cluster.nodes), "rabbitmq", "redis"]
        name = self.fault_random.choice(names)
        node = next((node for node in self.cluster.nodes if node.name == name), None)
        how = self.fault_random.choice(["kill", "hold", "cut"])
        self.say(name, how)
        self.done[how] += 1
        servers: dict[str, Server] = {
            "rabbitmq": self.cluster.rabbitmq,
            "redis": self.cluster.redis,
        }
        host = node.host if node else self.cluster.hosts[name]
        what: Server = node or servers[name]
        if how == "kill":
            what.kill()
            await trio.sleep(RESTART_S)
            what.launch()
        elif how == "hold":
            what.pause()
            await self._shielded(what.resume)
        else:
            host.cut()
            await self._shielded(host.mend)

    async def _shielded(self, mend: Callable[[], None]) -> None:
        with trio.CancelScope(shield=True):  # five seconds
            await trio.sleep(HOLD_S)
            mend()

    async def drain_all(self, seconds: float) -> None:
        """Every node in turn is stopped in order and started again, until the time is up."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            for node in self.cluster.nodes:
                self.say(node.name, "stop")
                self.done["stop"] += 1
                if code := await node.stop():
                    self.faults.append(f"{node.name} ended with {code}: {node.told()}")
                node.launch()
                await node.ready()

    def say(self, name: str, what: str) -> None:
        print(f"{time.monotonic() - self.started:6.1f} s  {what} {name}", flush=True)

    # What is seen afterwards

    async def look_back(self) -> None:
        """Everything once more, from the whole cluster at rest."""
        ids = [id for id in self.results if id not in self.known_only_to_redis]
        for id in ids:
            seen = await self.ask("GET", f"/submissions/{id}")
            if without_output(seen) != self.results[id]:
                self.faults.append(f"{id}: two results: {self.results[id]} and {seen}")
            elif not self._forgotten_cancel(id, seen):
                self.faults += filter(None, [self.accepted[id].fault(seen)])
            self.results[id] = seen
        charges: list[tuple[float, float]] = []
        for node in self.cluster.of("ws"):
            mine = ids if self.quotas else ids[:: 1 + len(ids) // 200]
            logs = await events_of(node.url, mine)
            for id, log in logs.items():
                whole = not self.emptied_at or self.accepted_at[id] > self.emptied_at
                self.faults += log_faults(id, log, self.results[id], whole=whole)
            charges = [paying.charge(self.results[id], log) for id, log in logs.items()]
        if self.quotas:
            url = self.cluster.of("submit")[0].url
            paid = None if self.emptied_at else charges
            self.faults += await paying.faults(url, paid, ids)
            with redis.Redis.from_url(self.cluster.redis.url) as client:
                left = {*client.keys("*{q:*:m"), *client.keys("*:admitted")}
            if left:
                self.faults.append(f"left in Redis: {left}")

    def report(self) -> None:
        attempts = Counter(seen["attempts"] for seen in self.results.values())
        verdicts = Counter(seen["verdict"] for seen in self.results.values())
        finishes = sorted(self.finished_at.values())
        stall = max((b - a for a, b in pairwise(finishes)), default=0.0)
        longest = max(
            (self.finished_at[id] - self.accepted_at[id] for id in self.finished_at), default=0.0
        )
        again = sum((number - 1) * count for number, count in attempts.items() if number > 1)
        print(
            f"accepted {len(self.accepted)}, finished {len(self.results)}, lost {len(self.lost)}, "
            f"excused {len(self.excused)}, "
            f"faults {len(self.faults)}, redelivered {again}, attempts {dict(sorted(attempts.items()))}, "
            f"{dict(verdicts)}, done {dict(self.done)}, reconnects {self.reconnects}, events-reset "
            f"{self.resets}, longest without a finish {stall:.1f} s, longest submission {longest:.1f} s"
        )
        for fault in self.faults[:20]:
            print("FAULT", fault)
        if self.lost:
            print("LOST", sorted(self.lost)[:20])

    @property
    def lost(self) -> set[str]:
        return self.accepted.keys() - self.results.keys() - self.excused

    @property
    def good(self) -> bool:
        return not self.faults and not self.lost and bool(self.accepted)


async def main(
    seconds: float, every_s: float, seed: int, form: str, quotas: bool, folder: Path
) -> bool:
    settings: dict[str, Any] = {}
    if quotas:
        settings["accounts"] = paying.accounts(cpu_s=200 + 3 * int(seconds))
        settings["trusted_proxies"] = EVERYBODY
    with cluster(folder, execute__slots="2", **settings) as running:
        chaos = Chaos(running, random.Random(seed), random.Random(seed), every_s, quotas)
        await running.start()
        chaos.started = time.monotonic()
        async with trio.open_nursery() as nursery:
            for _ in range(CLIENTS):
                nursery.start_soon(chaos.client)
            if form == "drain":
                await chaos.drain_all(seconds)
            else:
                await chaos.disturb(seconds, empty=form == "empty")
            chaos.over = True
            nursery.cancel_scope.deadline = trio.current_time() + FINISH_S
        await chaos.look_back()
        if form == "drain" and (again := [s for s in chaos.results.values() if s["attempts"] > 1]):
            chaos.faults.append(f"{len(again)} took a second attempt")
        for node in running.nodes:
            if code := await node.stop():
                chaos.faults.append(f"{node.name} ended with {code}: {node.told()}")
            if "Traceback" in node.told():
                chaos.faults.append(f"{node.name} complained: {node.told()}")
        chaos.report()
        return chaos.good


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--every", type=float, default=10, help="seconds from fault to fault")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--form", choices=["faults", "empty", "drain"], default="faults")
    parser.add_argument("--quotas", action="store_true", help="with accounts")
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else time.time_ns() % 10**9
    print(f"seed {seed}", flush=True)
    enter_private_network()
    with tempfile.TemporaryDirectory(prefix="occd-chaos-") as name:
        how = options.seconds, options.every, seed, options.form, options.quotas
        sys.exit(not trio.run(main, *how, Path(name)))
