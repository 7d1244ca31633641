"""What every broker promises (`occd/broker/__init__.py`), over every implementation."""

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from messages import Deliveries, Q, put, take
from seams import BROKER_SEAMS, QUIET_S, SOON_S, BrokerSeam
from structlog.contextvars import bind_contextvars

from occd.broker import DEAD, DELIVERY_LIMIT, KEPT, Broker, Kept, open_broker
from occd.config import Config
from occd.errors import DataFolderError, QueueFull
from occd.origin import coming_from
from occd.sqlite import Database, open_database


@pytest.fixture(params=BROKER_SEAMS)
def seam(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> BrokerSeam:
    return BROKER_SEAMS[request.param](tmp_path, monkeypatch)


async def drain(broker: Broker, count: int, queue: str = Q) -> list[str]:
    """Take and acknowledge so many, one at a time."""
    found = []
    async with broker.consume(queue, 1) as deliveries:
        for _ in range(count):
            (delivery,) = await take(deliveries)
            found.append(delivery.body.decode())
            await delivery.ack()
    return found


async def assert_quiet(deliveries: Deliveries) -> None:
    with trio.move_on_after(QUIET_S):
        delivery = await deliveries.receive()
        pytest.fail(f"{delivery.body!r} should not have come")


async def assert_empty(broker: Broker, queue: str = Q) -> None:
    async with broker.consume(queue, 10) as deliveries:
        await assert_quiet(deliveries)


async def test_a_delivery_carries_body_key_and_no_reason(seam: BrokerSeam) -> None:
    async with seam.open() as broker, broker.consume(Q, 1) as deliveries:
        await broker.publish(Q, b"\x00\xff body", key="the-id", owner=None)
        (delivery,) = await take(deliveries)
        assert (delivery.body, delivery.key, delivery.reason) == (b"\x00\xff body", "the-id", None)
        await delivery.ack()


async def test_a_delivery_says_whose_it_is_however_often_it_comes(seam: BrokerSeam) -> None:
    owners = ["addr:2001:db8:7:: 2001:db8:7::/48", "oidc:https://i#" + "s" * 255, "é", None]
    async with seam.open() as broker:
        for number, owner in enumerate(owners):
            await broker.publish(Q, b"x", key=f"{number}", owner=owner)
        seam.crash()
    async with seam.open() as broker, broker.consume(Q, 1) as deliveries:
        found = {}
        for _ in range(30 * len(owners)):  # so often that RabbitMQ has to publish each anew
            (delivery,) = await take(deliveries)
            assert delivery.owner == owners[int(delivery.key)]
            await delivery.hand_back()
        for _ in owners:
            (delivery,) = await take(deliveries)
            found[delivery.key] = delivery.owner
            await delivery.ack()
        assert [found[f"{number}"] for number in range(len(owners))] == owners


NAMES = {
    "request_id": "mine-1",
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
}


async def test_a_message_has_the_names_of_its_request_wherever_it_lies(seam: BrokerSeam) -> None:
    async with seam.open() as broker, broker.consume(Q, 1) as deliveries:
        with coming_from(NAMES):
            await broker.publish(Q, b"x", key="awaited", owner=None)
        (delivery,) = await take(deliveries)
        assert delivery.names == NAMES
        await delivery.ack()
    async with seam.open() as broker:
        with coming_from(NAMES):
            await broker.publish(Q, b"x", key="named", owner=None)
        await broker.publish(Q, b"x", key="nameless", owner=None)
        seam.crash()
    async with seam.open() as broker:
        async with broker.consume(Q, 1) as deliveries:
            for _ in range(60):  # so often that RabbitMQ has to publish it anew
                (delivery,) = await take(deliveries)
                assert (delivery.key == "named") == (delivery.names == NAMES)
                await delivery.hand_back()
            for _ in range(2):
                (delivery,) = await take(deliveries)
                await delivery.reject("bad")
        async with broker.consume(Q + DEAD, 1) as deliveries:
            for _ in range(2):
                (dead,) = await take(deliveries)
                assert dead.names == (NAMES if dead.key == "named" else {})
                await dead.keep()
        assert {each.key: each.names for each in await kept(broker, 2)} == {
            "named": NAMES,
            "nameless": {},
        }


async def test_names_that_break_their_rule_are_left_out(seam: BrokerSeam) -> None:
    """Others may write to our queues."""
    async with seam.open() as broker, broker.consume(Q, 1) as deliveries:
        for request_id, traceparent in (
            ("x" * 129, NAMES["traceparent"] + "-more"),
            ("a\nlevel=error", NAMES["traceparent"].upper()),
            (f"occd_{'a' * 43}", ""),
        ):
            bind_contextvars(request_id=request_id, traceparent=traceparent)
            await broker.publish(Q, b"x", key="the-id", owner=None)
            (delivery,) = await take(deliveries)
            await delivery.hand_back()
            (delivery,) = await take(deliveries)
            assert delivery.names == {}
            await delivery.ack()


async def test_what_was_published_survives_a_crash(seam: BrokerSeam) -> None:
    async with seam.open() as broker:
        await put(broker, "a", "b", "c")
        seam.crash()
    async with seam.open() as broker:
        assert await drain(broker, 3) == ["a", "b", "c"]


async def test_what_was_delivered_and_not_ended_comes_again_after_a_crash(seam: BrokerSeam) -> None:
    async with seam.open() as broker:
        await put(broker, "a", "b", "c")
        async with broker.consume(Q, 3) as deliveries:
            first, _, _ = await take(deliveries, 3)
            await first.ack()
            seam.crash()
    async with seam.open() as broker:
        assert sorted(await drain(broker, 2)) == ["b", "c"]
        await assert_empty(broker)


async def test_what_was_delivered_before_says_so(seam: BrokerSeam) -> None:
    async with seam.open() as broker:
        await put(broker, "a")
        async with broker.consume(Q, 1) as deliveries:
            (a,) = await take(deliveries)
            assert not a.again
            seam.crash()
    async with seam.open() as broker, broker.consume(Q, 1) as deliveries:
        (a,) = await take(deliveries)
        assert a.again
        await a.ack()


async def test_what_was_acknowledged_never_comes_again(seam: BrokerSeam) -> None:
    async with seam.open() as broker:
        await put(broker, "a")
        assert await drain(broker, 1) == ["a"]
        await assert_empty(broker)
        seam.crash()
    async with seam.open() as broker:
        await assert_empty(broker)


async def test_hand_back_returns_a_message_to_the_head(seam: BrokerSeam) -> None:
    async with seam.open() as broker:
        await put(broker, "a", "b")
        async with broker.consume(Q, 1) as deliveries:
            (a,) = await take(deliveries)
            await a.hand_back()
            (again,) = await take(deliveries)
            assert again.body == b"a"
            await again.ack()
        assert await drain(broker, 1) == ["b"]


async def test_hand_back_puts_its_owner_first_again(seam: BrokerSeam) -> None:
    async with seam.open() as broker:
        await put(broker, "a1", "a2", owner="A")
        await put(broker, "b1", owner="B")
        async with broker.consume(Q, 1) as deliveries:
            (first,) = await take(deliveries)
            await first.hand_back()
        served = await drain(broker, 3)
        assert sorted(served) == ["a1", "a2", "b1"]
        assert served.index("a1") < served.index("a2")
        if seam.exact:
            assert served == ["a1", "b1", "a2"]


async def test_prefetch_bounds_what_is_out(seam: BrokerSeam) -> None:
    async with seam.open() as broker:
        await put(broker, *"abcde")
        async with broker.consume(Q, 2) as deliveries:
            first, second = await take(deliveries, 2)
            await assert_quiet(deliveries)
            await first.ack()
            (third,) = await take(deliveries)
            assert third.body == b"c"
            await assert_quiet(deliveries)
            await second.hand_back()
            await take(deliveries)


@pytest.mark.parametrize("queue", [Q, "execution_queue"])
async def test_a_message_comes_for_each_request_only(seam: BrokerSeam, queue: str) -> None:
    async with seam.open() as broker, broker.pull(queue, 10) as pull:
        await put(broker, *"abc", queue=queue)
        await assert_quiet(pull.deliveries)
        pull.ask()
        (a,) = await take(pull.deliveries)
        await a.ack()
        await assert_quiet(pull.deliveries)  # the end of a message is no request
        pull.ask()
        (b,) = await take(pull.deliveries)
        await b.hand_back()
        await assert_quiet(pull.deliveries)
        pull.ask()
        (b,) = await take(pull.deliveries)
        assert (a.body, b.body) == (b"a", b"b")
        assert await drain(broker, 1, queue) == ["c"]  # another consumer gets the rest
        await b.ack()


@pytest.mark.parametrize("queue", [Q, "execution_queue"])
async def test_what_is_not_ended_holds_back_nothing_that_is_asked_for(
    seam: BrokerSeam, queue: str
) -> None:
    """All messages are one owner's, and so in one lane. They come while every lane is empty."""
    async with seam.open() as broker, broker.pull(queue, 20) as pull:
        held = []
        for _ in range(4):
            pull.ask()
        for number in range(16):
            await put(broker, str(number), owner="A", queue=queue)
            held += await take(pull.deliveries)
            pull.ask()  # the message takes up no room any more, but has not ended
        assert [each.body for each in held] == [str(number).encode() for number in range(16)]
        for each in held:
            await each.ack()
        await assert_quiet(pull.deliveries)


@pytest.mark.parametrize("queue", [Q, "execution_queue"])
async def test_a_pull_starves_while_a_request_waits_for_a_message(
    seam: BrokerSeam, queue: str
) -> None:
    async def come_to(starves: bool) -> None:
        with trio.fail_after(SOON_S):
            while pull.starves() != starves:  # noqa: ASYNC110  (nothing tells of it)
                await trio.sleep(0.01)

    async with seam.open() as broker, broker.pull(queue, 10) as pull:
        await put(broker, "a", queue=queue)
        await trio.sleep(QUIET_S)
        assert not pull.starves()  # nothing was asked for
        pull.ask()
        (a,) = await take(pull.deliveries)
        await trio.sleep(QUIET_S)
        assert not pull.starves()
        pull.ask()
        await come_to(starves=True)
        await put(broker, "b", "c", queue=queue)
        (b,) = await take(pull.deliveries)
        await come_to(starves=False)
        pull.ask()
        (c,) = await take(pull.deliveries)
        for each in (a, b, c):
            await each.ack()


async def test_leaving_a_pull_withdraws_its_requests(seam: BrokerSeam) -> None:
    async with seam.open() as broker:
        async with broker.pull(Q, 3) as pull:
            for _ in range(3):
                pull.ask()
            await put(broker, *"ab")
            (a,) = await take(pull.deliveries)
            await trio.sleep(QUIET_S)  # the next one is on its way to us
        assert await drain(broker, 1) == ["b"]
        await put(broker, "c")
        assert await drain(broker, 1) == ["c"]
        await a.ack()
        await assert_empty(broker)


async def test_leaving_the_consumer_returns_what_was_not_taken(seam: BrokerSeam) -> None:
    async with seam.open() as broker:
        await put(broker, *"abc")
        async with broker.consume(Q, 3) as deliveries:
            (a,) = await take(deliveries)
            await trio.sleep(QUIET_S)  # the next one is on its way to us
        await a.ack()
        assert await drain(broker, 2) == ["b", "c"]


async def test_leaving_by_an_error_returns_what_was_not_taken(seam: BrokerSeam) -> None:
    class Oops(Exception):
        pass

    async with seam.open() as broker:
        await put(broker, *"ab")
        with pytest.RaisesGroup(Oops, allow_unwrapped=True, flatten_subgroups=True):
            async with broker.consume(Q, 1):
                await trio.sleep(QUIET_S)
                raise Oops
        assert await drain(broker, 2) == ["a", "b"]


@pytest.mark.parametrize("end", ["ack", "hand_back", "reject"])
async def test_what_was_taken_can_be_ended_after_leaving_the_consumer(
    seam: BrokerSeam, end: str
) -> None:
    async with seam.open() as broker:
        await put(broker, "a")
        async with broker.consume(Q, 1) as deliveries:
            (a,) = await take(deliveries)
        await (a.reject("no") if end == "reject" else getattr(a, end)())
        if end == "ack":
            await assert_empty(broker)
            await assert_empty(broker, Q + DEAD)
        else:
            assert await drain(broker, 1, Q if end == "hand_back" else Q + DEAD) == ["a"]


async def test_what_is_worked_on_stays_ours_when_its_consumer_has_left(seam: BrokerSeam) -> None:
    async with seam.open() as broker:
        for number in range(5):  # of which some met a message that came while a channel was closed
            async with broker.consume(Q, 3) as deliveries:
                await put(broker, f"a{number}", f"b{number}")
                (ours,) = await take(deliveries)
                await trio.sleep(QUIET_S)  # the next one is on its way to us
            others = await drain(broker, 1)
            await put(broker, f"c{number}")
            others += await drain(broker, 1)
            assert sorted([ours.body.decode(), *others]) == [f"{name}{number}" for name in "abc"]
            await ours.ack()
            await assert_empty(broker)


async def test_a_waiting_consumer_gets_what_is_published_later(seam: BrokerSeam) -> None:
    async with seam.open() as broker, broker.consume(Q, 1) as deliveries:
        await assert_quiet(deliveries)
        await put(broker, "late")
        (late,) = await take(deliveries)
        assert late.body == b"late"
        await late.ack()


async def test_two_consumers_share_and_never_both_get_one(seam: BrokerSeam) -> None:
    async with seam.open() as broker:
        await put(broker, *map(str, range(20)))
        async with broker.consume(Q, 10) as left, broker.consume(Q, 10) as right:
            found = await take(left, 10) + await take(right, 10)
            await assert_quiet(left)
            await assert_quiet(right)
        assert sorted(int(each.body) for each in found) == list(range(20))


async def test_queues_do_not_mix(seam: BrokerSeam) -> None:
    async with seam.open() as broker:
        await put(broker, "a", queue="one")
        await put(broker, "b", queue="two")
        assert await drain(broker, 1, "two") == ["b"]
        assert await drain(broker, 1, "one") == ["a"]


async def test_order_within_an_owner_is_the_order_of_publishing(seam: BrokerSeam) -> None:
    async with seam.open() as broker:
        names = [f"{number:02}" for number in range(40)]
        await put(broker, *names, owner="A")
        assert await drain(broker, 20) == names[:20]
        seam.crash()
    async with seam.open() as broker:
        assert await drain(broker, 20) == names[20:]


async def test_an_owner_with_one_message_is_served_second(seam: BrokerSeam) -> None:
    async with seam.open() as broker:
        await put(broker, *(f"a{number}" for number in range(100)), owner="A")
        await put(broker, "b", owner="B")
        served = await drain(broker, 3)
        assert sorted(served) == ["a0", "a1", "b"]
        assert served[2] == "a1"
        if seam.exact:
            assert served == ["a0", "b", "a1"]


async def test_owners_take_turns_also_after_a_crash(seam: BrokerSeam) -> None:
    async with seam.open() as broker:
        for owner in "ABF":  # who have lanes of their own, as has nobody
            await put(broker, f"{owner}1", f"{owner}2", owner=owner)
        await put(broker, "-1", "-2", owner=None)
        seam.crash()
    async with seam.open() as broker:
        served = await drain(broker, 8)
        assert sorted(served[:4]) == ["-1", "A1", "B1", "F1"]
        assert sorted(served[4:]) == ["-2", "A2", "B2", "F2"]


async def test_a_full_queue_refuses_and_has_room_again_when_it_is_served(seam: BrokerSeam) -> None:
    async with seam.open(length_max=10) as broker:
        with pytest.raises(QueueFull) as refused:
            await put(broker, *map(str, range(20)))
        accepted = (await broker.depths())[Q]
        assert refused.value.retry_after_s > 0
        assert accepted == 10 if seam.exact else 10 <= accepted <= 12
        await put(broker, "elsewhere", queue="another")
        await drain(broker, 5)
        await put(broker, "again")
        bodies = [*map(str, range(5, accepted)), "again"]
        assert await drain(broker, len(bodies)) == bodies


async def test_the_bound_counts_what_is_out(seam: BrokerSeam) -> None:
    if not seam.exact:
        return  # RabbitMQ counts what waits
    async with seam.open(length_max=3) as broker:
        await put(broker, "a", "b", "c")
        async with broker.consume(Q, 1) as deliveries:
            (a,) = await take(deliveries)
            with pytest.raises(QueueFull):
                await put(broker, "d")  # what is out still counts
            await a.ack()
        await put(broker, "d")
        with pytest.raises(QueueFull):
            await put(broker, "e")
        assert await drain(broker, 3) == ["b", "c", "d"]


async def test_the_bound_counts_what_a_crash_left(seam: BrokerSeam) -> None:
    async with seam.open(length_max=2) as broker:
        with pytest.raises(QueueFull):
            await put(broker, *"abcd")
        seam.crash()
    async with seam.open(length_max=2) as broker:
        with pytest.raises(QueueFull):
            await put(broker, "e")
        await drain(broker, 2)
        await put(broker, "e")


async def test_concurrent_publishers_do_not_pass_the_bound(seam: BrokerSeam) -> None:
    """Over RabbitMQ by what was on its way when it was reached."""
    accepted: list[str] = []

    async def publish(broker: Broker, body: str) -> None:
        try:
            await put(broker, body)
            accepted.append(body)
        except QueueFull:
            pass

    async with seam.open(length_max=10) as broker:
        async with trio.open_nursery() as nursery:
            for number in range(30):
                nursery.start_soon(publish, broker, str(number))
        with pytest.raises(QueueFull):
            await put(broker, "late")
        assert len(accepted) == 10 or not seam.exact
        assert sorted(await drain(broker, len(accepted))) == sorted(accepted)


async def test_a_rejected_message_is_a_dead_letter_with_its_reason(seam: BrokerSeam) -> None:
    async with seam.open(length_max=1) as broker:
        await broker.publish(Q, b"bad", key="the-id", owner="A")
        async with broker.consume(Q, 1) as deliveries:
            (bad,) = await take(deliveries)
            await bad.reject("cannot be read")
        await put(broker, "room again")
        seam.crash()
    async with seam.open() as broker:
        async with broker.consume(Q + DEAD, 1) as deliveries:
            (dead,) = await take(deliveries)
            assert (dead.body, dead.key, dead.reason) == (b"bad", "the-id", "cannot be read")
            await dead.ack()
        await assert_empty(broker, Q + DEAD)
        assert await drain(broker, 1) == ["room again"]


async def test_handing_back_is_no_delivery(seam: BrokerSeam) -> None:
    async with seam.open() as broker:
        await put(broker, "a")
        async with broker.consume(Q, 1) as deliveries:
            for _ in range(DELIVERY_LIMIT + 10):
                (a,) = await take(deliveries)
                assert a.reason is None
                await a.hand_back()


async def test_what_was_only_prefetched_is_no_delivery(seam: BrokerSeam) -> None:
    async with seam.open() as broker:
        await put(broker, "a", "b")
        for _ in range(DELIVERY_LIMIT + 10):
            async with broker.consume(Q, 2) as deliveries:
                (a,) = await take(deliveries)
            await a.hand_back()
        assert sorted(await drain(broker, 2)) == ["a", "b"]


async def test_a_message_that_kills_us_is_dead_lettered_at_the_limit(seam: BrokerSeam) -> None:
    async with seam.open() as broker:
        await put(broker, "killer")
        seam.crash()
    for _ in range(DELIVERY_LIMIT):
        async with seam.open() as broker, broker.consume(Q, 1) as deliveries:
            (killer,) = await take(deliveries)
            assert killer.reason is None
            seam.crash()
    async with seam.open() as broker, broker.consume(Q + DEAD, 1) as dead_letters:
        await assert_empty(broker)
        (dead,) = await take(dead_letters)
        assert (dead.body, dead.key) == (b"killer", "key-killer")
        assert dead.reason is not None
        assert str(DELIVERY_LIMIT) in dead.reason
        await dead.ack()


async def test_a_message_that_is_given_up_uses_up_no_request(seam: BrokerSeam) -> None:
    async with seam.open() as broker:
        await put(broker, "killer")
        seam.crash()
    for _ in range(DELIVERY_LIMIT):
        async with seam.open() as broker, broker.pull(Q, 1) as pull:
            pull.ask()
            await take(pull.deliveries)
            seam.crash()
    async with seam.open() as broker, broker.pull(Q, 1) as pull:
        pull.ask()
        await assert_quiet(pull.deliveries)
        await put(broker, "good")
        (good,) = await take(pull.deliveries)
        assert good.body == b"good"
        await good.ack()


async def bury(broker: Broker, *bodies: str) -> None:
    """Publish and reject them."""
    for body in bodies:
        await put(broker, body)
        async with broker.consume(Q, 1) as deliveries:
            (delivery,) = await take(deliveries)
            await delivery.reject(f"{body} is bad")


async def keep(broker: Broker, count: int) -> None:
    async with broker.consume(Q + DEAD, 1) as deliveries:
        for _ in range(count):
            (dead,) = await take(deliveries)
            await dead.keep()


async def kept(broker: Broker, count: int) -> Sequence[Kept]:
    """What is kept, once it is so many: the last one may be on its way still. RabbitMQ hands it out, and gets
    it back a moment after the answer: who looks without a pause may never see all."""
    pause_s = 0.01
    with trio.fail_after(SOON_S):
        while len(found := await broker.kept(Q)) != count:
            await trio.sleep(pause_s)
            pause_s *= 2
    return found


async def test_a_kept_dead_letter_can_be_looked_at_again_and_again(seam: BrokerSeam) -> None:
    async with seam.open() as broker:
        assert await broker.kept(Q) == []
        before = time.time()
        await bury(broker, "a", "b")
        await keep(broker, 2)
        await assert_empty(broker, Q + DEAD)
        seam.crash()
    async with seam.open() as broker:
        for _ in range(3):
            a, b = await kept(broker, 2)
            assert (a.key, a.reason, a.size) == ("key-a", "a is bad", 1)
            assert (b.key, b.reason, b.size) == ("key-b", "b is bad", 1)
            assert await broker.one_kept(Q, "nobody") is None
            with trio.fail_after(SOON_S):  # what was looked at is on its way back
                while not (found := await broker.one_kept(Q, "key-b")):  # noqa: ASYNC110
                    await trio.sleep(0.01)
            assert found == (b, b"b")
            assert before - 1 <= a.time <= b.time <= time.time() + 1


async def test_who_look_at_kept_dead_letters_at_once_see_all_of_them(seam: BrokerSeam) -> None:
    async with seam.open() as broker:
        letters = [f"{number}" for number in range(20)]
        await bury(broker, *letters)
        await keep(broker, 20)
        await kept(broker, 20)
        seen: list[int] = []

        async def look() -> None:
            seen.append(len(await broker.kept(Q)))

        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(look)
            one = await broker.one_kept(Q, "key-19")
            assert one
            assert one[1] == b"19"
        assert seen == [20] * 4


async def test_taking_a_kept_dead_letter_leaves_the_others(seam: BrokerSeam) -> None:
    async with seam.open() as broker:
        await bury(broker, "a", "b", "c")
        await keep(broker, 3)
        await kept(broker, 3)
        await broker.take_kept(Q, "key-b")
        await broker.take_kept(Q, "nobody")
        assert [each.key for each in await kept(broker, 2)] == ["key-a", "key-c"]
        seam.crash()
    async with seam.open() as broker:
        assert [each.key for each in await kept(broker, 2)] == ["key-a", "key-c"]


async def test_only_the_last_ones_are_kept(
    seam: BrokerSeam, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("occd.broker.embedded.KEPT_MAX", 3)
    monkeypatch.setattr("occd.broker.topology.KEPT_MAX", 3)
    async with seam.open() as broker:
        await bury(broker, *"abcde")
        await keep(broker, 5)
        found = await kept(broker, 3)
        assert [each.key for each in found] == ["key-c", "key-d", "key-e"]


async def test_depths_tell_what_waits_in_which_queue(seam: BrokerSeam) -> None:
    async def wait_for(**expected: int) -> None:
        names = {"waiting": Q, "dead": Q + DEAD, "kept": Q + KEPT}
        with trio.fail_after(SOON_S):
            while True:
                depths = await broker.depths()
                if all(depths.get(names[each], 0) == expected[each] for each in expected):
                    break
                await trio.sleep(0.01)

    async with seam.open() as broker:
        await wait_for(waiting=0, dead=0, kept=0)
        await bury(broker, "a", "b")
        await keep(broker, 1)
        for owner in "ABF":
            await put(broker, f"{owner}1", f"{owner}2", owner=owner)
        await wait_for(waiting=6, dead=1, kept=1)
        async with broker.consume(Q, 2) as deliveries:
            one, two = await take(deliveries, 2)
            await wait_for(waiting=4)
            await one.ack()
            await two.hand_back()
        await wait_for(waiting=5)


async def test_a_broker_that_works_passes_its_check(seam: BrokerSeam) -> None:
    async with seam.open(length_max=1) as broker:
        await broker.check()
        with pytest.raises(QueueFull):
            await put(broker, *"abc")
        await broker.check()  # full is no fault


class Model:
    """What must come still: per owner in order, and each exactly once."""

    def __init__(self, seam: BrokerSeam) -> None:
        self.seam = seam
        self.published = 0
        self.waiting: dict[str, list[str]] = {owner: [] for owner in "AB"}
        self.dead: list[str] = []

    async def life(self, steps: str) -> None:
        """One life of the broker, from an open to a crash."""
        async with self.seam.open() as broker:
            for step in steps:
                await self._step(broker, step)
            self.seam.crash()

    async def _step(self, broker: Broker, step: str) -> None:
        if step in self.waiting:
            self.published += 1
            self.waiting[step].append(f"{step}{self.published}")
            await put(broker, self.waiting[step][-1], owner=step)
        elif any(self.waiting.values()):
            async with broker.consume(Q, 1) as deliveries:
                (delivery,) = await take(deliveries)
                body = delivery.body.decode()
                assert body == self.waiting[body[0]][0]
                if step == "k":
                    self.waiting[body[0]].pop(0)
                    await delivery.ack()
                elif step == "h":
                    await delivery.hand_back()
                elif step == "r":
                    self.dead.append(self.waiting[body[0]].pop(0))
                    await delivery.reject("rejected")
            if step == "t":  # taken, and the consumer left before it was done
                await delivery.hand_back()


LIVES = st.lists(st.text("ABkhrt", max_size=12), max_size=4)
ANY_TIME = settings(suppress_health_check=list(HealthCheck))


@settings(ANY_TIME, max_examples=25)
@given(lives=LIVES)
async def test_embedded_loses_doubles_and_reorders_nothing_over_many_crashes(
    lives: list[str],
) -> None:
    await live("embedded", lives)


@settings(ANY_TIME, max_examples=8)
@given(lives=LIVES)
async def test_rabbitmq_loses_doubles_and_reorders_nothing_over_many_crashes(
    lives: list[str],
) -> None:
    await live("rabbitmq", lives)


async def live(name: str, lives: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as monkeypatch:
        model = Model(BROKER_SEAMS[name](Path(folder), monkeypatch))
        for steps in ("AB", *lives):
            await model.life(steps)
        async with model.seam.open() as broker:
            left = sum(map(len, model.waiting.values()))
            served = await drain(broker, left)
            for owner, bodies in model.waiting.items():
                assert [each for each in served if each[0] == owner] == bodies
            assert sorted(await drain(broker, len(model.dead), Q + DEAD)) == sorted(model.dead)


async def test_a_full_disk_delays_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the embedded broker: deliveries wait for room, and none fails."""
    monkeypatch.setattr("occd.broker.embedded._RETRY_S", 0.01)
    config = Config(data_dir=tmp_path)
    async with open_database(tmp_path) as database, open_broker(config, database) as broker:
        await put(broker, "a", "b", "c")
        async with broker.consume(Q, 1) as deliveries:
            (a,) = await take(deliveries)
            with full(monkeypatch):
                await a.hand_back()
                await assert_quiet(deliveries)
            (a,) = await take(deliveries)
            assert a.body == b"a"
            async with trio.open_nursery() as nursery:
                with full(monkeypatch):
                    nursery.start_soon(a.ack)
                    await assert_quiet(deliveries)
                    with pytest.raises(DataFolderError):
                        await put(broker, "d")
        with full(monkeypatch):
            await assert_empty(broker)  # leaves while a delivery waits for room
        assert await drain(broker, 2) == ["b", "c"]


async def test_what_is_withdrawn_gives_its_place_to_another(seam: BrokerSeam) -> None:
    async with seam.open(length_max=3) as broker:
        await put(broker, "a", "b", "c")
        await broker.withdraw(Q, "key-b")
        await broker.withdraw(Q, "key-b")
        await broker.withdraw(Q, "key-unknown")
        if not seam.exact:  # RabbitMQ gives nothing out of turn
            assert await drain(broker, 3) == ["a", "b", "c"]
            return
        await put(broker, "d")
        with pytest.raises(QueueFull):
            await put(broker, "e")
        assert (await broker.depths())[Q] == 3
        seam.crash()
        assert await drain(broker, 3) == ["a", "c", "d"]
        await assert_empty(broker)
    async with seam.open(length_max=3) as broker:
        assert await drain(broker, 3) == ["a", "c", "d"]
        await assert_empty(broker)


@contextmanager
def full(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    async def refuse(self: Database, work: object, **_options: object) -> None:
        await trio.lowlevel.checkpoint()
        raise DataFolderError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(Database, "write", refuse)
        yield
