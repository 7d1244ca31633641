"""The state in Redis: what several processes see of one another, and what happens when Redis is away,
slow, emptied, or one of us dies between two steps."""

import json
import os
import random
import re
import resource
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from hashlib import sha256
from statistics import median
from typing import Any

import pytest
import redis
import trio
from pydantic import SecretStr
from redis_server import RedisServer, free_port, redis_server
from serving import OCCD

from occd.config import RedisConfig
from occd.errors import (
    Conflict,
    EventsReset,
    OccdError,
    QuotaUsedUp,
    StateUnavailable,
    UnknownSubmission,
    Unreadable,
)
from occd.events import Finished, LogEntry, Output, Queued
from occd.key import Key
from occd.model import File, Outcome, Result, Spent, Submission, Verdict, Written, new_id
from occd.quotas import Allowance, Payer
from occd.sessions import ROTATE_S, SESSION_S, Session
from occd.state import Node, State, Taken
from occd.state.control import Cancel, Control, End, Signal, Stdin
from occd.state.redis import open_redis
from occd.state.redis.connect import Command, Reply
from occd.state.redis.indexes import Indexes
from occd.state.redis.link import Link
from occd.state.redis.quotas import RedisQuotas
from occd.state.redis.store import RedisStore

SOON_S = 30.0


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with redis_server() as running:
        yield running


@asynccontextmanager
async def opened(server: RedisServer, keep_s: float = 3600) -> AsyncIterator[State]:
    async with open_redis(RedisConfig(url=SecretStr(server.url)), keep_s) as state:
        yield state


def store_of(state: State) -> RedisStore:
    assert isinstance(state.store, RedisStore)
    return state.store


def make(*, interactive: bool = False) -> Submission:
    files = (File("main.py", b"print(1)"),)
    return Submission(
        new_id(),
        "python",
        None,
        "main.py",
        files,
        interactive=interactive,
        created_at=time.time(),
    )


def a_key(id: str) -> Key:
    digest = sha256(id.encode()).hexdigest()
    return Key(id, digest, "key:moodle", "service", frozenset({"run"}), 1_700_000_000.25)


def a_session(id: str) -> Session:
    person, now = "oidc:https://login.example.org#ada", time.time()
    return Session(f"ada.{id}", "a" * 64, person, "Ada", ("staff",), now + SESSION_S, now)


def output(data: bytes) -> Output:
    return Output("run", "stdout", data)


def result() -> Result:
    return Result(Verdict.OK, attempts=1, finished_at=time.time())


PAYER = Payer("addr:192.0.2.1", Allowance(10, 100, 1000, 10_000, 1_000_000))


async def a_life_that_pays(state: State) -> None:
    """One of three submissions is run and erased. The others are given back."""
    submission, refused, reserved = make(), make(), make()
    await state.submissions.create(submission, None, "", PAYER)
    await state.submissions.create(refused, None, "", PAYER)
    await state.quotas.admit(PAYER, dict.fromkeys([reserved.id], 0))
    await state.submissions.discard(refused.id, PAYER)
    await state.quotas.give_back(PAYER, [reserved.id])
    assert await state.submissions.begin(submission, "3", "node") == 1
    spent = replace(result(), spent=Spent(10.0, 100))
    assert await state.submissions.finish(submission.id, 1, spent)
    assert not await state.submissions.finish(submission.id, 1, spent)
    assert await state.submissions.erase(submission)


async def begun(state: State, *, interactive: bool = False) -> Submission:
    submission = make(interactive=interactive)
    await state.submissions.create(submission, None, "")
    assert await state.submissions.begin(submission, "3.11", "node") == 1
    return submission


async def follow(state: State, id: str, found: list[LogEntry]) -> None:
    """To the end."""
    after = 0
    while events := await state.log.watch(id, after):
        found += events
        after = events[-1].seq


async def follow_controls(state: State, id: str, found: list[Control]) -> None:
    """To the cancel."""
    after = 0
    while Cancel() not in found:
        for entry in await state.controls.watch(id, after):
            assert entry.number == after + 1
            after = entry.number
            found.append(entry.control)


def typed(found: list[Control]) -> bytes:
    return b"".join(each.data for each in found if isinstance(each, Stdin))


def outputs(found: list[LogEntry]) -> list[bytes]:
    return [each.event.data for each in found if isinstance(each.event, Output)]


# inboxes


async def test_a_letter_from_another_process_outlives_a_dead_redis_and_a_dead_reader(
    server: RedisServer,
) -> None:
    async with opened(server) as sender:
        async with opened(server) as cut_off:
            reader = await cut_off.inboxes.open("node")
            told = trio.Event()

            async def read() -> None:
                assert [each.data for each in await cut_off.inboxes.watch("node", reader, 0)] == [
                    b"x"
                ]
                told.set()

            async with trio.open_nursery() as nursery:
                nursery.start_soon(read)
                await sender.inboxes.send("node", 2, b"x")
                with trio.fail_after(SOON_S):
                    await told.wait()
        server.kill()
        server.start()
        async with opened(server) as again:
            reader = await again.inboxes.open("node")
            (letter,) = await again.inboxes.watch("node", reader, 0)
            assert (letter.seat, letter.data) == (2, b"x")
            await again.inboxes.handled("node", reader, letter.number)


async def test_what_somebody_else_wrote_into_an_inbox_is_left_out(server: RedisServer) -> None:
    async with opened(server) as state:
        reader = await state.inboxes.open("node")
        with redis.Redis.from_url(server.url) as client:
            (key,) = client.scan_iter("*inbox:node*")
            client.rpush(key + b":c", b"", b"x", b"1 x", b"-1 0 x")
            await state.inboxes.send("node", 0, b"x")
            client.rpush(key + b":c", b"9" * 30)
            # Numbers that no int has, and a number that all letters to come would be below.
            huge = b"9" * 5000
            client.lpush(
                key + b":c", b"%b 0 x" % huge, b"%d %b x" % (reader, huge), b"9" * 20 + b" 0 x"
            )
            client.rpush(key + b":c", b"%d 0 x" % (reader + 10**12))
        (letter,) = await state.inboxes.watch("node", reader, 0)
        await state.inboxes.handled("node", reader, letter.number)
        await state.inboxes.send("node", 0, b"y")
        assert [each.data for each in await state.inboxes.watch("node", reader, 0)] == [b"y"]


# what a long result costs


async def test_to_be_told_of_an_end_costs_redis_the_same_however_long_its_result_is(
    server: RedisServer,
) -> None:
    """Redis does one thing at a time: what it copies for one, all others wait for."""
    cost: dict[int, float] = {}
    async with opened(server) as state:
        for size in (1000, 4 * 2**20):
            submission = await begun(state)
            said = random.Random(size).randbytes(size)
            run = Outcome(0, None, None, Written(size, utf8=False), Written(), 1.0, 1.0, 1)
            ended = replace(result(), run=run)
            pieces = [
                Output("run", "stdout", said[at : at + 2**15]) for at in range(0, size, 2**15)
            ]
            await state.log.append(submission.id, 1, pieces)
            await state.submissions.finish(submission.id, 1, ended)
            server.command("CONFIG", "RESETSTAT")
            for _ in range(20):
                (last,) = await state.log.watch(submission.id, len(pieces) + 2)
                assert last.event == Finished(ended)
                record = await state.submissions.get(submission.id, 2**14)
                assert (record.result, record.output is None) == (ended, size > 2**14)
            (evaluated,) = re.findall(
                r"cmdstat_evalsha:.*usec=(\d+)", server.command("INFO", "commandstats")
            )
            cost[size] = float(evaluated)
    assert cost[4 * 2**20] < 10 * cost[1000]


# what somebody else wrote

STRANGE = [
    b"", b"\n", b"\xff", b"hello", b"1 2 3\n", b"9 1 0 1 x\n{}", b"9 1 1 7\n", b"1e9 1 0 0\n", b"\0" * 9999,
]  # fmt: skip


@pytest.mark.parametrize("text", STRANGE)
async def test_a_strange_message_on_a_channel_hurts_nobody(
    server: RedisServer, text: bytes
) -> None:
    async with opened(server) as state:
        submission = await begun(state)
        found: list[LogEntry] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(follow, state, submission.id, found)
            with trio.fail_after(SOON_S):
                while len(found) < 2:  # noqa: ASYNC110
                    await trio.sleep(0.01)
            with redis.Redis.from_url(server.url) as client:
                for channel in (f"occd2:e:{submission.id}", store_of(state).me):
                    assert client.publish(channel, text) == 1
            await state.log.append(submission.id, 1, [output(b"after")])
            with trio.fail_after(SOON_S):
                await state.submissions.finish(submission.id, 1, result())
                while len(found) < 4:  # noqa: ASYNC110
                    await trio.sleep(0.01)
        assert [each.seq for each in found] == [1, 2, 3, 4]
        assert outputs(found) == [b"after"]


async def test_a_damaged_summary_does_not_take_the_others_from_the_list(
    server: RedisServer,
) -> None:
    async with opened(server) as state:
        mine = [replace(make(), owner="anon:me") for _ in range(3)]
        for each in mine:
            await state.submissions.create(each, None, "")
        with redis.Redis.from_url(server.url) as client:
            client.hset(f"occd2:{{{mine[0].id}}}", "status", "exploded")
            client.hset(
                f"occd2:{{{mine[1].id}}}", mapping={"verdict": "graded", "language": b"\xff"}
            )
        told = {each.id: each for each in await state.submissions.owned("anon:me", None, 10)}
        assert set(told) == {mine[1].id, mine[2].id}
        assert (told[mine[1].id].verdict, told[mine[2].id].verdict) == (None, None)


async def test_strange_members_of_an_index_are_taken_away(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("occd.state.redis.indexes._HEAL_EVERY_S", 0.05)
    async with opened(server) as state:
        ours = replace(make(), owner="anon:me", created_at=time.time() - 100)
        await state.submissions.create(ours, None, "")
        with redis.Redis.from_url(server.url) as client:
            for key in ("occd2:unpublished", "occd2:queued", "occd2:o:anon:me"):
                client.zadd(key, {b"\xff": 1.0, b"": 2.0, b"a}b": time.time() - 99})
            assert await state.submissions.unpublished(time.time() - 30) == [ours]
            assert [each.id for each in await state.submissions.owned("anon:me", None, 10)] == [
                ours.id
            ]
            with trio.fail_after(SOON_S):
                while client.zcard("occd2:queued") > 1:  # noqa: ASYNC110
                    await trio.sleep(0.02)
            for key in ("occd2:unpublished", "occd2:queued", "occd2:o:anon:me"):
                assert client.zrange(key, 0, -1) == [ours.id.encode()]


async def test_a_node_that_cannot_be_read_is_one_line_in_the_log(
    server: RedisServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is looked at for each submission, and may be of a later version that is there to stay."""
    async with opened(server) as state:
        await state.nodes.announce(Node("good", ("ws",)))
        server.command("HSET", "occd2:nodes", "bad ws", f"{time.time()} {{}}")
        for _ in range(5):
            assert [each.name for each in await state.nodes.live()] == ["good"]
        server.command("HDEL", "occd2:nodes", "bad ws")
        await state.nodes.live()
    said = capsys.readouterr()
    assert (said.out + said.err).count("a node says what cannot be read") == 2
    assert (said.out + said.err).count("it works again") == 1


@pytest.mark.parametrize("score", ["-inf", "inf", "-1e300"])
async def test_what_waits_since_no_time_waits_since_nobody_knows_when(
    server: RedisServer, score: str
) -> None:
    """As JSON an endless time would be the end of the status."""
    async with opened(server) as state:
        server.command("ZADD", "occd2:queued", score, "x")
        assert await state.submissions.oldest() is None


async def test_a_damaged_number_of_a_log_is_one_error_for_who_follows(server: RedisServer) -> None:
    async with opened(server) as state:
        damaged, ours = await begun(state), await begun(state)
        with redis.Redis.from_url(server.url) as client:
            client.hset(f"occd2:{{{damaged.id}}}", "log", b"zz\xff")
        with pytest.raises(Unreadable):
            await state.log.watch(damaged.id, 0)
        assert await state.log.watch(ours.id, 0)


NUMBERS = [
    *("attempts", "excused", "first_control", "log_from", "resizes", "signals", "signals_from"),
    *("stdin_read", "stdin_sent"),
]


@pytest.mark.parametrize("number", NUMBERS)
async def test_a_damaged_number_of_a_submission_is_one_error_and_holds_up_nobody(
    server: RedisServer, number: str
) -> None:
    """A step waits for a Redis that refuses it, which here would be for ever, in a slot. And a number of
    attempts without end kept Redis itself in its script."""
    async with opened(server) as state:
        for junk in (b"x", b"1e999", b"9" * 15):
            damaged = await begun(state, interactive=True)
            await state.controls.send_stdin(damaged.id, b"x", None, end=False)
            with redis.Redis.from_url(server.url) as client:
                client.hset(f"occd2:{{{damaged.id}}}", number, junk)
            steps: list[Callable[[], Awaitable[object]]] = [
                partial(state.log.append, damaged.id, 1, [output(b"x")]),
                partial(state.controls.send_stdin, damaged.id, b"x", 1, end=False),
                partial(state.controls.send_signal, damaged.id, "SIGINT"),
                partial(state.controls.watch, damaged.id, 0),
                partial(state.submissions.get, damaged.id),
                partial(state.submissions.excuse, damaged.id, 1),
                partial(state.submissions.begin, damaged, "3.11", "node"),
                partial(state.submissions.cancel, damaged.id),
                partial(state.submissions.finish, damaged.id, None, result()),
                partial(state.submissions.get, damaged.id, 1000),
            ]
            for step in steps:
                with trio.fail_after(SOON_S):
                    try:
                        await step()
                    except StateUnavailable:
                        raise
                    except OccdError:
                        pass
        await begun(state)


async def test_a_damaged_count_of_what_finished_refuses_nobody(server: RedisServer) -> None:
    async with opened(server) as state:
        await state.submissions.create(make(), None, "")
        with redis.Redis.from_url(server.url) as client:
            now = int(time.time()) // 10
            for count, bucket in enumerate(range(now - 6, now + 30)):
                client.set(f"occd2:{{done}}:{bucket}", (b"x", b"-7", b"9" * 5000)[count % 3])
        submission = make()
        await state.submissions.create(submission, None, "")
        first = (await state.log.watch(submission.id, 0))[0].event
        assert first == Queued(2, None)


def test_a_name_of_somebody_elses_steers_no_terminal(server: RedisServer) -> None:
    """Who may write to Redis may call a node as they like; `occd nodes` prints the names."""
    node = {"name": "n\x1b[2J\n\u202e", "roles": ["ws"], "languages": {"a\r": ["1\x07"]}}
    with redis.Redis.from_url(server.url) as client:
        client.hset("occd2:nodes", "n ws", f"{client.time()[0]} {json.dumps(node)}")
    environment = os.environ | {"OCCD_REDIS__URL": server.url}
    done = subprocess.run([OCCD, "nodes"], capture_output=True, env=environment, check=True)
    first, second = done.stdout.decode().splitlines()
    assert first.startswith(r"n\x1b[2J\n\u202e: ws; ")
    assert second.split() == [r"a\r", r"1\x07"]


# several processes


async def test_what_one_process_does_another_sees(server: RedisServer) -> None:
    async with opened(server) as here, opened(server) as there:
        submission = await begun(here, interactive=True)
        found: list[LogEntry] = []
        sent: list[Control] = []
        cancelled = trio.Event()

        async def run() -> None:
            await follow_controls(here, submission.id, sent)
            cancelled.set()

        with trio.fail_after(SOON_S):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(follow, there, submission.id, found)
                nursery.start_soon(run)
                await here.log.append(submission.id, 1, [output(b"one"), output(b"two")])
                await there.controls.send_stdin(submission.id, b"a", None, end=False)
                await there.controls.send_stdin(submission.id, b"b", None, end=True)
                await there.controls.send_signal(submission.id, "SIGINT")
                await there.controls.send_signal(submission.id, "SIGTERM")
                await there.submissions.cancel(submission.id)
                await cancelled.wait()
                assert await here.submissions.finish(submission.id, 1, result())
            assert (await there.submissions.settled(submission.id)).result
        assert outputs(found) == [b"one", b"two"]
        assert [each.seq for each in found] == [1, 2, 3, 4, 5]
        assert sent == [
            Stdin(0, b"a"),
            Stdin(1, b"b"),
            End(),
            Signal("SIGINT"),
            Signal("SIGTERM"),
            Cancel(),
        ]


@pytest.mark.alone
async def test_output_and_stdin_cross_within_milliseconds(server: RedisServer) -> None:
    async with opened(server) as here, opened(server) as there:
        submission = await begun(here, interactive=True)
        told: dict[str, list[float]] = {"output": [], "stdin": []}
        sent = 0.0

        async def watch() -> None:
            after = 2
            while True:
                after = (await there.log.watch(submission.id, after))[-1].seq
                told["output"].append(time.monotonic() - sent)

        async def read() -> None:
            after = 0
            while True:
                after = (await here.controls.watch(submission.id, after))[-1].number
                told["stdin"].append(time.monotonic() - sent)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch)
            nursery.start_soon(read)
            await trio.sleep(0.1)
            for _ in range(50):
                sent = time.monotonic()
                await here.log.append(submission.id, 1, [output(b"x")])
                await trio.sleep(0.01)
                sent = time.monotonic()
                await there.controls.send_stdin(submission.id, b"x", None, end=False)
                await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
        assert median(told["output"]) < 0.02  # 1 ms on a quiet machine
        assert median(told["stdin"]) < 0.02


async def test_positions_count_over_all_processes(server: RedisServer) -> None:
    async with opened(server) as here, opened(server) as there:
        positions = []
        for state in (here, there, here, there):
            submission = make()
            await state.submissions.create(submission, None, "")
            (event,) = await there.log.watch(submission.id, 0)
            assert isinstance(event.event, Queued)
            positions.append(event.event.position)
        assert positions == [1, 2, 3, 4]


async def test_followers_who_are_up_to_date_cost_no_reads(server: RedisServer) -> None:
    async with opened(server) as state:
        submission = await begun(state)
        found: list[LogEntry] = []
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(follow, state, submission.id, found)
            before = await _settled(server)
            for number in range(10):
                await state.log.append(submission.id, 1, [output(b"%d" % number)])
                await trio.sleep(0.01)
            assert await _settled(server) - before < 20
            await state.submissions.finish(submission.id, 1, result())
        assert len(found) == 20 * 13


async def _settled(server: RedisServer) -> int:
    """How many scripts have been run, when no more are."""
    before = -1
    while (now := _calls(server)) != before:
        before = now
        await trio.sleep(0.2)
    return now


def _calls(server: RedisServer) -> int:
    """How many scripts have been run."""
    for line in server.command("INFO", "commandstats").splitlines():
        if line.startswith("cmdstat_evalsha:"):
            return int(line.split("calls=")[1].split(",")[0])
    return 0


# outages


async def test_a_restart_loses_and_doubles_nothing_and_who_waits_goes_on(
    server: RedisServer,
) -> None:
    async with opened(server) as here, opened(server) as there:
        submission = await begun(here, interactive=True)
        found: list[LogEntry] = []
        sent: list[Control] = []
        cancelled = trio.Event()

        async def run() -> None:
            await follow_controls(here, submission.id, sent)
            cancelled.set()

        async def kill_often() -> None:
            for _ in range(4):
                await trio.sleep(0.15)
                server.kill()
                await trio.sleep(0.1)
                server.start()

        with trio.fail_after(SOON_S):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(follow, there, submission.id, found)
                nursery.start_soon(run)
                nursery.start_soon(kill_often)
                for number in range(150):
                    await here.log.append(submission.id, 1, [output(b"%d" % number)])
                    await there.controls.send_stdin(submission.id, b"%d " % number, None, end=False)
                    await trio.sleep(0.005)
                await there.controls.send_stdin(submission.id, b"", None, end=True)
                await there.submissions.cancel(submission.id)
                await cancelled.wait()
                assert await here.submissions.finish(submission.id, 1, result())
        assert outputs(found) == [b"%d" % number for number in range(150)]
        assert [each.seq for each in found] == list(range(1, 154))
        assert typed(sent) == b"".join(b"%d " % number for number in range(150))


async def test_a_held_redis_holds_up_nobody_else(server: RedisServer) -> None:
    gaps: list[float] = []

    async def tick() -> None:
        while True:
            began = time.monotonic()
            await trio.sleep(0.01)
            gaps.append(time.monotonic() - began)

    async with opened(server) as state:
        submission = await begun(state)
        found: list[LogEntry] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(follow, state, submission.id, found)
            await trio.sleep(0.1)
            async with trio.open_nursery() as ticking:
                ticking.start_soon(tick)
                server.pause()
                nursery.start_soon(state.log.append, submission.id, 1, [output(b"held")])
                await trio.sleep(5)
                server.resume()
                ticking.cancel_scope.cancel()
            assert max(gaps) < 2.5  # Redis was held for twice as long
            with trio.fail_after(SOON_S):
                while not outputs(found):  # noqa: ASYNC110
                    await trio.sleep(0.01)
                await state.submissions.finish(submission.id, 1, result())
        assert outputs(found) == [b"held"]


async def test_a_long_outage_is_said_within_seconds_and_can_be_left(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("occd.state.redis.link._PATIENCE_S", 0.5)
    async with opened(server) as state:
        submission = await begun(state)
        server.kill()
        for _ in range(2):
            with trio.fail_after(5), pytest.raises(StateUnavailable) as failed:
                await state.submissions.published(submission.id)
            assert "cannot be reached" in str(failed.value)
        with trio.move_on_after(0.3) as scope:  # waiting outlasts it, and can be given up
            await state.log.watch(submission.id, 2)
        assert scope.cancelled_caught
    assert "Traceback" not in "".join(capfd.readouterr())


async def test_starts_and_output_that_redis_takes_late_happen_once(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is sent to a Redis that stands still is carried out when it goes on, however often that was."""
    monkeypatch.setattr("occd.state.redis.link._PATIENCE_S", 0.1)
    monkeypatch.setattr("occd.state.redis.connect._ANSWER_S", 0.3)
    monkeypatch.setattr("occd.state.redis.store.RETRY_S", 0.05)
    async with opened(server) as state:
        running, waiting = await begun(state, interactive=True), make()
        await state.submissions.create(waiting, None, "")
        started: list[int] = []

        async def start() -> None:
            started.append(await state.submissions.begin(waiting, "3", "node"))

        async with trio.open_nursery() as nursery:
            server.pause()
            nursery.start_soon(state.log.append, running.id, 1, [output(b"late")])
            nursery.start_soon(start)
            for _ in range(3):  # others give up, one after another
                with pytest.raises(StateUnavailable):
                    await state.controls.send_stdin(running.id, b"in", 0, end=False)
            server.resume()
        assert started == [1]
        found: list[LogEntry] = list(await state.log.watch(running.id, 2))
        assert outputs(found) == [b"late"]
        assert len(await state.log.watch(waiting.id, 0)) == 2


async def test_scripts_that_redis_forgot_are_sent_again(server: RedisServer) -> None:
    async with opened(server) as state:
        submission = await begun(state)
        server.do("SCRIPT", "FLUSH")
        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(state.log.append, submission.id, 1, [output(b"%d" % number)])
        await state.submissions.finish(submission.id, 1, result())
        found: list[LogEntry] = []
        await follow(state, submission.id, found)
        assert sorted(outputs(found), key=int) == [b"%d" % number for number in range(20)]


async def test_an_emptied_redis_resets_those_who_follow(server: RedisServer) -> None:
    async with opened(server) as state:
        submission = await begun(state)
        reset = trio.Event()

        async def follow_to_reset() -> None:
            with pytest.raises(EventsReset):
                await state.log.watch(submission.id, 2)
            reset.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(follow_to_reset)
            await trio.testing.wait_all_tasks_blocked(0.5)
            server.do("FLUSHALL")
            with pytest.raises(UnknownSubmission):
                await state.log.append(submission.id, 1, [output(b"x")])
            assert await state.submissions.begin(submission, "3", "node") == 1
            with trio.fail_after(SOON_S):
                await reset.wait()
        assert [each.seq for each in await state.log.watch(submission.id, 0)] == [1, 2]


async def test_an_emptied_redis_resets_who_follows_what_had_not_begun(server: RedisServer) -> None:
    """The new log's numbers are the old one's."""
    async with opened(server) as here, opened(server) as there:
        submission = make()
        await here.submissions.create(submission, None, "")
        (queued,) = await here.log.watch(submission.id, 0)
        with trio.fail_after(SOON_S):
            async with trio.open_nursery() as nursery:

                @nursery.start_soon
                async def follow_to_reset() -> None:
                    with pytest.raises(EventsReset):
                        await here.log.watch(submission.id, queued.seq)

                await trio.testing.wait_all_tasks_blocked(0.5)
                server.do("FLUSHALL")
                assert await there.submissions.begin(submission, "3", "node") == 1
        told = await here.log.watch(submission.id, 0)
        assert [(each.seq, each.event.name) for each in told] == [(1, "queued"), (2, "started")]


async def test_created_keys_that_an_emptied_redis_lost_are_told(server: RedisServer) -> None:
    async with opened(server) as state, opened(server) as other:
        assert await state.keys.warnings() == []
        await other.keys.add(key := a_key("k"))
        assert await state.keys.find(key.sha256) == key
        assert await state.keys.warnings() == []
        server.do("FLUSHALL")
        assert await state.keys.find(key.sha256) is None
        (line,) = await state.keys.warnings()
        assert "create them again" in line
        await state.keys.add(key)  # of how many that were there?
        assert await state.keys.warnings() == [line]


@pytest.mark.parametrize("stored", ["", "x", "ab not JSON", 'ab ["key:a"]', 'ab ["a","b",["x"],1]'])
async def test_a_damaged_key_hides_no_other(server: RedisServer, stored: str) -> None:
    async with opened(server) as state:
        await state.keys.add(key := a_key("k"))
        await state.keys.add(damaged := a_key("damaged"))
        server.command("HSET", "occd2:keys", "k:damaged", stored)
        assert await state.keys.all() == [key]
        assert await state.keys.find(damaged.sha256) is None
        await state.keys.used({"damaged": 1})
        await state.keys.revoke("damaged")
        assert server.command("HKEYS", "occd2:keys").count("damaged") == 0


@pytest.mark.parametrize("stored", ["", "x", "1 not JSON", '1 ["ada.two","a"]'])
async def test_a_damaged_session_is_nobodys_and_hides_no_other(
    server: RedisServer, stored: str
) -> None:
    async with opened(server) as state:
        await state.sessions.open(one := a_session("one"))
        server.command("HSET", "occd2:sessions:ada", "ada.two", stored)
        assert await state.sessions.find("ada.two") is None
        assert not await state.sessions.rotate("ada.two", "a" * 64, "b" * 64, time.time())
        await state.sessions.open(three := a_session("three"))
        assert await state.sessions.find(one.id) == one
        assert await state.sessions.find(three.id) == three


# every step can be repeated, and a death between two is healed


async def test_every_step_can_be_repeated(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if each first answer had been lost."""
    run = Link.run

    async def run_twice(link: Link, *commands: Command, certain: bool = True) -> list[Reply]:
        await run(link, *commands, certain=certain)
        return await run(link, *commands, certain=certain)

    async with opened(server) as state:
        monkeypatch.setattr(Link, "run", run_twice)
        submission, waiting = make(interactive=True), make()
        assert (await state.submissions.create(submission, "key", "digest")).id == submission.id
        await state.submissions.published(submission.id)
        assert await state.submissions.begin(submission, "3", "n") == 1
        await state.submissions.excuse(submission.id, 1)
        for attempt in (2, 3, 4):
            assert await state.submissions.begin(submission, "3", "n") == attempt
        await state.log.append(submission.id, 4, [output(b"a"), output(b"b")])
        await state.controls.send_stdin(submission.id, b"x", None, end=False)
        await state.controls.send_stdin(submission.id, b"y", None, end=True)
        await state.controls.send_signal(submission.id, "SIGINT")
        assert await state.submissions.cancel(submission.id)
        entries = await state.controls.watch(submission.id, 0)
        assert [each.control for each in entries] == [
            Stdin(0, b"x"),
            Stdin(1, b"y"),
            End(),
            Signal("SIGINT"),
            Cancel(),
        ]
        assert await state.submissions.finish(submission.id, 4, result())
        assert not await state.submissions.finish(submission.id, 4, result())
        await state.submissions.create(waiting, None, "")
        assert await state.submissions.cancel(waiting.id)
        assert not await state.submissions.cancel(waiting.id)
        found: list[LogEntry] = []
        await follow(state, submission.id, found)
        assert [each.event.name for each in found] == [
            "queued", "started", "started", "started", "started", "output", "output", "finished"
        ]  # fmt: skip
        await a_life_that_pays(state)
        levels = [round(each.left) for each in await state.quotas.admit(PAYER, {})]
        assert levels == [10, 99, 990, 9990, 1_000_000]
        await state.keys.add(first := a_key("first"))
        await state.keys.add(second := a_key("second"))
        await state.keys.expire("first", 1_800_000_000)
        assert await state.keys.all() == [replace(first, expires_at=1_800_000_000), second]
        await state.keys.revoke("first")
        assert await state.keys.all() == [second]
        await state.keys.used({"second": 1_700_000_000})
        await state.keys.expire("second", 1_800_000_000)
        await state.keys.revoke("second")
        assert server.command("HKEYS", "occd2:keys").split() == ["*1", "$4", "made"]
        await state.sessions.open(session := a_session("one"))
        later = session.rotated_at + ROTATE_S
        assert await state.sessions.rotate(session.id, session.sha256, "c" * 64, later)
        await state.sessions.close(session.id)
        assert await state.sessions.find(session.id) is None


async def fails(*_: object, **__: object) -> list[Reply]:
    await trio.lowlevel.checkpoint()
    raise StateUnavailable("died here", 5)


async def test_a_key_whose_holder_died_before_it_created_is_used_on(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(server) as state:
        first, second = make(), make()
        with monkeypatch.context() as patch:
            patch.setattr(state.store, "step", fails)
            with pytest.raises(StateUnavailable):
                await state.submissions.create(first, "key", "digest")
        with pytest.raises(Conflict):
            await state.submissions.create(second, "key", "other")
        made = await state.submissions.create(second, "key", "digest")
        assert (made.id, made.published) == (first.id, False)
        assert (await state.submissions.submission(first.id)).files == second.files
        assert [each.id for each in await state.submissions.unpublished(time.time() + 60)] == [
            first.id
        ]


async def test_a_key_that_leads_nowhere_is_free_again_after_a_while(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(server) as state:
        with monkeypatch.context() as patch:
            patch.setattr(state.store, "step", fails)
            with pytest.raises(StateUnavailable):
                await state.submissions.create(make(), "key", "digest")
        monkeypatch.setattr("occd.state.redis.indexes._YOUNG_S", -1.0)
        other = make()
        assert (await state.submissions.create(other, "key", "other")).id == other.id


async def test_a_refused_request_leaves_its_repetition_the_key_and_the_member(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both are under way at the limit. Room comes after the first was refused and before it says so."""
    ask, who = RedisQuotas.ask, replace(PAYER, allowance=Allowance(unfinished=1))
    async with opened(server) as state, opened(server) as other:
        waiting, first, second = make(), make(), make()
        await state.submissions.create(waiting, None, "", who)

        async def ask_slowly(quotas: RedisQuotas, *args: Any) -> Any:
            try:
                return await ask(quotas, *args)
            except QuotaUsedUp as error:
                refused = error
            monkeypatch.setattr(RedisQuotas, "ask", ask)
            await state.submissions.cancel(waiting.id)
            made = await other.submissions.create(second, "key", "digest", who)
            assert (made.id, made.quotas[0].left) == (first.id, 0)
            raise refused

        monkeypatch.setattr(RedisQuotas, "ask", ask_slowly)
        with pytest.raises(QuotaUsedUp):
            await state.submissions.create(first, "key", "digest", who)
        third = await state.submissions.create(make(), "key", "digest", who)
        assert third.id == first.id
        assert server.command("ZCARD", "occd2:admitted") == ":1"
        assert (await state.quotas.admit(who, {}))[0].left == 0
        assert await state.submissions.cancel(first.id)
        assert (await state.quotas.admit(who, {}))[0].left == 1
        assert server.command("ZCARD", "occd2:admitted") == ":0"


async def test_those_that_wait_no_more_are_counted_no_more(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("occd.state.redis.indexes._YOUNG_S", -1.0)
    monkeypatch.setattr("occd.state.redis.indexes._HEAL_EVERY_S", 0.05)
    async with opened(server) as state:
        kept = make()
        await state.submissions.create(kept, None, "")
        server.command("ZADD", "occd2:queued", "1", "dead", "2", "gone")
        server.command("ZADD", "occd2:unpublished", "1", "dead")
        with trio.fail_after(SOON_S):
            while server.command("ZCARD", "occd2:queued") != ":1":  # noqa: ASYNC110
                await trio.sleep(0.02)
        assert [each.id for each in await state.submissions.unpublished(time.time() + 60)] == [
            kept.id
        ]
        assert server.command("ZCARD", "occd2:unpublished") == ":1"


async def test_an_end_that_nobody_charged_is_charged_when_it_comes_again_or_after_a_while(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """notify dies between the two steps. Then the message comes again, or a process looks through them."""
    async with opened(server) as state:
        for again in (True, False):
            submission = make()
            await state.submissions.create(submission, None, "", PAYER)
            await state.submissions.begin(submission, "3", "node")
            spent = replace(result(), spent=Spent(100.0))
            with monkeypatch.context() as patch:
                patch.setattr("occd.state.redis.indexes.Indexes.after_end", fails)
                with pytest.raises(StateUnavailable):
                    await state.submissions.finish(submission.id, 1, spent)
            assert (await state.quotas.admit(PAYER, {}))[0].left == 9
            if again:
                assert not await state.submissions.finish(submission.id, 1, spent)
        monkeypatch.setattr("occd.state.redis.quotas.LEFT_S", 0.0)
        monkeypatch.setattr("occd.state.redis.quotas._HEAL_EVERY_S", 0.05)
        async with opened(server):
            with trio.fail_after(SOON_S):
                while (await state.quotas.admit(PAYER, {}))[0].left < 10:  # noqa: ASYNC110
                    await trio.sleep(0.02)
        assert [round(each.left, -2) for each in await state.quotas.admit(PAYER, {})][2:4] == [
            800,
            9800,
        ]
        assert server.command("ZCARD", "occd2:admitted") == ":0"


async def test_what_is_erased_before_it_is_charged_is_charged_and_counted_no_more(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client sees the end and erases it, while notify is between its two steps, or has died there."""
    after_end, erased = Indexes.after_end, trio.Event()

    async def late(*args: Any) -> None:
        await erased.wait()
        await after_end(*args)

    async with opened(server) as state:
        for used, step in ((100, late), (200, fails)):
            submission = make()
            await state.submissions.create(submission, None, "", PAYER)
            await state.submissions.begin(submission, "3", "node")
            spent = replace(result(), spent=Spent(100.0, 5000))
            async with trio.open_nursery() as nursery:
                with monkeypatch.context() as patch:
                    patch.setattr(Indexes, "after_end", step)
                    if step is fails:
                        with pytest.raises(StateUnavailable):
                            await state.submissions.finish(submission.id, 1, spent)
                    else:
                        nursery.start_soon(state.submissions.finish, submission.id, 1, spent)
                        while await state.submissions.status(submission.id) != "finished":  # noqa: ASYNC110
                            await trio.sleep(0.01)
                assert await state.submissions.erase(submission)
                erased.set()
            levels = [round(each.left) for each in await state.quotas.admit(PAYER, {})]
            assert levels == [10, 100 - used // 100, 1000 - used, 10_000 - used, 1_000_000]
        assert server.command("ZCARD", "occd2:admitted") == ":0"


@pytest.mark.parametrize("cost", ["nan nan nan", "inf 1e999 -inf", "1 2", "x", "\xff"])
async def test_a_damaged_cost_costs_nothing_and_holds_up_nobody(
    cost: str, server: RedisServer
) -> None:
    async with opened(server) as state:
        submission = make()
        await state.submissions.create(submission, None, "", PAYER)
        await state.submissions.begin(submission, "3", "node")
        await state.submissions.finish(submission.id, 1, result())
        with redis.Redis.from_url(server.url) as client:
            client.hset(f"occd2:{{{submission.id}}}", "cost", cost.encode("latin-1"))
        assert not await state.submissions.finish(submission.id, 1, result())
        assert await state.submissions.erase(submission)
        assert [round(each.left) for each in await state.quotas.admit(PAYER, {})][2] == 1000


async def test_in_an_emptied_redis_quotas_begin_anew(server: RedisServer) -> None:
    async with opened(server) as state:
        submission = make()
        for each in (make(), submission):
            await state.submissions.create(each, None, "", PAYER)
        await state.submissions.begin(submission, "3", "node")
        server.command("FLUSHALL")
        assert (await state.quotas.admit(PAYER, {}))[0].left == 10
        spent = replace(result(), spent=Spent(100.0))
        assert await state.submissions.begin(submission, "3", "node") == 1
        assert await state.submissions.finish(submission.id, 1, spent)
        assert [each.left for each in await state.quotas.admit(PAYER, {})] == [
            10, 100, 1000, 10_000, 1_000_000
        ]  # fmt: skip


async def test_strange_values_of_a_payer_are_left_out(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("occd.state.redis.quotas.LEFT_S", 0.0)
    monkeypatch.setattr("occd.state.redis.quotas._HEAL_EVERY_S", 0.05)
    base = "occd2:{q:addr:192.0.2.1}"
    server.command("HSET", base, "runs", "x y z", "hour", "1", "day", "nan nan nan")
    server.command("ZADD", "occd2:admitted", "1", "noid", "2", "no payer", "3", "is stream")
    server.command("XADD", "occd2:{q:stream}", "*", "not", "ours")
    server.command("XADD", "occd2:{q:stream}:m", "*", "not", "ours")
    async with opened(server) as state:
        created = await state.submissions.create(make(), None, "", PAYER)
        assert [each.left for each in created.quotas][:3] == [9, 99, 1000]
        with trio.fail_after(SOON_S):
            while server.command("ZCARD", "occd2:admitted") != ":1":  # noqa: ASYNC110
                await trio.sleep(0.02)


# keys


async def live(state: State) -> None:
    """Use everything."""
    submission, waiting, refused = make(interactive=True), make(), make()
    await state.submissions.create(submission, "key", "digest")
    await state.submissions.published(submission.id)
    await state.submissions.begin(submission, "3", "node")
    await state.log.append(submission.id, 1, [output(b"x")])
    await state.controls.send_stdin(submission.id, b"x", None, end=True)
    await state.controls.send_signal(submission.id, "SIGINT")
    await state.submissions.cancel(submission.id)
    assert len(await state.controls.watch(submission.id, 0)) == 4
    await state.controls.took(submission.id, 1)
    await state.log.watch(submission.id, 0)
    await state.submissions.finish(submission.id, 1, result())
    await state.submissions.settled(submission.id)
    waiting = replace(waiting, owner="anon:me")
    await state.submissions.create(waiting, None, "")
    await state.submissions.cancel(waiting.id)
    assert len(await state.submissions.owned("anon:me", None, 9)) == 1
    await state.submissions.create(refused, "another", "digest")
    await state.submissions.discard(refused.id)
    await state.submissions.unpublished(time.time() + 60)
    await a_life_that_pays(state)
    stored = make()
    await state.submissions.create(
        stored, None, "", replace(PAYER, name="addr:2001:db8:7:: 2001:db8:7::/48")
    )
    await state.submissions.finish(stored.id, None, result())
    await state.nodes.announce(Node("n", ("ws",)))
    await state.nodes.live()
    await state.nodes.withdraw(Node("n", ("ws",)))
    await state.keys.add(key := a_key("k"))
    assert await state.keys.find(key.sha256) == key
    await state.keys.used({"k": 1_700_000_000})
    await state.keys.add(a_key("other"))
    await state.keys.expire("other", 1_800_000_000)
    await state.keys.revoke("k")
    assert [each.id for each in await state.keys.all()] == ["other"]
    await state.sessions.open(session := a_session("one"))
    await state.sessions.open(a_session("two"))
    assert await state.sessions.find(session.id) == session
    later = session.rotated_at + ROTATE_S
    assert await state.sessions.rotate(session.id, session.sha256, "c" * 64, later)
    await state.sessions.close(session.id)
    await state.store.check()


async def test_every_step_would_work_on_a_cluster() -> None:
    """Of one node that has all slots: keys of two slots in a command are refused all the same."""
    with redis_server("cluster-enabled yes", f"cluster-port {free_port()}") as server:
        server.do("CLUSTER", "ADDSLOTSRANGE", "0", "16383")
        async with opened(server) as state:
            await live(state)


async def test_every_key_has_the_prefix_and_goes_in_time(server: RedisServer) -> None:
    async with opened(server, keep_s=100) as state:
        await live(state)
        keys = server.command("KEYS", "*").split()[2::2]
        assert all(key.startswith("occd2:") for key in keys)
        lasting = {key for key in keys if server.command("TTL", key) == ":-1"}
        assert lasting <= {"occd2:nodes", "occd2:keys"}


async def test_an_owners_index_keeps_none_that_nothing_can_be_known_of(
    server: RedisServer,
) -> None:
    async with opened(server, keep_s=100) as state:
        server.command("ZADD", "occd2:o:anon:me", str(time.time() - 8 * 24 * 3600), "ancient")
        server.command("ZADD", "occd2:o:anon:me", str(time.time() - 6 * 24 * 3600), "may wait")
        await state.submissions.create(replace(make(), owner="anon:me"), None, "")
        assert server.command("ZCARD", "occd2:o:anon:me") == ":2"
        assert server.command("ZSCORE", "occd2:o:anon:me", "ancient") == "$-1"


async def test_an_idempotency_key_goes_whatever_became_of_its_submission(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(server, keep_s=100) as state:
        with monkeypatch.context() as patch:
            patch.setattr(state.store, "step", fails)
            with pytest.raises(StateUnavailable):
                await state.submissions.create(make(), "key", "digest")
        (key,) = server.command("KEYS", "occd2:k:*").split()[2::2]
        assert 100 < int(server.command("TTL", key)[1:]) <= 100 + 7 * 24 * 3600
        ended = make()
        await state.submissions.create(ended, "another", "digest")
        await state.submissions.finish(ended.id, None, result())
        (other,) = {*server.command("KEYS", "occd2:k:*").split()[2::2]} - {key}
        assert 0 < int(server.command("TTL", other)[1:]) <= 100


async def test_a_process_with_thousands_of_descriptors_is_told_all_the_same(
    server: RedisServer, capsys: pytest.CaptureFixture[str]
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    null = os.open(os.devnull, os.O_RDONLY)
    taken = [os.dup(null) for _ in range(1500)]
    try:
        async with opened(server) as state:
            assert store_of(state).news._alarmed.fileno() > 1024
            submission, found = await begun(state), list[LogEntry]()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(follow, state, submission.id, found)
                with trio.fail_after(SOON_S):
                    while len(found) < 2:  # noqa: ASYNC110  (the follower listens now)
                        await trio.sleep(0.01)
                    await state.log.append(submission.id, 1, [output(b"x")])
                    await state.submissions.finish(submission.id, 1, result())
        assert [each.event.name for each in found][-2:] == ["output", "finished"]
        assert "mistake" not in capsys.readouterr().out  # connecting anew all the time serves, too
    finally:
        for each in (null, *taken):
            os.close(each)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_nobody_is_left_subscribed(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("occd.state.redis.news._LINGER_S", 0.05)
    async with opened(server) as state:
        submission = await begun(state)
        await state.submissions.finish(submission.id, 1, result())
        await state.submissions.settled(submission.id)
        with trio.fail_after(SOON_S):
            while server.command("PUBSUB", "CHANNELS", "occd2:e:*") != "*0":  # noqa: ASYNC110
                await trio.sleep(0.02)
        assert len(await state.log.watch(submission.id, 0)) == 3


async def test_half_of_a_log_whose_node_died_gives_way_to_what_the_result_has(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its followers begin anew. A next attempt of an older version is not held up by the first one."""
    monkeypatch.setattr("occd.state.redis.submissions._WHOLE_S", 0.1)
    head, size = b"the beginning", 1000
    outcome = Outcome(0, None, None, Written(size, head=head), Written(), 0.1, 0.2, 300)
    last = replace(result(), run=outcome)
    async with opened(server) as state:
        submission = make()
        begin, finish = state.submissions.begin, state.submissions.finish
        assert await begin(submission, "3", "node", Taken(log=True)) == 1
        await state.log.append(submission.id, 1, [output(b"the beginning and more")])
        async with trio.open_nursery() as nursery:
            seen = trio.Event()
            nursery.start_soon(follow_anew, state, submission.id, seen)
            await seen.wait()
            with trio.fail_after(SOON_S):
                assert await finish(submission.id, 1, last, submission)
        record = await state.submissions.get(submission.id, size)
        assert record.result
        assert record.result.run
        assert (record.result.run.stdout.size, record.result.run.stdout.truncated) == (13, True)
        told = [each.event for each in await state.log.entries(submission.id, 0)]
        assert told == [output(head), Finished(record.result)]
        again = make()
        assert await begin(again, "3", "node", Taken(log=True)) == 1
        assert await begin(again, "3", "node") == 2
        await state.log.append(again.id, 2, [output(head)])
        assert await finish(again.id, 2, last, again)
        found = (await state.submissions.get(again.id)).result
        assert found
        assert found.run
        assert not found.run.stdout.truncated


async def test_a_result_that_waits_for_its_log_is_not_sent_again_and_again(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("occd.state.redis.submissions._LATER_S", 0.001)
    size = 2**22

    def got() -> int:
        (line,) = re.findall(r"total_net_input_bytes:(\d+)", server.command("INFO", "stats"))
        return int(line)

    async with opened(server) as state:
        submission = replace(make(), stdin=bytes(size))
        assert await state.submissions.begin(submission, "3", "node", Taken(log=True)) == 1
        before = got()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(state.submissions.finish, submission.id, 1, result(), submission)
            await trio.sleep(1)
            assert (await state.submissions.status(submission.id)) == "running"
            await state.submissions.whole(submission.id, 1)
        assert (await state.submissions.status(submission.id)) == "finished"
        assert got() - before < 4 * size  # base64


async def follow_anew(state: State, id: str, seen: trio.Event) -> None:
    last = (await state.log.watch(id, 0))[-1].seq
    seen.set()
    with pytest.raises(EventsReset):
        await state.log.watch(id, last)
