"""Who is followed, in Redis: a key for each subject, which goes by itself."""

from collections.abc import Collection

from occd.state.presence import PRESENT_S
from occd.state.redis.store import RedisStore

_AT_ONCE = 500


class RedisPresence:
    def __init__(self, store: RedisStore) -> None:
        self._store = store

    async def touch(self, subjects: Collection[str]) -> None:
        lifetime = int(1000 * PRESENT_S)
        commands = [("SET", self._key(each), 1, "PX", lifetime) for each in subjects]
        for at in range(0, len(commands), _AT_ONCE):
            await self._store.link.run(*commands[at : at + _AT_ONCE])

    async def here(self, subject: str) -> bool:
        (found,) = await self._store.link.run(("EXISTS", self._key(subject)), certain=False)
        return bool(found)

    def _key(self, subject: str) -> str:
        return f"{self._store.keys(subject)[0]}:p"
