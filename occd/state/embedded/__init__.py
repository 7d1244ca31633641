"""The state of one process: in SQLite what must outlive the process, in memory who waits for it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from occd.backup import backup
from occd.config import Config
from occd.sqlite import Database
from occd.state import State
from occd.state.embedded import quotas_sql
from occd.state.embedded.blobs import EmbeddedBlobs
from occd.state.embedded.controls import EmbeddedControls
from occd.state.embedded.inboxes import EmbeddedInboxes
from occd.state.embedded.keys import EmbeddedKeys
from occd.state.embedded.log import EmbeddedLog
from occd.state.embedded.nodes import EmbeddedNodes
from occd.state.embedded.presence import EmbeddedPresence
from occd.state.embedded.quotas import EmbeddedQuotas
from occd.state.embedded.sessions import EmbeddedSessions
from occd.state.embedded.shared import Shared
from occd.state.embedded.store import EmbeddedStore
from occd.state.embedded.submissions import EmbeddedSubmissions
from occd.state.embedded.tables import MIGRATIONS


@asynccontextmanager
async def open_embedded(config: Config, database: Database) -> AsyncIterator[State]:
    await database.migrate("state", MIGRATIONS)
    await database.migrate("quotas", quotas_sql.MIGRATIONS)
    shared = Shared(database)
    blobs = EmbeddedBlobs(shared, config.data_dir / "blobs", config.results.keep_s)
    submissions = EmbeddedSubmissions(
        shared, config.results.keep_s, durable_begin=config.rabbitmq is not None
    )
    await submissions.load()
    quotas = EmbeddedQuotas(shared)

    async def copied() -> AsyncIterator[bytes]:
        blobs.keepers += 1
        try:
            async for piece in backup(database, config.data_dir):
                yield piece
        finally:
            blobs.keepers -= 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(submissions.expire)
        nursery.start_soon(blobs.expire)
        nursery.start_soon(quotas.expire)
        yield State(
            submissions,
            EmbeddedLog(shared),
            EmbeddedControls(shared),
            blobs,
            EmbeddedNodes(),
            EmbeddedInboxes(),
            EmbeddedPresence(),
            quotas,
            EmbeddedKeys(database),
            EmbeddedSessions(database),
            EmbeddedStore(database),
            copied,
        )
        nursery.cancel_scope.cancel()
