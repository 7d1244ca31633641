"""The work of all nodes together, for the page `/status`: now, and in the last minutes.

Each execute node announces its load, with counts since its start (`state.Load`). Every few seconds a sample
is taken of the queue and of these counts; their differences tell what happened in between. The samples lie in
the memory of this process, and begin with it.
"""

import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import trio

from occd import rules
from occd.broker import KEPT, Broker
from occd.config import Config
from occd.languages import Language
from occd.model import Verdict
from occd.state import WAIT_BOUNDS_S, Load, Node, State
from occd.trouble import Trouble
from occd.web import Health
from occd.web.json import dump
from occd.web.schema import timestamp

_EVERY_S = 5.0
_SAMPLES = 120
_RECENT_S = 300.0
"""The last minutes are so many seconds."""

_TOGETHER_S = 60.0
_FRESH_S = 1.0
_PATIENCE_S = 6.0
"""How long the queue and the state may take. Broker and state give up a little earlier, and say more."""

_GONE_MAX = 100
_NO_NODE = (
    "no node that runs programs has announced itself: start one with the role execute, or ask /readyz of "
    "those that run why they take nothing"
)


@dataclass(slots=True)
class _Now:
    """None: did not answer."""

    at: float = field(default_factory=time.time)
    depths: Mapping[str, int] | None = None
    oldest_s: float | None = None
    nodes: Sequence[Node] | None = None

    @property
    def loads(self) -> dict[str, Load]:
        """A node that is drained has no more places than it has in use."""
        return {
            each.name: each.load
            if _executes(each)
            else replace(each.load, slots=each.load.slots_used, seats=each.load.seats_used)
            for each in self.nodes or ()
            if each.load
        }


@dataclass(frozen=True, slots=True)
class _Sample:
    at: float
    waiting: int | None
    slots: int
    slots_used: int
    seats_used: int
    verdicts: Counter[str]
    """Of the attempts that ended since the sample before."""
    waits: list[int]


class Overview:
    def __init__(
        self,
        config: Config,
        broker: Broker,
        state: State,
        health: Health,
        languages: Mapping[str, Language],
    ) -> None:
        self._config = config
        self._broker = broker
        self._state = state
        self._health = health
        self._languages = languages
        self._began_at = time.time()
        self._samples: deque[_Sample] = deque(maxlen=_SAMPLES)
        self._counted: dict[tuple[str, float], tuple[float, Load]] = {}
        """The last load of each node by its name and start, with the time."""
        self._known: dict[str, tuple[float, Node]] = {}
        """Each node as it was when it was seen last, with the time by this clock: `Node.seen_at` is by
        another one."""
        self._looking = trio.Lock()
        self._looked_at = -_FRESH_S
        self._told: dict[bool, bytes] = {}
        self._troubles = {
            what: Trouble(f"the status lacks the {what}") for what in ("queue", "oldest", "nodes")
        }

    async def run(self) -> None:
        """Take samples, until cancelled."""
        while True:
            await trio.sleep(_EVERY_S)
            self._sample(await self._measure())

    async def status(self, *, whole: bool) -> bytes:
        """JSON, at most a second old: one look serves all who ask meanwhile."""
        async with self._looking:
            if trio.current_time() - self._looked_at >= _FRESH_S:
                now = await self._measure()
                problems = await self._health.problems()
                if not problems and now.nodes is not None and not any(map(_executes, now.nodes)):
                    problems = [_NO_NODE]
                told = self._overview(now, problems)
                self._told = {
                    False: dump(told).encode(),
                    True: dump(told | self._details(now)).encode(),
                }
                self._looked_at = trio.current_time()
            return self._told[whole]

    async def _measure(self) -> _Now:
        now = _Now()

        async def queue() -> None:
            now.depths = await self._broker.depths()

        async def oldest() -> None:
            since = await self._state.submissions.oldest()
            now.oldest_s = 0.0 if since is None else max(0.0, time.time() - since)

        async def nodes() -> None:
            now.nodes = await self._state.nodes.live()

        async with trio.open_nursery() as nursery:
            nursery.cancel_scope.deadline = trio.current_time() + _PATIENCE_S
            for read in (queue, oldest, nodes):
                nursery.start_soon(_survive, read, self._troubles[read.__name__])
        self._remember(now)
        return now

    def _remember(self, now: _Now) -> None:
        """Nodes that were here within the time of the samples."""
        self._known |= {each.name: (now.at, each) for each in now.nodes or ()}
        forget = now.at - _SAMPLES * _EVERY_S
        recent = sorted((each for each in self._known.values() if each[0] > forget), key=_seen)
        most = _GONE_MAX + len(now.nodes or ())
        self._known = {node.name: (at, node) for at, node in recent[-most:]}

    def _sample(self, now: _Now) -> None:
        verdicts: Counter[str] = Counter()
        waits = [0] * (len(WAIT_BOUNDS_S) + 1)
        forget = now.at - _SAMPLES * _EVERY_S
        for name, load in now.loads.items():
            key = name, load.since
            # All is new that was done by a node that started about when this process did, or later. A node
            # that was away for longer was forgotten, and one that starts in the future has another clock.
            began = max(self._began_at - _TOGETHER_S, forget)
            new = began < load.since < now.at + _TOGETHER_S
            _, before = self._counted.get(key, (0.0, None if new else load))
            verdicts += Counter(load.verdicts) - Counter(before.verdicts if before else {})
            for at, count in enumerate(load.waits):
                waits[at] += max(0, count - (before.waits[at] if before else 0))
            self._counted[key] = now.at, load
        self._counted = {key: each for key, each in self._counted.items() if each[0] > forget}
        loads = now.loads.values()
        self._samples.append(
            _Sample(
                now.at,
                self._waiting(now),
                sum(each.slots for each in loads),
                sum(each.slots_used for each in loads),
                sum(each.seats_used for each in loads),
                verdicts,
                waits,
            )
        )

    def _waiting(self, now: _Now) -> int | None:
        return None if now.depths is None else now.depths.get(self._config.submission_queue, 0)

    def _overview(self, now: _Now, problems: Sequence[str]) -> dict[str, Any]:
        """For everybody."""
        recent = [each for each in self._samples if each.at > now.at - _RECENT_S]
        verdicts = sum((each.verdicts for each in recent), Counter[str]())
        waits = [sum(each) for each in zip(*(each.waits for each in recent), strict=True)]
        return {
            "ready": not problems,
            "problems": list(problems),
            "at": timestamp(now.at),
            "queue": None
            if now.depths is None
            else {"waiting": self._waiting(now), "oldest_s": _rounded(now.oldest_s)},
            "load": None if now.nodes is None else self._load_json(now.loads.values()),
            "languages": None if now.nodes is None else self._languages_json(now.nodes),
            "recent": {
                "seconds": round(min(_RECENT_S, now.at - self._began_at)),
                "verdicts": {each: verdicts[each] for each in Verdict if verdicts[each]},
                "started": sum(waits),
                "half_within_s": _within(waits, 0.5),
                "most_within_s": _within(waits, 0.95),
            },
            "history": {
                "every_s": _EVERY_S,
                "at": [round(each.at, 1) for each in self._samples],
                "waiting": [each.waiting for each in self._samples],
                "slots": [each.slots for each in self._samples],
                "slots_used": [each.slots_used for each in self._samples],
                "seats_used": [each.seats_used for each in self._samples],
                "ended": [each.verdicts.total() for each in self._samples],
            },
        }

    def _load_json(self, loads: Collection[Load]) -> dict[str, Any]:
        running = sum((Counter(each.running) for each in loads), Counter[str]())
        return {
            "nodes": sum(each.slots + each.seats > 0 for each in loads),
            "slots": sum(each.slots for each in loads),
            "slots_used": sum(each.slots_used for each in loads),
            "seats": sum(each.seats for each in loads),
            "seats_used": sum(each.seats_used for each in loads),
            "running": self._ours(running),
        }

    def _languages_json(self, nodes: Sequence[Node]) -> list[dict[str, Any]]:
        return [
            {"id": id, "name": language.name, "nodes": offering}
            for id, language in self._languages.items()
            if (not self._config.languages or id in self._config.languages)
            and (offering := sum(id in each.languages for each in nodes))
        ]

    def _details(self, now: _Now) -> dict[str, Any]:
        """For administrators."""
        live = {each.name for each in now.nodes or ()}
        depths = now.depths
        return {
            "nodes": [
                {
                    "name": each.name,
                    "roles": list(each.roles),
                    "live": now.nodes is None or each.name in live,
                    "started_at": timestamp(rules.moment_or_none(each.started_at)),
                    "seen_at": timestamp(each.seen_at),
                    "running": each.running,
                    "connections": each.connections,
                    "following": each.following,
                    "languages": len(each.languages),
                    "load": self._load_json([each.load]) if each.load else None,
                    "holds": None if each.holds is None else list(each.holds),
                    "warm": list(each.warm),
                }
                for _, (_, each) in sorted(self._known.items())
            ],
            "dead_letters": None
            if depths is None
            else sum(count for queue, count in depths.items() if queue.endswith(KEPT)),
        }

    def _ours(self, counts: Mapping[str, int]) -> dict[str, int]:
        return {id: counts[id] for id in self._languages if counts.get(id)}


async def _survive(read: Callable[[], Awaitable[None]], trouble: Trouble) -> None:
    with trouble.survived():
        await read()


def _executes(node: Node) -> bool:
    return "execute" in node.roles


def _seen(known: tuple[float, Node]) -> float:
    return known[0]


def _within(waits: Sequence[int], share: float) -> float | None:
    """The bound below which this share of the submissions had waited; None where none was, or where they had
    waited longer than all bounds."""
    reached = 0
    for bound, count in zip(WAIT_BOUNDS_S, waits, strict=False):
        reached += count
        if count and reached >= share * sum(waits):
            return bound
    return None


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 1)
