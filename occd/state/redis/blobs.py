"""Blobs in Redis: a hash of each subject. They are few and small, because Redis holds them in memory."""

import time

from occd.state.redis.store import RedisStore
from occd.trouble import Trouble

_RUN_S = 3600.0
"""The longest time between a blob and the end of its subject. A submission is over sooner."""


class RedisBlobs:
    bytes_max = 2**20

    def __init__(self, store: RedisStore, keep_s: float) -> None:
        self._store = store
        self._keep_s = keep_s
        self._trouble = Trouble("files that programs left wait for state")

    async def put(self, subject: str, sha256: str, data: bytes) -> None:
        key = self._key(subject)
        until = int(1000 * (time.time() + self._keep_s + _RUN_S))
        await self._store.surely(
            self._trouble, subject, ("HSET", key, sha256, data), ("PEXPIREAT", key, until)
        )

    async def get(self, subject: str, sha256: str) -> bytes | None:
        found: bytes | None = (
            await self._store.link.run(("HGET", self._key(subject), sha256), certain=False)
        )[0]
        return found

    async def forget(self, subject: str) -> None:
        await self._store.link.run(("DEL", self._key(subject)))

    def _key(self, subject: str) -> str:
        return self._store.keys(subject)[0] + ":b"
