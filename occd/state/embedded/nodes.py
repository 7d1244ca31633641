"""The nodes of the one process: in memory."""

import math
import time
from collections.abc import Sequence
from dataclasses import replace

import trio

from occd.state import NODE_TTL_S, Node, merged


class EmbeddedNodes:
    def __init__(self) -> None:
        self._nodes: dict[tuple[str, tuple[str, ...]], tuple[float, Node]] = {}
        self._live: list[Node] = []
        """Holds until `_live_until`: most submissions ask."""
        self._live_until = -math.inf

    async def announce(self, node: Node) -> bool:
        now, key = trio.current_time(), (node.name, node.roles)
        known = key in self._nodes and self._nodes[key][0] > now
        self._nodes[key] = now + NODE_TTL_S, replace(node, seen_at=time.time())
        self._live_until = -math.inf
        return known

    async def withdraw(self, node: Node) -> None:
        self._nodes.pop((node.name, node.roles), None)
        self._live_until = -math.inf

    async def live(self) -> Sequence[Node]:
        now = trio.current_time()
        if now >= self._live_until:
            self._nodes = {key: each for key, each in self._nodes.items() if each[0] > now}
            self._live = merged(node for _, node in self._nodes.values())
            self._live_until = min((until for until, _ in self._nodes.values()), default=math.inf)
        return self._live
