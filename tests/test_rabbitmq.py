"""What the broker over RabbitMQ promises beyond the contract: outages, a server that is not as it should
be, other people's messages, lanes."""

import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import messages
import pika
import pytest
import trio
from fake_sandbox import Emit, FakeSandbox
from messages import Deliveries, Q, put
from pydantic import SecretStr
from rabbitmq_server import RabbitmqServer, rabbitmq, shared
from serving import OCCD, serving

from occd import wire
from occd.broker import DEAD, Broker, open_broker
from occd.broker.rabbitmq import RabbitmqBroker
from occd.broker.topology import Topology
from occd.config import Config, ExecuteConfig, QueueConfig, RabbitmqConfig
from occd.errors import BrokerError, BrokerUnavailable, ConfigError, MessageTooLarge
from occd.model import File, Outcome, Submission, Verdict, new_id
from occd.roles.execute import Execute
from occd.roles.notify import Notify
from occd.sqlite import open_database
from occd.state import open_state

SOON_S = 30.0
QUIET_S = 0.2
RESULTS = "execution_queue"
take = partial(messages.take, within=SOON_S)  # RabbitMQ may have to start


@pytest.fixture
def server() -> Iterator[RabbitmqServer]:
    """The session's server. A test may pause it."""
    server = shared()
    yield server
    server.resume()


@pytest.fixture
def mortal(tmp_path: Path) -> Iterator[RabbitmqServer]:
    """A server of this test's own, which the test may kill.

    After a SIGKILL, the quorum queues of a RabbitMQ sometimes stay down until the next restart
    (rabbitmq-server issues 4512 and 12311): the other tests are not to meet such a server.
    """
    with rabbitmq(tmp_path / "rabbitmq") as server:
        yield server


@pytest.fixture
def url(server: RabbitmqServer) -> Iterator[str]:
    url = server.add_vhost()
    yield url
    server.resume()
    server.delete_vhost(url)


def configure(url: str, length_max: int = 100_000, **settings: Any) -> Config:
    rabbitmq = RabbitmqConfig(url=SecretStr(url), **settings)
    return Config(rabbitmq=rabbitmq, queue=QueueConfig(length_max=length_max))


@asynccontextmanager
async def opened(url: str, **settings: Any) -> AsyncIterator[RabbitmqBroker]:
    async with open_broker(configure(url, **settings), None) as broker:
        assert isinstance(broker, RabbitmqBroker)
        yield broker


async def assert_quiet(deliveries: Deliveries) -> None:
    with trio.move_on_after(QUIET_S):
        delivery = await deliveries.receive()
        pytest.fail(f"{delivery.body!r} should not have come")


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    with trio.fail_after(SOON_S):
        while not await holds():  # noqa: ASYNC110
            await trio.sleep(0.05)


def an_impatient_publisher(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("occd.broker.publisher.PATIENCE_S", 0.5)
    monkeypatch.setattr("occd.broker.talk.PATIENCE_S", 0.5)


def foreign(url: str, queue: str, *messages: tuple[bytes, pika.BasicProperties | None]) -> None:
    """Publish as somebody who knows nothing of us."""
    connection = pika.BlockingConnection(pika.URLParameters(url))
    channel = connection.channel()
    channel.confirm_delivery()  # or a channel that closes at once may take them with it
    for body, properties in messages:
        channel.basic_publish("", queue, body, properties)
    connection.close()


# Outages


async def test_a_killed_server_loses_nothing_that_was_confirmed(
    mortal: RabbitmqServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    an_impatient_publisher(monkeypatch)
    published: set[str] = set()
    seen: Counter[str] = Counter()
    stop = trio.Event()

    async def publish(broker: Broker, who: int) -> None:
        number = 0
        while not stop.is_set():
            body = f"{who}:{number}"
            try:
                await put(broker, body, owner=str(who))
                number += 1
                published.add(body)
                await trio.sleep(0.02)  # slower than the consumer, which is to catch up
            except BrokerUnavailable:
                await trio.sleep(0.1)

    async def consume(broker: Broker) -> None:
        async with broker.consume(Q, 8) as deliveries:
            async for delivery in deliveries:
                seen[delivery.body.decode()] += 1
                await delivery.ack()

    async with opened(mortal.url) as broker, trio.open_nursery() as nursery:
        nursery.start_soon(consume, broker)
        for who in range(16):
            nursery.start_soon(publish, broker, who)

        async def enough() -> bool:
            await trio.lowlevel.checkpoint()
            return len(published) > 100

        await until(enough)
        mortal.kill()
        before = len(published)
        mortal.launch()
        await trio.to_thread.run_sync(mortal.wait_open)

        async def goes_on() -> bool:
            return len(published) > before + 100 and len(seen) > before + 100

        await until(goes_on)
        stop.set()

        async def all_seen() -> bool:
            return published <= seen.keys()

        await until(all_seen)
        nursery.cancel_scope.cancel()
    twice = sum(count - 1 for count in seen.values())
    assert (
        twice <= 16 * 20 + 8
    )  # published again after each attempt, or served and not acknowledged


async def test_a_server_that_stops_answering_costs_a_clear_error_and_not_the_loop(
    server: RabbitmqServer, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks: list[float] = []

    async def tick() -> None:
        while True:
            ticks.append(trio.current_time())
            await trio.sleep(0.01)

    async with opened(url) as broker, broker.consume(Q, 2) as deliveries:
        await put(broker, "before")
        (before,) = await take(deliveries)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(tick)
            server.pause()
            began = trio.current_time()
            with pytest.raises(BrokerUnavailable) as refused:
                await put(broker, "during")
            assert refused.value.retry_after_s > 0
            assert 4 < trio.current_time() - began < 20
            monkeypatch.setattr("occd.broker.talk.PATIENCE_S", 0.5)
            with pytest.raises(BrokerUnavailable):
                await broker.check()
            nursery.cancel_scope.cancel()
        assert max(b - a for a, b in pairwise(ticks)) < 1
        server.resume()
        await before.ack()
        await put(broker, "after")
        bodies = {(await take(deliveries))[0].body, (await take(deliveries))[0].body}
        assert bodies == {b"during", b"after"}  # it had been written: nobody was there to say so


async def test_what_was_being_delivered_at_a_loss_comes_again_and_its_end_does_nothing(
    url: str,
) -> None:
    async with opened(url) as broker, broker.consume(Q, 1) as deliveries:
        await put(broker, "a", "b")
        (stale,) = await take(deliveries)
        lose(broker)
        await assert_quiet(deliveries)  # its work goes on: there is no free slot
        await stale.ack()
        (again,) = await take(deliveries)
        assert again.body == stale.body
        await again.ack()
        (b,) = await take(deliveries)
        await b.ack()
        await assert_quiet(deliveries)


async def for_ever(_emit: Emit, _stop: trio.Event) -> Outcome:
    await trio.sleep_forever()


@pytest.mark.parametrize("interactive", [False, True])
async def test_what_is_delivered_again_while_it_runs_still_comes_back_if_we_end(
    url: str, tmp_path: Path, interactive: bool
) -> None:
    config = configure(url).model_copy(update={"execute": ExecuteConfig(slots=2)})
    sandbox = FakeSandbox(for_ever)
    ours = Submission(
        new_id(), "python", None, "main.py", (File("main.py", b""),), interactive=interactive
    )
    async with (
        open_database(tmp_path) as database,
        open_broker(config, None) as broker,
        open_state(config, database) as state,
    ):
        assert isinstance(broker, RabbitmqBroker)
        await state.submissions.create(ours, None, "")
        await broker.publish(Q, wire.encode_submission(ours), key=ours.id, owner=None)
        async with trio.open_nursery() as nursery:
            execute = Execute(config, broker, state, sandbox, lambda: 0.0)
            await nursery.start(execute.run)
            with trio.fail_after(SOON_S):
                while len(await state.log.watch(ours.id, 0)) < 2:  # noqa: ASYNC110
                    await trio.sleep(0.01)
            for _ in range(2):
                lose(broker)
                await trio.sleep(1)  # until it has been delivered again, which nobody can see
            assert (await state.submissions.get(ours.id)).attempts == 1
            # The free slots are with the intake, which has asked for submissions.
            assert (execute.arbiter.in_slots, execute.arbiter.seated) == (2, int(interactive))
            nursery.cancel_scope.cancel()
        async with broker.consume(Q, 1) as deliveries:
            (again,) = await take(deliveries)
            assert again.key == ours.id
            await again.ack()


@pytest.mark.parametrize("end", ["hand_back", "keep"])
async def test_other_ends_of_a_stale_delivery_do_nothing_either(url: str, end: str) -> None:
    async with opened(url) as broker:
        await put(broker, "a")
        async with broker.consume(Q, 1) as deliveries:
            (stale,) = await take(deliveries)
            lose(broker)
            await trio.sleep(QUIET_S)
            await getattr(stale, end)()
            (again,) = await take(deliveries)
            await again.ack()
            await assert_quiet(deliveries)
        assert await broker.kept(Q) == []


async def test_a_plain_consumer_holds_no_more_than_it_has_slots_after_a_loss(url: str) -> None:
    async with opened(url) as broker, broker.consume(RESULTS, 2) as deliveries:
        await put(broker, *"abcd", queue=RESULTS)
        stale = await take(deliveries, 2)
        lose(broker)
        await trio.sleep(1)
        await assert_quiet(deliveries)
        for each in stale:
            await each.ack()
        found = await take(deliveries, 2)
        assert {each.body for each in found} == {b"a", b"b"}
        await assert_quiet(deliveries)


async def test_what_is_not_confirmed_is_published_again(server: RabbitmqServer, url: str) -> None:
    async with opened(url) as broker:
        server.pause()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(put, broker, "a")
            await trio.sleep(QUIET_S)
            lose(broker)
            await trio.sleep(QUIET_S)
            server.resume()
        async with broker.consume(Q, 1) as deliveries:
            (a,) = await take(deliveries)
            assert a.body == b"a"


async def test_a_cancelled_publish_leaves_nothing(
    server: RabbitmqServer, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(url) as broker:
        server.pause()
        with trio.move_on_after(0.1):
            await put(broker, "a")
        lose(broker)
        server.resume()
        await until(lambda: passes(broker))
        assert broker._publisher._waiting == {}
        assert broker._publisher._sent == {}


async def short(broker: RabbitmqBroker) -> bool:
    """Whether a check says so."""
    try:
        await broker.check()
    except BrokerError as error:
        return "takes no messages now: it is short of memory or disk" in str(error)
    return False


async def test_while_rabbitmq_is_short_of_memory_acknowledgements_flow(
    server: RabbitmqServer,
    url: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    an_impatient_publisher(monkeypatch)
    async with opened(url) as broker, broker.consume(Q, 1) as deliveries:
        await put(broker, "a", "b")
        (a,) = await take(deliveries)
        server.evaluate("rabbit_alarm:set_alarm({{resource_limit, memory, node()}, []})")
        try:
            await until(lambda: refused(broker))  # RabbitMQ tells its connections in its own time
            await until(lambda: short(broker))
            await a.ack()
            (b,) = await take(deliveries)
            await b.ack()
        finally:  # the other tests share the server
            server.evaluate("rabbit_alarm:clear_alarm({resource_limit, memory, node()})")
        await until(lambda: passes(broker))
        await put(broker, "d")
    said = capsys.readouterr().out
    assert said.count("RabbitMQ takes no messages now") == 2  # and that it works again
    assert said.count("it works again") == 1


async def test_an_outage_is_logged_once_and_so_is_its_end(
    mortal: RabbitmqServer, capsys: pytest.CaptureFixture[str]
) -> None:
    said = ""

    async def works_again() -> bool:
        nonlocal said
        said += capsys.readouterr().out
        return said.count("it works again") == 2  # over both connections

    async with opened(mortal.url) as broker:
        mortal.kill()
        for link in (broker._publishing, broker._consuming):
            await until(partial(failed_often, link))
        mortal.launch()
        await until(works_again)
    assert said.count("no connection to RabbitMQ") == 2 + 2  # and what is over


async def failed_often(link: Any) -> bool:
    await trio.lowlevel.checkpoint()
    return bool(link._failures >= 3)


async def test_heartbeats_flow_while_this_process_is_busy(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("occd.broker.login._HEARTBEAT_S", 1)
    async with opened(url) as broker, broker.consume(Q, 1) as deliveries:
        await put(broker, "a")
        (a,) = await take(deliveries)
        time.sleep(3.5)  # noqa: ASYNC251  (the loop is not free, which is the point)
        await a.ack()
        await assert_quiet(deliveries)


async def test_queues_that_somebody_deletes_are_declared_again(url: str) -> None:
    async with opened(url) as broker, broker.consume(Q, 1) as deliveries:
        connection = pika.BlockingConnection(pika.URLParameters(url))
        for queue in broker._topology.lanes(Q):
            connection.channel().queue_delete(queue)
        connection.close()

        async def accepted() -> bool:
            try:
                await put(broker, "a")
            except BrokerError:  # while a queue is going it refuses what comes, or fails
                return False
            return True

        await until(accepted)
        (a,) = await take(deliveries)
        await a.ack()


async def passes(broker: Broker) -> bool:
    try:
        await broker.check()
    except BrokerError:
        return False
    return True


async def refused(broker: Broker) -> bool:
    try:
        await put(broker, "c")
    except BrokerUnavailable:
        return True
    return False


def lose(broker: RabbitmqBroker) -> None:
    """Both connections."""
    for link in (broker._publishing, broker._consuming):
        link.post(link._abort)


# A server that is not as it should be


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("s3cret-of-the-test", "wrong-one"), ["user", "occd-test", "password_file"]),
        (("/test", "/nowhere"), ["virtual host", "nowhere", "add_vhost"]),
        (("amqp://", "http://"), ["rabbitmq.url", "amqp://"]),
        (("amqp://", "amqps://"), ["TLS", "ca_file"]),
    ],
)
async def test_what_only_a_person_can_mend_is_told_at_once_in_a_line(
    url: str, change: tuple[str, str], words: list[str]
) -> None:
    with trio.fail_after(20), pytest.raises(ConfigError) as refused:
        async with opened(url.replace(*change)):
            pass
    said = str(refused.value)
    assert all(word in said for word in words), said
    assert "\n" not in said
    assert "s3cret" not in said
    assert "wrong-one" not in said


async def test_a_server_that_cannot_be_reached_is_waited_for_then_named(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("occd.broker.amqp.START_S", 1.0)
    with pytest.raises(BrokerUnavailable, match=r"127\.0\.0\.1:1 cannot be reached.*refused"):
        async with opened("amqp://guest:guest@127.0.0.1:1/"):
            pass


async def test_a_server_that_comes_up_late_is_waited_for(server: RabbitmqServer, url: str) -> None:
    async def forward(one: trio.SocketStream, other: trio.SocketStream) -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            async for data in one:
                await other.send_all(data)

    async def serve(client: trio.SocketStream) -> None:
        async with (
            await trio.open_tcp_stream("127.0.0.1", server.port) as real,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(forward, client, real)
            await forward(real, client)

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]

    async def come_up_late() -> None:
        await trio.sleep(0.5)
        await trio.serve_tcp(serve, port, host="127.0.0.1")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(come_up_late)
        async with opened(url.replace(f":{server.port}/", f":{port}/")) as broker:
            await put(broker, "a")
        nursery.cancel_scope.cancel()


async def test_quorum_queues_that_are_down_at_the_start_are_waited_for_then_named(
    mortal: RabbitmqServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    mortal.evaluate("supervisor:terminate_child(ra_systems_sup, quorum_queues)")

    async def mend() -> None:
        await trio.sleep(1)
        restart = "supervisor:restart_child(ra_systems_sup, quorum_queues)"
        await trio.to_thread.run_sync(mortal.evaluate, restart)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(mend)
        async with opened(mortal.url) as broker:
            await put(broker, "a")
    mortal.evaluate("supervisor:terminate_child(ra_systems_sup, quorum_queues)")
    monkeypatch.setattr("occd.broker.rabbitmq.START_S", 1.0)
    with pytest.RaisesGroup(
        pytest.RaisesExc(BrokerUnavailable, match="restart RabbitMQ"),
        allow_unwrapped=True,
        flatten_subgroups=True,
    ):
        async with opened(mortal.add_vhost()):
            pass


@pytest.mark.parametrize("other", [{"length_max": 5}, {"queue_type": "classic"}])
async def test_a_queue_that_was_declared_otherwise_is_named(url: str, other: Any) -> None:
    async with opened(url):
        pass
    with pytest.RaisesGroup(ConfigError, allow_unwrapped=True, flatten_subgroups=True) as refused:
        async with opened(url, **other):
            pass
    error: BaseException = refused.value
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert "submission_queue" in str(error)
    assert "delete_queue" in str(error)
    assert "\n" not in str(error)


async def test_the_password_may_lie_in_a_file(url: str, tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("s3cret-of-the-test\n")
    bare = url.replace(":s3cret-of-the-test", "")
    async with opened(bare, password_file=secret) as broker:
        await put(broker, "a")
    with pytest.raises(ConfigError, match="password_file"):
        async with opened(bare, password_file=tmp_path / "absent"):
            pass


async def test_over_tls_both_sides_show_who_they_are(server: RabbitmqServer) -> None:
    folder = server.certificates
    client = {"cert_file": folder / "client.pem", "key_file": folder / "client.key"}
    async with opened(server.tls_url, ca_file=folder / "ca.pem", **client) as broker:
        await put(broker, "a", queue="over-tls")
        async with broker.consume("over-tls", 1) as deliveries:
            (a,) = await take(deliveries)
            await a.ack()


@pytest.mark.parametrize("case", ["stranger", "no-certificate", "other-name", "not-a-certificate"])
async def test_tls_that_fails_is_told_in_a_line(server: RabbitmqServer, case: str) -> None:
    folder = server.certificates
    ca = {"stranger": "other.pem", "not-a-certificate": "server.key"}.get(case, "ca.pem")
    client = {"cert_file": folder / "client.pem", "key_file": folder / "client.key"}
    url = server.tls_url
    if case == "no-certificate":
        client = {}
    if case == "other-name":
        url = url.replace("localhost", "127.0.0.1")
    with trio.fail_after(10), pytest.raises(ConfigError, match=r"TLS|ca_file") as refused:
        async with opened(url, ca_file=folder / ca, **client):
            pass
    assert "\n" not in str(refused.value)


async def test_classic_queues_do_the_same_but_do_not_count(url: str) -> None:
    async with opened(url, queue_type="classic") as broker:
        await put(broker, "a", "b")
        async with broker.consume(Q, 1) as deliveries:
            (a,) = await take(deliveries)
            await a.reject("bad")
        async with broker.consume(Q + DEAD, 1) as deliveries:
            (dead,) = await take(deliveries)
            assert dead.reason == "bad"
            await dead.keep()
        for _ in range(60):
            async with broker.consume(Q, 1) as deliveries:
                (b,) = await take(deliveries)
                await b.hand_back()
        assert (await broker.depths())[Q + DEAD] == 0


async def test_also_of_a_classic_queue_a_message_says_that_it_came_before(url: str) -> None:
    async with (
        opened(url, queue_type="classic") as broker,
        broker.consume(Q, 1) as deliveries,
    ):
        await put(broker, "a")
        (first,) = await take(deliveries)
        assert not first.again
        lose(broker)
        await first.ack()  # too late
        (again,) = await take(deliveries)
        assert again.again
        await again.ack()


# Messages of other people, and of us


async def test_foreign_messages_stop_nobody_and_are_kept_with_a_reason(
    url: str, tmp_path: Path
) -> None:
    properties = pika.BasicProperties
    messages = (
        (b"", None),
        (b"hello", properties(content_type="text/plain")),
        (
            b"\x00\xff" * 100,
            properties(correlation_id="\N{SNOWMAN}", headers={"x": [1, {"y": None}]}),
        ),
        (b"{}", properties(correlation_id=b"\xff\xfe", reply_to="nobody", priority=9)),
        (b'{"v": 99}', properties(headers={"x-delivery-count": "many", "occd-reason": 7})),
        (b"x" * 20_000_000, properties(correlation_id="large")),
        (b'{"v": 1, "submission": {"id": "cut', properties(correlation_id="cut")),
    )
    config = configure(url).model_copy(update={"execute": ExecuteConfig(slots=2)})
    async with (
        open_database(tmp_path) as database,
        open_broker(config, None) as broker,
        open_state(config, database) as state,
        trio.open_nursery() as nursery,
    ):
        sandbox = FakeSandbox(for_ever, languages={}, available={})
        for role in (Notify(config, broker, state), Execute(config, broker, state, sandbox)):
            await nursery.start(role.run)
        for queue in (Q, RESULTS):
            await trio.to_thread.run_sync(foreign, url, queue, *messages)
            await trio.to_thread.run_sync(undecodable, url, queue)
        ours = Submission(new_id(), "gone", None, "main.py", (File("main.py", b""),))
        await state.submissions.create(ours, None, "")
        await broker.publish(Q, wire.encode_submission(ours), key=ours.id, owner=None)
        with trio.fail_after(SOON_S):
            record = await state.submissions.settled(ours.id)
        assert record.result
        assert record.result.verdict == Verdict.INTERNAL_ERROR

        async def all_kept() -> bool:
            return len(await broker.kept(Q)) + len(await broker.kept(RESULTS)) == 16

        await until(all_kept)
        for kept in [*await broker.kept(Q), *await broker.kept(RESULTS)]:
            assert kept.reason
            assert "not a message of ours" in kept.reason
        nursery.cancel_scope.cancel()


def undecodable(url: str, queue: str) -> None:
    """A header that pika can send and not receive: a time beyond all calendars."""

    class Late(pika.BasicProperties):  # type: ignore[misc]
        def encode(self) -> list[bytes]:
            return [b"\x20\x00", b"\x00\x00\x00\x0b\x01tT" + b"\xff" * 8]

    foreign(url, queue, (b"late", Late()))


async def test_a_message_that_rabbitmq_finds_too_large_fails_alone(url: str) -> None:
    async with opened(url) as broker:
        failed: list[MessageTooLarge] = []

        async def too_large() -> None:
            try:
                await broker.publish(Q, b"x" * 34_000_000, key="large", owner=None)
            except MessageTooLarge as error:
                failed.append(error)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(too_large)
            for number in range(50):
                nursery.start_soon(put, broker, str(number))
        assert len(failed) == 1
        assert "33554432" in str(failed[0])
        await put(broker, "after")


def test_the_bound_of_rabbitmq_4_fits_all_sources_and_more_is_told(tmp_path: Path) -> None:
    """16 MiB where nothing is set. A message is a third larger than what it carries, which is base64."""
    program = "print(len(open(0).read()))"
    with (
        rabbitmq(tmp_path / "rabbitmq", "max_message_size = 16777216") as queues,
        serving(tmp_path / "data", rabbitmq__url=queues.url) as server,
    ):
        filler = {"name": "filler.txt", "content": "x" * (8 * 2**20 - len(program))}
        largest = {"files": [{"name": "main.py", "content": program}, filler]}
        fits = {"language": "python", **largest, "stdin": "y" * (3 * 2**20)}
        ran = server.post(fits, "?wait=60")
        assert ran.status == 200, ran.body
        assert ran.json()["run"]["stdout"] == f"{3 * 2**20}\n", ran.json()
        for _ in range(2):  # the key leads to nothing
            refused = server.post(fits | {"stdin": "y" * (7 * 2**20)}, Idempotency_Key="the-same")
            assert (refused.status, refused.json()["type"]) == (413, "too-large"), refused.json()
            assert "16777216" in refused.json()["detail"]
        ran = server.post(fits, "?wait=60", Idempotency_Key="the-same")
        assert ran.status == 200, ran.body
        assert ran.json()["run"]["stdout"] == f"{3 * 2**20}\n", ran.json()


# Lanes


def test_an_owner_keeps_its_lane_over_releases() -> None:
    topology = Topology(RabbitmqConfig(url=SecretStr("amqp://h/")), 10)
    lanes = [topology.lane(Q, owner) for owner in (None, "A", "B", "F")]
    assert lanes == [Q, f"{Q}.3", f"{Q}.2", f"{Q}.1"]
    assert topology.lane(RESULTS, "A") == RESULTS
    spread = Counter(topology.lane(Q, f"owner {number}") for number in range(800))
    assert len(spread) == 8
    assert min(spread.values()) > 60


async def test_one_owners_many_do_not_delay_anothers_one(url: str) -> None:
    async with opened(url) as broker:
        await put(broker, *(f"a{number}" for number in range(200)), owner="A")
        async with broker.consume(Q, 1) as deliveries:
            for number in range(20):
                (delivery,) = await take(deliveries)
                await delivery.ack()
                if number == 10:
                    await put(broker, "b", owner="B")
                if delivery.body == b"b":
                    break
        assert 10 < number < 10 + 8 + 3


@pytest.mark.parametrize("queue", [Q, RESULTS])
async def test_a_busy_node_hoards_nothing_that_an_idle_one_could_serve(
    url: str, queue: str
) -> None:
    async with (
        opened(url) as busy,
        opened(url) as idle,
        busy.consume(queue, 2) as theirs,
    ):
        for number in range(2):
            await put(busy, f"long {number}", owner=str(number), queue=queue)
        long = await take(theirs, 2)
        for number in range(30):
            await put(busy, str(number), owner=str(number), queue=queue)
        served = []
        async with idle.consume(queue, 2) as ours:
            for _ in range(30):
                (delivery,) = await take(ours)
                served.append(int(delivery.body))
                await delivery.ack()
        assert sorted(served) == list(range(30))
        await assert_quiet(theirs)
        for each in long:
            await each.ack()


async def test_turning_busy_again_and_again_makes_no_dead_letters(url: str) -> None:
    """Bursts over all lanes at many nodes with one slot: most of what comes for it goes back, and
    RabbitMQ counts each as a delivery."""
    served: Counter[str] = Counter()

    async def work(broker: Broker) -> None:
        async with broker.consume(Q, 1) as deliveries:
            async for delivery in deliveries:
                served[delivery.body.decode()] += 1
                await trio.sleep(0.002)
                await delivery.ack()

    async with opened(url) as one, opened(url) as other, trio.open_nursery() as nursery:
        for broker in (one, other) * 30:
            nursery.start_soon(work, broker)
        for burst in range(5):
            async with trio.open_nursery() as publishing:
                for number in range(80):
                    body = f"{burst}.{number}"
                    publishing.start_soon(partial(put, one, body, owner=body))

            async def all_served(count: int = 80 * (burst + 1)) -> bool:
                return len(served) == count

            await until(all_served)
        nursery.cancel_scope.cancel()
    assert set(served.values()) == {1}


async def test_bursts_at_nodes_with_many_seats_make_no_dead_letters(url: str) -> None:
    """The prefetch counts the seats, so more than one message may come for a node's one free slot."""
    served: Counter[str] = Counter()

    async def work(broker: Broker) -> None:
        async with broker.pull(Q, 65) as pull:
            pull.ask()
            async for delivery in pull.deliveries:
                served[delivery.body.decode()] += 1
                await trio.sleep(0.002)
                await delivery.ack()
                pull.ask()

    async with opened(url) as one, opened(url) as other, trio.open_nursery() as nursery:
        for broker in (one, other) * 30:
            nursery.start_soon(work, broker)
        for burst in range(5):
            async with trio.open_nursery() as publishing:
                for number in range(80):
                    body = f"{burst}.{number}"
                    publishing.start_soon(partial(put, one, body, owner=body))

            async def all_served(count: int = 80 * (burst + 1)) -> bool:
                return len(served) == count

            await until(all_served)
        nursery.cancel_scope.cancel()
    assert set(served.values()) == {1}


# All of it


def test_a_daemon_over_rabbitmq_runs_programs_and_queues_tells(url: str, tmp_path: Path) -> None:
    with serving(tmp_path / "data", rabbitmq__url=url) as server:
        assert server.run("print(6 * 7)")["run"]["stdout"] == "42\n"
        foreign(url, Q, (b"not ours", pika.BasicProperties(correlation_id="stranger")))
        deadline = time.monotonic() + SOON_S
        while "stranger" not in (said := queues(url, tmp_path)).stdout:
            assert time.monotonic() < deadline, said
    requeued = queues(url, tmp_path, "requeue", "stranger")
    assert requeued.returncode == 125
    assert "stranger cannot be submitted again" in requeued.stderr


def queues(url: str, folder: Path, *args: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [OCCD, "--data-dir", str(folder / "data"), "queues", *args],
        env={"OCCD_RABBITMQ__URL": url, "PATH": str(Path(sys.executable).parent)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_wrong_password_ends_the_daemon_with_a_line(url: str, tmp_path: Path) -> None:
    done = queues(url.replace("s3cret-of-the-test", "wrong-one"), tmp_path)
    assert done.returncode == 125
    assert done.stderr.startswith("occd: rabbitmq.url: ")
    assert done.stderr.count("\n") == 1
    assert "wrong-one" not in done.stderr
