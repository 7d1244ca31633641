"""An upgrade under load, in the order of docs/operating.md. Of each role one node is a field behind
(`behind.py`), beside one that is not; clients submit with and without the field all the while.

Nothing is lost, doubled or half run, and nothing takes a second attempt. What cannot be run yet is refused,
and the refusal names the field. At last an execute node goes back to the earlier version while submissions
with the field wait, which no order of an upgrade does: they are dead letters, and run when they are requeued.

Run as root; it makes a private network namespace for itself (`cluster.py`).
"""

import argparse
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import trio
from behind import FIELDS, make
from chaos import FINISH_S, Chaos
from cluster import OCCD, Node, cluster, enter_private_network
from daemons import GONE, events_of, log_faults, request
from programs import CHECKED, JUDGED, LEAVES, LINES, SLEEP, Program

CLIENTS = 4
TURN_S = 120.0
ORDER = ("notify", "ws", "execute", "submit")
SLOTS = 2

WEIGHTED = replace(
    JUDGED,
    name="weighted",
    more={"tests": [each | {"weight": 2} for each in JUDGED.more["tests"]]},
)
ASKING = {"artifacts": LEAVES, "judging.tests.weight": WEIGHTED}
"""For each field the program that is submitted with it. The others do not use it."""
OTHERS = {
    "artifacts": (LINES, SLEEP, JUDGED, CHECKED),
    "judging.tests.weight": (LINES, JUDGED, LEAVES),
}
BUSY = Program("busy", "cancelled", "import time; time.sleep(200)", limits={"wall_time": 250})


@dataclass
class Upgrade(Chaos):
    asked: str = ""
    """The field."""
    earlier: str = ""
    """The program that is a field behind."""
    behind: set[str] = field(default_factory=set)
    """Roles of which a node is a field behind."""
    leaving: str = ""
    """The role whose node is being replaced."""
    seen: Counter[str] = field(default_factory=Counter)

    async def client(self) -> None:
        programs = (ASKING[self.asked], *OTHERS[self.asked])
        while not self.over:
            self.numbers += 1
            key, program = f"key-{self.numbers}", self.random.choice(programs)
            began = time.monotonic()
            if id := await self._submit(program, key):
                self.note(id, key, program, began)
                await self.follow(id)
                self.seen["asked" if self._asks(program) else "plain"] += 1

    def _asks(self, program: Program) -> bool:
        return program == ASKING[self.asked]

    async def _submit(self, program: Program, key: str) -> str | None:
        """None when it was refused, and the refusal is right."""
        while True:
            node, behind = self.random.choice(self.cluster.of("submit")), "execute" in self.behind
            try:
                status, answer = await request(node.url, "POST", "/submissions", program.body, key)
            except (*GONE, ValueError):
                await trio.sleep(0.05)
                continue
            if status == 202:
                if self._asks(program) and behind and self.leaving != "execute":
                    self.faults.append(
                        f"{answer['id']} was taken and not every node understands it"
                    )
                return str(answer["id"])
            kind = (status, answer["type"])
            if self._asks(program) and self._names_the_field(kind, answer, node, behind=behind):
                self.seen[answer["type"]] += 1
                await trio.sleep(0.1)
                return None
            if kind != (503, "shutting-down"):
                self.faults.append(f"{program.name} to {node.name}: {answer}")
            await trio.sleep(0.1)

    def _named(self, text: str) -> bool:
        """A part of which there are several is named with its place: `tests.0.weight`."""
        return re.sub(r"\.\d+", "", text).endswith(f"the field submission.{self.asked}")

    def _names_the_field(
        self, kind: tuple[int, str], answer: Any, node: Node, *, behind: bool
    ) -> bool:
        named = {each["field"] for each in answer.get("errors", ())}
        if kind == (503, "no-nodes"):
            return behind and named == {self.asked}
        last = self.asked.rpartition(".")[2]
        unknown = bool(named) and all(each.rpartition(".")[2] == last for each in named)
        return kind == (422, "invalid") and node.program != OCCD and unknown

    async def _follow_on(self, node: Node, id: str, log: list[dict[str, Any]]) -> None:
        await super()._follow_on(node, id, log)
        self.seen[node.name] += 1

    # The upgrade

    async def roll(self) -> None:
        await self._served()
        for role in ORDER:
            if role == "submit":
                await self._read_by_an_earlier_submit()
            (node,) = [each for each in self.cluster.of(role) if each.program != OCCD]
            self.leaving = role
            await self._replace(node, OCCD)
            self.behind.discard(role)
            await self._served()

    async def _replace(self, node: Node, program: str) -> None:
        self.say(node.name, "replace")
        if code := await node.stop():
            self.faults.append(f"{node.name} ended with {code}: {node.told()}")
        node.program = program
        node.launch()
        await node.ready()

    async def _served(self) -> None:
        """Until each answer that this mix of nodes gives was given, and each ws node has followed."""
        wanted = {"plain": 4} | {node.name: 1 for node in self.cluster.of("ws")}
        wanted |= {"no-nodes": 1} if "execute" in self.behind else {"asked": 2}
        wanted |= {"invalid": 1} if "submit" in self.behind else {}
        before = self.seen.copy()
        beside = f"beside {', '.join(sorted(self.behind)) or 'none'} behind"
        with trio.move_on_after(TURN_S) as scope:
            while any(self.seen[each] - before[each] < least for each, least in wanted.items()):  # noqa: ASYNC110
                await trio.sleep(0.05)
        if scope.cancelled_caught:
            self.faults.append(f"{beside}: wanted {wanted}, seen {self.seen - before}")
        self.say(beside, "served")

    async def _read_by_an_earlier_submit(self) -> None:
        """It tells what it knows of a submission with the field, and repeats nothing of it."""
        (node,) = [each for each in self.cluster.of("submit") if each.program != OCCD]
        id = next(id for id in self.results if self._asks(self.accepted[id]))
        status, told = await request(node.url, "GET", f"/submissions/{id}")
        if (status, told.get("verdict")) != (200, self.accepted[id].verdict):
            self.faults.append(f"{node.name} tells of {id}: {told}")
        status, told = await request(node.url, "POST", f"/submissions/{id}/rerun")
        if (status, told.get("type")) != (500, "unreadable") or not self._named(
            told.get("detail", "")
        ):
            self.faults.append(f"{node.name} repeats {id}: {status} {told}")

    # The wrong way

    async def go_back(self) -> None:
        """Both execute nodes are busy and die; the one that comes back is of the earlier version."""
        first, second = self.cluster.of("execute")
        busy = [await self._post(BUSY) for _ in range(2 * SLOTS)]
        await self._until_status(busy, "running")
        waiting = [await self._post(ASKING[self.asked]) for _ in range(2)]
        for node in (first, second):
            node.kill()
        await self._launch(first, self.earlier)
        for id in busy:
            await self.cancel(id)
        await self._until_status([*busy, *waiting], "finished")
        listed = await self._queues(first)
        for id in waiting:
            result = await self.ask("GET", f"/submissions/{id}")
            (log,) = (await events_of(self.cluster.of("ws")[0].url, [id])).values()
            self.faults += log_faults(id, log, result)
            if (result["verdict"], result["attempts"]) != ("internal_error", 0):
                self.faults.append(f"{id} was half run: {result}")
            if not any(id in line and self._named(line) for line in listed):
                self.faults.append(f"{id} is no dead letter that names the field: {listed}")
        await self._replace(first, OCCD)
        await self._launch(second, OCCD)
        if self.faults:  # there may be nothing to requeue
            return
        (again,) = await self._queues(first, "requeue", waiting[0])
        self.note(again, "again", ASKING[self.asked], time.monotonic())
        await self.follow(again)

    async def follow_an_earlier_ws(self) -> None:
        """It numbers what it does not know."""
        id = next(id for id in self.results if self._asks(self.accepted[id]))
        earlier, now = self.cluster.of("ws")
        await self._replace(earlier, self.earlier)
        (known,) = (await events_of(now.url, [id])).values()
        (log,) = (await events_of(earlier.url, [id])).values()
        self.faults += log_faults(id, log, log[-1]["event"]["result"])
        names = [[frame["event"]["name"] for frame in each] for each in (known, log)]
        told = ["unknown" if name == "artifact" else name for name in names[0]]
        if self.asked == "artifacts" and names[1] != told:
            self.faults.append(f"{earlier.name} tells {names[1]} of {names[0]}")

    async def _launch(self, node: Node, program: str) -> None:
        node.program = program
        node.launch()
        await node.ready()

    async def _post(self, program: Program) -> str:
        self.numbers += 1
        key = f"key-{self.numbers}"
        seen = await self.ask("POST", "/submissions", program.body, key)
        return str(seen["id"])

    async def _until_status(self, ids: list[str], wanted: str) -> None:
        with trio.fail_after(TURN_S):
            for id in ids:
                while (await self.ask("GET", f"/submissions/{id}"))["status"] != wanted:  # noqa: ASYNC110
                    await trio.sleep(0.05)

    async def _queues(self, node: Node, *arguments: str) -> list[str]:
        """What `occd queues` prints."""
        done = await trio.run_process(
            [OCCD, "queues", *arguments],
            env=os.environ | node.environment,
            capture_stdout=True,
            stderr=subprocess.STDOUT,
        )
        return done.stdout.decode().splitlines()


async def main(asked: str, seed: int, folder: Path) -> bool:
    (folder / "earlier").mkdir()
    earlier = make(asked, folder / "earlier")
    roles = dict.fromkeys(ORDER, 2)
    with cluster(folder, roles, ("python",), execute__slots=f"{SLOTS}", grace_s="30") as running:
        for role in ORDER:
            running.of(role)[0].program = earlier
        upgrade = Upgrade(
            running, random.Random(seed), random.Random(seed), 0, asked=asked, earlier=earlier,
            behind=set(ORDER),
        )  # fmt: skip
        await running.start()
        upgrade.started = time.monotonic()
        async with trio.open_nursery() as nursery:
            for _ in range(CLIENTS):
                nursery.start_soon(upgrade.client)
            await upgrade.roll()
            upgrade.over = True
            nursery.cancel_scope.deadline = trio.current_time() + FINISH_S
        again = [seen for seen in upgrade.results.values() if seen["attempts"] > 1]
        upgrade.faults += [f"{seen['id']} took a second attempt" for seen in again]
        await upgrade.go_back()
        await upgrade.look_back()
        await upgrade.follow_an_earlier_ws()
        for node in running.nodes:
            if code := await node.stop():
                upgrade.faults.append(f"{node.name} ended with {code}: {node.told()}")
            if "Traceback" in node.told():
                upgrade.faults.append(f"{node.name} complained: {node.told()}")
        upgrade.report()
        print(dict(upgrade.seen))
        return upgrade.good


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--field", choices=sorted(FIELDS), default="artifacts")
    parser.add_argument("--seed", type=int, default=None)
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else time.time_ns() % 10**9
    print(f"seed {seed}", flush=True)
    enter_private_network()
    with tempfile.TemporaryDirectory(prefix="occd-upgrade-") as name:
        sys.exit(not trio.run(main, options.field, seed, Path(name)))
