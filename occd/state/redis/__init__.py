"""The state of many processes: all of it in Redis.

Theory of operation. The keys of one submission share a hash tag, and one script changes them in one step.
The other keys (waiting and unpublished ids, idempotency keys, owners) change in steps of their own, before or
after that step. The order lets a death in between be healed: by a repetition of the step, by the sweep, or by
comparing with the submission itself. Every step can be repeated.

    PREFIX:{ID} :e :c      a submission, its events, its controls
    PREFIX:{ID}:b          the files that its program left
    PREFIX:{ID}:w          it was cancelled before it began
    PREFIX:{ID}:p          whether somebody follows it
    PREFIX:unpublished     ids by creation: added before the submission, removed after the broker has it
    PREFIX:queued          ids by creation of waiting submissions
    PREFIX:o:OWNER         an owner's ids by creation
    PREFIX:k:DIGEST        an idempotency key: the id that is reserved for the key
    PREFIX:{done}:N        how many finished in the N-th ten seconds
    PREFIX:nodes           the announcements of nodes
    PREFIX:accepts         the fields of a submission that nodes understand: apart, for older readers
    PREFIX:load            how busy they are: apart, too
    PREFIX:holds           the properties of their sandboxes, and what is warm there: apart, too
    PREFIX:{q:PAYER} :m :s what a payer has used, its unfinished submissions, and those that it keeps bytes of
    PREFIX:admitted        the unfinished submissions of all payers: added before, removed after
    PREFIX:keys            the keys that were created
    PREFIX:sessions:HASH   the sessions of one person
    PREFIX:{inbox:NODE} :c the reader of a node's inbox, and the letters in it
    PREFIX:e:ID PREFIX:x:… channels: to followers, to the process that runs the submission
"""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha1

import structlog
import trio

from occd.config import RedisConfig
from occd.errors import StateError, StateUnavailable
from occd.state import State
from occd.state.redis import controls, inboxes, keys, log, nodes, quotas, sessions
from occd.state.redis.blobs import RedisBlobs
from occd.state.redis.connect import Redis
from occd.state.redis.controls import RedisControls
from occd.state.redis.inboxes import RedisInboxes
from occd.state.redis.indexes import Indexes
from occd.state.redis.keys import RedisKeys
from occd.state.redis.link import open_link
from occd.state.redis.log import RedisLog
from occd.state.redis.lua import PRELUDE
from occd.state.redis.news import open_news
from occd.state.redis.nodes import RedisNodes
from occd.state.redis.presence import RedisPresence
from occd.state.redis.quotas import RedisQuotas
from occd.state.redis.sessions import RedisSessions
from occd.state.redis.store import LAYOUT, RETRY_S, RedisStore
from occd.state.redis.submissions import RedisSubmissions
from occd.state.redis.submissions_lua import INDEXES, SUBMISSIONS
from occd.state.redis.values import load_event

logger = structlog.get_logger()

_START_S = 30.0

SCRIPTS = {
    name: PRELUDE + source
    for sources in (
        SUBMISSIONS,
        INDEXES,
        log.SCRIPTS,
        controls.SCRIPTS,
        nodes.SCRIPTS,
        inboxes.SCRIPTS,
        quotas.SCRIPTS,
        keys.SCRIPTS,
        sessions.SCRIPTS,
    )
    for name, source in sources.items()
}
_SHAS = {name: sha1(text.encode()).hexdigest() for name, text in SCRIPTS.items()}  # noqa: S324
"""By which a script is called: Redis's own name for it, no protection of anything."""


@asynccontextmanager
async def open_redis(config: RedisConfig, keep_s: float) -> AsyncIterator[State]:
    """Raises ConfigError for settings that cannot work, StateUnavailable when Redis refuses us or does not
    answer for half a minute."""
    redis = Redis(config)
    me = f"{config.prefix}{LAYOUT}:x:{secrets.token_hex(8)}"
    async with (
        open_link(redis, SCRIPTS.values()) as link,
        open_news(redis, me, load_event) as news,
    ):
        store = RedisStore(config.prefix, link, news, me, _SHAS)
        await _reach(store)
        for line in await store.warnings():
            logger.warning(line)
        events, indexes = RedisLog(store), Indexes(store, keep_s)
        used = RedisQuotas(store)
        submissions = RedisSubmissions(store, events, indexes, used, keep_s)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(indexes.heal)
            nursery.start_soon(used.heal)
            try:
                yield State(
                    submissions,
                    events,
                    RedisControls(store),
                    RedisBlobs(store, keep_s),
                    RedisNodes(store),
                    RedisInboxes(store),
                    RedisPresence(store),
                    used,
                    RedisKeys(store),
                    RedisSessions(store),
                    store,
                )
            finally:
                nursery.cancel_scope.cancel()


async def _reach(store: RedisStore) -> None:
    """Wait for Redis to come up. Raise at once for a fault that waiting does not mend."""
    deadline = trio.current_time() + _START_S
    while True:
        try:
            await store.check()
            return
        except StateError as error:
            final = isinstance(error, StateUnavailable) and error.final
            if final or trio.current_time() > deadline:
                raise
            logger.warning("waiting for Redis", reason=str(error))
        await trio.sleep(RETRY_S)
