"""What principals use, in tables of its own beside the submissions."""

import time
from collections.abc import Collection, Mapping

import trio

from occd.quotas import Payer, Quota
from occd.state.embedded import quotas_sql as sql
from occd.state.embedded.shared import Shared
from occd.trouble import Trouble

_EXPIRE_EVERY_S = 60.0


class EmbeddedQuotas:
    def __init__(self, shared: Shared) -> None:
        self._database = shared.database

    async def admit(self, payer: Payer, stores: Mapping[str, int]) -> tuple[Quota, ...]:
        do = self._database.write if stores else self._database.read
        return await do(lambda db: sql.admit(db, payer, stores, time.time()))

    async def give_back(self, payer: Payer, ids: Collection[str]) -> None:
        await self._database.write(lambda db: sql.give_back(db, ids, time.time()))

    async def expire(self) -> None:
        """Remove what says nothing any more, a little at a time so that nobody waits for it."""
        trouble = Trouble("what was used stays in the data folder for now")
        while True:
            with trouble.survived():
                while await self._database.write(lambda db: sql.expire(db, time.time())):  # noqa: ASYNC110
                    await trio.lowlevel.checkpoint()
            await trio.sleep(_EXPIRE_EVERY_S)
