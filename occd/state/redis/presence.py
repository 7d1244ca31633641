"""Presence of followers in Redis: a key for each subject, which goes by itself."""

from collections.abc import Collection

from occd.state.presence import PRESENT_S
from occd.state.redis.store import RedisStore

_AT_ONCE = 500
_HERE = b"1"


class RedisPresence:
    def __init__(self, store: RedisStore) -> None:
        self._store = store

    async def touch(self, subjects: Collection[str]) -> None:
        lifetime = int(1000 * PRESENT_S)
        commands = [("SET", self._key(each), _HERE, "PX", lifetime) for each in subjects]
        for at in range(0, len(commands), _AT_ONCE):
            await self._store.link.run(*commands[at : at + _AT_ONCE])

    async def here(self, subject: str) -> bool:
        # Not by reading alone: a full Redis answers readers, and takes nothing from the followers.
        key, lifetime = self._key(subject), int(1000 * PRESENT_S)
        commands = ("SET", key, 0, "PX", lifetime, "NX"), ("GET", key)
        _, found = await self._store.link.run(*commands, certain=False)
        return bool(found == _HERE)

    def _key(self, subject: str) -> str:
        return f"{self._store.keys(subject)[0]}:p"
