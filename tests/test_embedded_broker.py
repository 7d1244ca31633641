"""The embedded broker: a message that somebody waits for is written together with its first delivery."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from pydantic import SecretStr

from occd.broker import DELIVERY_LIMIT, KEPT, Broker
from occd.broker.embedded import open_embedded
from occd.config import Config, RedisConfig
from occd.errors import DataFolderError
from occd.sqlite import Database, Work, open_database

SOON_S = 30.0


def deliveries(folder: Path) -> list[tuple[str, int]]:
    """What a process that comes after a crash would find."""
    with closing(sqlite3.connect(folder / "occd.db")) as db:
        return db.execute("SELECT key, deliveries FROM messages ORDER BY number").fetchall()


async def publish(broker: Broker, number: int) -> None:
    await broker.publish("q", b"body", key=str(number), owner=None)


async def test_a_message_that_is_awaited_is_counted_before_it_is_handed_over(
    tmp_path: Path,
) -> None:
    async with (
        open_database(tmp_path) as database,
        open_embedded(Config(data_dir=tmp_path), database) as broker,
        broker.consume("q", 1) as received,
    ):
        await trio.testing.wait_all_tasks_blocked()
        await broker.publish("q", b"one", key="first", owner=None)
        delivery = await received.receive()
        assert deliveries(tmp_path) == [("first", 1)]
        await broker.publish("q", b"two", key="second", owner=None)
        assert deliveries(tmp_path) == [("first", 1), ("second", 0)]
        assert (delivery.body, delivery.key, delivery.reason) == (b"one", "first", None)
        await delivery.hand_back()
        again = await received.receive()
        assert again.key == "first"
        assert deliveries(tmp_path) == [("first", 1), ("second", 0)]


async def test_a_consumer_that_a_full_disk_kept_waiting_gets_the_next_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(self: Database, work: Work[object], **_options: object) -> None:
        await trio.lowlevel.checkpoint()
        raise DataFolderError("the disk is full")

    async with (
        open_database(tmp_path) as database,
        open_embedded(Config(data_dir=tmp_path), database) as broker,
        broker.consume("q", 1) as received,
    ):
        await trio.testing.wait_all_tasks_blocked()
        with monkeypatch.context() as patch:
            patch.setattr(Database, "write", refuse)
            with pytest.raises(DataFolderError):
                await broker.publish("q", b"refused", key="refused", owner=None)
        await broker.publish("q", b"one", key="one", owner=None)
        with trio.fail_after(SOON_S):
            assert (await received.receive()).key == "one"


async def test_a_message_for_a_consumer_that_leaves_goes_to_the_next_and_counts_once(
    tmp_path: Path,
) -> None:
    async with (
        open_database(tmp_path) as database,
        open_embedded(Config(data_dir=tmp_path), database) as broker,
    ):
        for number in range(2 * DELIVERY_LIMIT):
            async with broker.consume("q", 1), trio.open_nursery() as nursery:
                await trio.testing.wait_all_tasks_blocked()
                nursery.start_soon(publish, broker, number)
                while broker._queue("q").length == number:  # noqa: ASYNC110  (then it is being written)
                    await trio.lowlevel.checkpoint()
                nursery.cancel_scope.cancel()
        expected = [(str(number), 0) for number in range(2 * DELIVERY_LIMIT)]
        assert deliveries(tmp_path) == expected
        async with broker.consume("q", 2 * DELIVERY_LIMIT) as received:
            with trio.fail_after(SOON_S):
                for key, _ in expected:
                    assert (await received.receive()).key == key


@pytest.mark.parametrize("state_apart", [False, True])
async def test_a_publish_waits_for_the_disk_where_a_power_cut_would_not_take_its_mark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state_apart: bool
) -> None:
    redis = RedisConfig(url=SecretStr("redis://127.0.0.1")) if state_apart else None
    waits: list[bool] = []
    write = Database.write

    async def watched(self: Database, work: Work[object], **options: Any) -> object:
        waits.append(options.get("durable", False))
        return await write(self, work, **options)

    async with (
        open_database(tmp_path) as database,
        open_embedded(Config(data_dir=tmp_path, redis=redis), database) as broker,
    ):
        monkeypatch.setattr(Database, "write", watched)
        await publish(broker, 1)
    assert waits == [state_apart]


@pytest.mark.parametrize("look", [1, 2, 3])
async def test_a_dead_letter_may_go_while_somebody_looks_at_it(look: int, tmp_path: Path) -> None:
    """It goes before so many looks of his."""
    async with (
        open_database(tmp_path) as database,
        open_embedded(Config(data_dir=tmp_path), database) as broker,
    ):
        await publish(broker, 1)
        with closing(sqlite3.connect(tmp_path / "occd.db", isolation_level=None)) as other:
            other.execute("UPDATE messages SET queue = ?, kept_at = 1", ["q" + KEPT])
        looks = 0

        def go(statement: str) -> None:
            nonlocal looks
            looks += "FROM messages" in statement
            if looks == look:
                with closing(sqlite3.connect(tmp_path / "occd.db", isolation_level=None)) as other:
                    other.execute("DELETE FROM messages")

        await database.read(lambda db: db.set_trace_callback(go))  # which is read next, too
        found = await broker.one_kept("q", "1")
        assert looks == 1
        assert (found is None) == (look == 1)
