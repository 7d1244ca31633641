"""Clients that storm a daemon which is killed meanwhile, and what must be true of their submissions in the
end: each that was accepted is finished and paid for, once, and rightly."""

import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import paying
import trio
from daemons import GONE, Daemon, events_of, log_faults, request
from programs import Program


@dataclass
class Storm:
    """Clients that submit without a pause, retry what was not answered, and remember every answer."""

    daemon: Daemon
    random: random.Random
    programs: Sequence[Program]
    over: bool = False
    numbers: int = 0
    began: float = field(default_factory=time.monotonic)
    accepted: dict[str, Program] = field(default_factory=dict)
    by_key: dict[str, str] = field(default_factory=dict)
    results: dict[str, dict[str, Any]] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    async def client(self) -> None:
        while not self.over:
            self.numbers += 1
            key = f"key-{self.numbers}"
            (program,) = self.random.choices(self.programs, [each.share for each in self.programs])
            seen = await self.ask("POST", "/submissions", program.body, key)
            self.note(seen["id"], key, program)
            if program.cancel:
                await trio.sleep(self.random.random())
                await self.ask("DELETE", f"/submissions/{seen['id']}")
            await self.follow(seen["id"])

    async def ask(self, method: str, path: str, body: Any = None, key: str | None = None) -> Any:
        """Until somebody answers."""
        while True:
            try:
                status, answer = await request(self.daemon.url, method, path, body, key)
            except (*GONE, ValueError):  # ValueError: there is no daemon that has a URL yet
                await trio.sleep(0.05)
                continue
            if status in (200, 202):
                return answer
            assert status == 503, f"{method} {path}: {status} {answer}"
            await trio.sleep(0.05)

    def note(self, id: str, key: str, program: Program) -> None:
        if self.by_key.setdefault(key, id) != id:
            self.faults.append(f"{key} made both {self.by_key[key]} and {id}")
        self.accepted[id] = program

    async def follow(self, id: str) -> None:
        while (seen := await self.ask("GET", f"/submissions/{id}?wait=2"))["status"] != "finished":
            pass
        self.see(seen)

    def see(self, seen: dict[str, Any]) -> None:
        if self.results.setdefault(seen["id"], seen) != seen:
            self.faults.append(f"two results: {self.results[seen['id']]} and {seen}")

    async def look_back(self) -> None:
        """Everything once more, from the last daemon."""
        for id, program in self.accepted.items():
            seen = await self.ask("GET", f"/submissions/{id}")
            if seen["status"] == "finished":
                self.see(seen)
                self.faults += filter(None, [program.fault(seen)])
        for key, id in self.random.sample(sorted(self.by_key.items()), 10):
            again = await self.ask("POST", "/submissions", self.accepted[id].body, key)
            self.note(again["id"], key, self.accepted[id])
        charges = []
        for id, log in (await events_of(self.daemon.url, list(self.results))).items():
            self.faults += log_faults(id, log, self.results[id])
            charges.append(paying.charge(self.results[id], log))
        self.faults += await paying.faults(self.daemon.url, charges, list(self.results))

    def told(self) -> str:
        """A line that sums the storm up."""
        attempts = Counter(seen["attempts"] for seen in self.results.values())
        verdicts = Counter(seen["verdict"] for seen in self.results.values())
        return (
            f"{len(self.accepted)} accepted, {len(self.results)} finished, "
            f"{len(self.accepted.keys() - self.results.keys())} lost, {len(self.faults)} faults, "
            f"attempts {dict(sorted(attempts.items()))}, {dict(verdicts)}"
        )
