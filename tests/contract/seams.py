"""The implementations that the contract suites run over. A new one is a class here and a name in
`SEAMS`; the suites themselves know none of them."""

import shutil
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

import pytest
import redis
import trio
from pydantic import SecretStr
from rabbitmq_server import shared
from redis_server import shared_redis

from occd.broker import Broker, open_broker
from occd.broker.amqp import Link
from occd.broker.rabbitmq import RabbitmqBroker
from occd.config import Config, QueueConfig, RabbitmqConfig, RedisConfig, ResultsConfig
from occd.sqlite import open_database
from occd.state import State, open_state
from occd.state.redis.store import LAYOUT

SOON_S = 30.0
"""Long enough for a busy machine; only a broken promise takes it."""

QUIET_S = 0.15
"""How long nothing must come to be believed."""


class BrokerSeam(Protocol):
    exact: bool
    """Bounds and turns are exact, not only kept about."""

    def open(self, length_max: int = 1000) -> AbstractAsyncContextManager[Broker]:
        """What an earlier open left is there."""

    def crash(self) -> None:
        """The next open finds what the sudden death of all our processes now would leave."""


class StateSeam(Protocol):
    def open(self, keep_s: float = 3600.0) -> AbstractAsyncContextManager[State]: ...

    def crash(self) -> None: ...

    def empty(self) -> None:
        """Everything is gone that the open state keeps where it could get lost."""

    def damage(self, id: str, body: bytes) -> None:
        """Somebody else wrote over what is stored of a submission."""

    def damage_end(self, id: str, end: bytes) -> None:
        """The same, over its result and its last event."""

    def counts_controls(self, id: str) -> int:
        """How many are stored of a submission."""

    def hasten(self, *, node_ttl_s: float) -> None:
        """Let nodes, letters and followers be believed for a shorter time, and expiry look often."""

    def hasten_quotas(self, *, left_s: float) -> None:
        """Remove soon what a death left, when it is so old."""

    def pass_time(self, payer: str, seconds: float) -> None:
        """Make what a payer has used so much older."""

    def payers(self) -> int:
        """Of how many payers anything is kept."""


class _Embedded:
    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._folder = folder
        self._monkeypatch = monkeypatch
        self._lives = 0

    @property
    def folder(self) -> Path:
        """The data folder."""
        return self._folder / f"life{self._lives}"

    def crash(self) -> None:
        """The files as they are at this moment, taken while the writer is idle: a crash image."""
        before = self.folder
        self._lives += 1
        shutil.copytree(before, self.folder)


class EmbeddedBrokerSeam(_Embedded):
    exact = True

    @asynccontextmanager
    async def open(self, length_max: int = 1000) -> AsyncIterator[Broker]:
        config = Config(data_dir=self.folder, queue=QueueConfig(length_max=length_max))
        async with open_database(self.folder) as database, open_broker(config, database) as broker:
            yield broker


class RabbitmqBrokerSeam:
    """A virtual host of the session's own RabbitMQ. The first `length_max` stays: queues that exist
    cannot be declared otherwise."""

    exact = False
    _last_url: str | None = None

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        if RabbitmqBrokerSeam._last_url:
            shared().delete_vhost(RabbitmqBrokerSeam._last_url)
        self.url = RabbitmqBrokerSeam._last_url = shared().add_vhost()
        self._length_max = 0
        self._open: RabbitmqBroker | None = None

    @asynccontextmanager
    async def open(self, length_max: int = 1000) -> AsyncIterator[Broker]:
        self._length_max = self._length_max or length_max
        config = Config(
            rabbitmq=RabbitmqConfig(url=SecretStr(self.url)),
            queue=QueueConfig(length_max=self._length_max),
        )
        async with open_broker(config, None) as broker:
            assert isinstance(broker, RabbitmqBroker)
            self._open = broker
            yield broker

    def crash(self) -> None:
        """The connections end without a word, after RabbitMQ has done what was asked on them."""
        assert self._open
        for link in (self._open._publishing, self._open._consuming):
            answered, aborted = threading.Semaphore(0), threading.Event()
            asked: list[int] = []

            def ask(link: Link = link, answered: Any = answered, asked: list[int] = asked) -> None:
                """Each channel does one thing after the other."""
                channels = [each for each in link.connection._channels.values() if each.is_open]
                for each in channels:
                    each.flow(True, callback=lambda _active: answered.release())
                asked.append(len(channels))
                answered.release()

            def abort(link: Link = link, aborted: threading.Event = aborted) -> None:
                link._stopping = True
                link._abort()
                aborted.set()

            link.post(ask)
            assert answered.acquire(timeout=SOON_S)
            for _ in range(asked[0]):
                assert answered.acquire(timeout=SOON_S)
            link.post(abort)
            assert aborted.wait(SOON_S)


class EmbeddedStateSeam(_Embedded):
    @asynccontextmanager
    async def open(self, keep_s: float = 3600.0) -> AsyncIterator[State]:
        config = Config(data_dir=self.folder, results=ResultsConfig(keep_s=keep_s))
        async with open_database(self.folder) as database, open_state(config, database) as state:
            yield state

    def empty(self) -> None:
        with closing(sqlite3.connect(self.folder / "occd.db", timeout=10)) as db:
            db.execute("PRAGMA foreign_keys=ON")
            with db:
                db.execute("DELETE FROM submissions")

    def damage(self, id: str, body: bytes) -> None:
        self._write("UPDATE submissions SET body = ? WHERE id = ?", body, id)

    def damage_end(self, id: str, end: bytes) -> None:
        self._write("UPDATE submissions SET result = ? WHERE id = ?", end, id)
        self._write(
            "UPDATE events SET event = ? WHERE (submission, seq) IN "
            "(SELECT number, last_seq FROM submissions WHERE id = ?)",
            end,
            id,
        )

    def counts_controls(self, id: str) -> int:
        count = (
            "SELECT count(*) FROM controls JOIN submissions s ON submission = s.number WHERE id = ?"
        )
        with closing(sqlite3.connect(self.folder / "occd.db", timeout=10)) as db:
            return int(db.execute(count, [id]).fetchone()[0])

    def _write(self, statement: str, *values: object) -> None:
        with closing(sqlite3.connect(self.folder / "occd.db", timeout=10)) as db, db:
            db.execute(statement, values)

    def hasten(self, *, node_ttl_s: float) -> None:
        self._monkeypatch.setattr("occd.state.embedded.nodes.NODE_TTL_S", node_ttl_s)
        self._monkeypatch.setattr("occd.state.embedded.inboxes.INBOX_TTL_S", node_ttl_s)
        self._monkeypatch.setattr("occd.state.embedded.inboxes.RENEW_S", node_ttl_s / 3)
        self._monkeypatch.setattr("occd.state.embedded.presence.PRESENT_S", node_ttl_s)
        self._monkeypatch.setattr("occd.state.embedded.submissions._EXPIRE_EVERY_S", 0.05)

    def hasten_quotas(self, *, left_s: float) -> None:
        self._monkeypatch.setattr("occd.state.embedded.quotas._EXPIRE_EVERY_S", 0.05)
        self._monkeypatch.setattr("occd.state.embedded.quotas_sql.LEFT_S", left_s)

    def pass_time(self, payer: str, seconds: float) -> None:
        self._write("UPDATE quotas SET at = at - ? WHERE payer = ?", seconds, payer)

    def payers(self) -> int:
        with closing(sqlite3.connect(self.folder / "occd.db", timeout=10)) as db:
            every = "SELECT payer FROM quotas UNION SELECT payer FROM admitted UNION SELECT payer FROM stored"
            return len(db.execute(every).fetchall())


class RedisStateSeam:
    """A prefix of its own on the session's server; a crash is that server's SIGKILL."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._server = shared_redis()
        self._redis = RedisConfig(url=SecretStr(self._server.url), prefix=f"t-{uuid4().hex[:12]}")
        self._monkeypatch = monkeypatch

    def crash(self) -> None:
        self._server.kill()
        self._server.start()

    @asynccontextmanager
    async def open(self, keep_s: float = 3600.0) -> AsyncIterator[State]:
        config = Config(redis=self._redis, results=ResultsConfig(keep_s=keep_s))
        async with open_state(config, None) as state:
            yield state

    def empty(self) -> None:
        self._server.do("FLUSHALL")

    def damage(self, id: str, body: bytes) -> None:
        with redis.Redis.from_url(self._server.url) as client:
            client.hset(f"{self._redis.prefix}{LAYOUT}:{{{id}}}", "body", body)

    def damage_end(self, id: str, end: bytes) -> None:
        with redis.Redis.from_url(self._server.url) as client:
            client.lset(f"{self._redis.prefix}{LAYOUT}:{{{id}}}:e", -1, end)

    def counts_controls(self, id: str) -> int:
        with redis.Redis.from_url(self._server.url) as client:
            return int(client.llen(f"{self._redis.prefix}{LAYOUT}:{{{id}}}:c"))

    def hasten(self, *, node_ttl_s: float) -> None:
        self._monkeypatch.setattr("occd.state.redis.nodes.NODE_TTL_S", node_ttl_s)
        self._monkeypatch.setattr("occd.state.redis.inboxes.INBOX_TTL_S", node_ttl_s)
        self._monkeypatch.setattr("occd.state.redis.inboxes.RENEW_S", node_ttl_s / 3)
        self._monkeypatch.setattr("occd.state.redis.presence.PRESENT_S", node_ttl_s)

    def hasten_quotas(self, *, left_s: float) -> None:
        self._monkeypatch.setattr("occd.state.redis.quotas._HEAL_EVERY_S", 0.05)
        self._monkeypatch.setattr("occd.state.redis.quotas.LEFT_S", left_s)

    def pass_time(self, payer: str, seconds: float) -> None:
        key = f"{self._redis.prefix}{LAYOUT}:{{q:{payer}}}"
        with redis.Redis.from_url(self._server.url) as client:
            for level in ("runs", "hour", "day"):
                if told := client.hget(key, level):
                    used, limit, since = map(float, told.split())
                    client.hset(key, level, f"{used!r} {limit!r} {since - seconds!r}")

    def payers(self) -> int:
        with redis.Redis.from_url(self._server.url) as client:
            return len(
                {key.split(b"}")[0] for key in client.keys(f"{self._redis.prefix}{LAYOUT}:{{q:*")}
            )


BROKER_SEAMS: dict[str, Callable[[Path, pytest.MonkeyPatch], BrokerSeam]] = {
    "embedded": EmbeddedBrokerSeam,
    "rabbitmq": RabbitmqBrokerSeam,
}
STATE_SEAMS: dict[str, Callable[[Path, pytest.MonkeyPatch], StateSeam]] = {
    "embedded": EmbeddedStateSeam,
    "redis": RedisStateSeam,
}


async def ticks(counted: list[float]) -> None:
    """Note when the loop was free."""
    while True:
        counted.append(trio.current_time())
        await trio.sleep(0.01)
