"""The announcements of nodes in Redis."""

from collections.abc import Sequence

from occd.state import NODE_TTL_S, Node, merged
from occd.state.redis.store import RedisStore
from occd.state.redis.values import (
    load_nodes,
    node_field,
    store_accepts,
    store_holds,
    store_load,
    store_node,
)
from occd.trouble import Trouble

_KEYS = ("nodes", "accepts", "load", "holds")


class RedisNodes:
    def __init__(self, store: RedisStore) -> None:
        self._store = store
        self._trouble = Trouble("a node says what cannot be read")

    async def announce(self, node: Node) -> bool:
        told = {"load": store_load(node, node.load)} if node.load else {}
        told |= {} if node.holds is None else {"holds": store_holds(node, node.holds)}
        told |= {"accepts": store_accepts(node), "nodes": store_node(node)}
        commands = [
            self._store.script("announce", [self._store.key(key)], node_field(node), text)
            for key, text in told.items()
        ]
        *_, known = await self._store.link.run(*commands)
        return bool(known == b"known")

    async def withdraw(self, node: Node) -> None:
        field = node_field(node)
        await self._store.link.run(*(("HDEL", self._store.key(key), field) for key in _KEYS))

    async def live(self) -> Sequence[Node]:
        looks = [self._store.script("nodes", [self._store.key(key)], NODE_TTL_S) for key in _KEYS]
        told, *beside = await self._store.link.run(*looks, certain=False)
        unread: list[Exception] = []
        found = merged(load_nodes(sorted(told), *beside, unread=unread.append))
        if unread:
            self._trouble.tell(unread[0])
        else:
            self._trouble.over()
        return found


SCRIPTS = {
    # Nodes. name, what it says of itself
    "announce": """
local new = redis.call('HSET', KEYS[1], ARGV[1], string.format('%.3f', now()) .. ' ' .. ARGV[2])
return new == 1 and 'new' or 'known'
""",
    # seconds that they are believed
    "nodes": """
local oldest, found = now() - tonumber(ARGV[1]), {}
local said = redis.call('HGETALL', KEYS[1])
for at = 1, #said, 2 do
  local told_at = tonumber(string.match(said[at + 1], '^%S+') or '')
  if not told_at or told_at < oldest then
    redis.call('HDEL', KEYS[1], said[at])
  else
    found[#found + 1] = said[at + 1]
  end
end
return found
""",
}
