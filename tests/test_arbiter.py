"""What the arbiter of a node gives out, and to whom."""

import random
from collections import Counter

import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from occd.execution.arbiter import ASIDE_BYTES, ASIDE_MAX, Arbiter, Turn


def roomy() -> bool:
    return True


async def free_slots(arbiter: Arbiter) -> int:
    """How many slots can be had now; they are given back."""
    turns: list[Turn] = []

    async def take() -> None:
        while True:
            turns.append(await arbiter.slot())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(take)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    for turn in turns:
        turn.end()
    return len(turns)


async def seated(arbiter: Arbiter, *owners: str) -> list[Turn]:
    """A turn for each owner that has asked for a seat."""
    turns = []
    for owner in owners:
        turns.append(await arbiter.slot())
        turns[-1].owner = owner
        turns[-1].sit()
    return turns


async def test_there_are_so_many_slots_and_no_more() -> None:
    arbiter = Arbiter(2, 8, roomy)
    first, _ = await arbiter.slot(), await arbiter.slot()
    assert await free_slots(arbiter) == 0
    first.end()
    first.end()  # which gives nothing back a second time
    assert await free_slots(arbiter) == 1


async def test_slots_are_given_in_the_order_of_asking() -> None:
    arbiter, served = Arbiter(1, 0, roomy), []

    async def work(name: int) -> None:
        with await arbiter.slot():
            served.append(name)
            await trio.lowlevel.checkpoint()

    held = await arbiter.slot()
    async with trio.open_nursery() as nursery:
        for name in range(5):
            nursery.start_soon(work, name)
            await wait_all_tasks_blocked()
        held.end()
    assert served == list(range(5))


async def test_who_sits_leaves_the_slot() -> None:
    arbiter = Arbiter(1, 8, roomy)
    (turn,) = await seated(arbiter, "A")
    assert (arbiter.in_slots, arbiter.seated) == (0, 1)
    assert await free_slots(arbiter) == 1
    turn.end()
    assert (arbiter.in_slots, arbiter.seated) == (0, 0)
    assert await free_slots(arbiter) == 1


async def test_without_a_free_seat_the_slot_is_kept_until_there_is_one() -> None:
    arbiter = Arbiter(2, 1, roomy)
    first, second = await seated(arbiter, "A", "B")
    assert (arbiter.in_slots, arbiter.seated) == (1, 1)
    first.end()
    assert (arbiter.in_slots, arbiter.seated) == (0, 1)
    second.end()
    assert await free_slots(arbiter) == 2


async def test_no_seats_at_all_is_a_choice() -> None:
    arbiter = Arbiter(1, 0, roomy)
    (turn,) = await seated(arbiter, "A")
    assert (arbiter.in_slots, arbiter.seated) == (1, 0)
    turn.end()
    assert await free_slots(arbiter) == 1


async def test_an_owner_gets_a_quarter_of_the_seats() -> None:
    arbiter = Arbiter(10, 8, roomy)
    mine = await seated(arbiter, "A", "A", "A", "A")
    assert (arbiter.in_slots, arbiter.seated) == (2, 2)
    await seated(arbiter, "B", "C", "B", "C", "D")
    assert (arbiter.in_slots, arbiter.seated) == (2, 7)
    mine[0].end()  # the owner's own seat is the one that the owner gets
    assert (arbiter.in_slots, arbiter.seated) == (1, 7)


async def test_an_owner_at_the_share_does_not_stand_in_the_way_of_others() -> None:
    arbiter = Arbiter(5, 4, roomy)
    await seated(arbiter, "A", "A", "B")
    assert (arbiter.in_slots, arbiter.seated) == (1, 2)


async def test_where_there_are_few_seats_each_owner_may_have_one() -> None:
    arbiter = Arbiter(5, 2, roomy)
    await seated(arbiter, "A", "A", "B")
    assert (arbiter.in_slots, arbiter.seated) == (1, 2)


async def test_those_of_nobody_share_what_one_owner_gets() -> None:
    arbiter = Arbiter(5, 4, roomy)
    await seated(arbiter, "", "", "A")
    assert (arbiter.in_slots, arbiter.seated) == (1, 2)


async def test_a_seat_needs_memory_and_comes_when_there_is_some(autojump_clock: MockClock) -> None:
    has_memory = False
    arbiter = Arbiter(2, 8, lambda: has_memory)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(arbiter.run)
        await seated(arbiter, "A", "B")
        await trio.sleep(10)
        assert (arbiter.in_slots, arbiter.seated) == (2, 0)
        has_memory = True
        await trio.sleep(2)
        assert (arbiter.in_slots, arbiter.seated) == (0, 2)
        nursery.cancel_scope.cancel()


async def test_what_has_ended_gets_no_seat() -> None:
    arbiter = Arbiter(2, 1, roomy)
    first, second = await seated(arbiter, "A", "B")
    second.end()
    second.sit()
    first.end()
    assert (arbiter.in_slots, arbiter.seated) == (0, 0)
    assert await free_slots(arbiter) == 2


async def test_slots_that_wait_for_a_submission_are_lent_but_one_while_the_queue_has_none() -> None:
    starves = False
    arbiter = Arbiter(4, 0, roomy, lambda: starves)
    mine, *_ = [await arbiter.slot() for _ in range(4)]
    await mine.begin()
    with mine.loans() as loans:
        assert not loans.take()
        starves = True
        assert [loans.take() for _ in range(3)] == [True, True, False]
        loans.give_back()
        starves = False
        assert not loans.take()
        loans.give_back()


async def test_who_comes_first_begins_at_once_and_who_comes_next_when_a_test_has_ended() -> None:
    arbiter = Arbiter(4, 0, roomy, lambda: True)
    mine, *others = [await arbiter.slot() for _ in range(4)]
    began: list[Turn] = []

    async def begin(turn: Turn) -> None:
        await turn.begin()
        began.append(turn)

    await mine.begin()
    with mine.loans() as loans:
        assert [loans.take() for _ in range(3)] == [True, True, False]
        async with trio.open_nursery() as nursery:
            for number, turn in enumerate(others):
                nursery.start_soon(begin, turn)
                await wait_all_tasks_blocked()
                assert began == others[: min(1, number + 1)]
            loans.give_back()
            assert not loans.take()
            await wait_all_tasks_blocked()
            assert began == others[:2]
            began[0].end()
            (next_turn,) = [
                await arbiter.slot()
            ]  # its submission waits behind the one that came before
            await wait_all_tasks_blocked()
            assert began == others
        loans.give_back()
        await begin(next_turn)
        assert arbiter.in_slots == 4


async def test_what_is_given_up_while_it_waits_for_its_slot_leaks_none() -> None:
    arbiter = Arbiter(3, 0, roomy, lambda: True)
    mine, first, second = [await arbiter.slot() for _ in range(3)]
    await mine.begin()
    with mine.loans() as loans:
        assert loans.take()
        await first.begin()
        with second, trio.move_on_after(0) as scope:
            await second.begin()
        assert scope.cancelled_caught
        loans.give_back()
    mine.end()
    first.end()
    assert await free_slots(arbiter) == 3


async def test_those_who_borrow_get_as_much_as_each_other() -> None:
    arbiter = Arbiter(7, 0, roomy, lambda: True)
    first, second, *_ = [await arbiter.slot() for _ in range(7)]
    await first.begin()
    with first.loans() as mine:
        assert [mine.take() for _ in range(6)] == [True] * 5 + [False]
        await second.begin()
        with second.loans() as theirs:
            mine.give_back()
            for _ in range(2):
                mine.give_back()
                assert not mine.take()
                assert theirs.take()
            assert (mine.held, theirs.held) == (2, 2)
            theirs.give_back()
            mine.give_back()
            assert mine.take()  # who asks first
            assert not mine.take()
            theirs.wants = False
            assert [mine.take() for _ in range(2)] == [True, False]
            theirs.give_back()


async def begun(arbiter: Arbiter, owner: str = "") -> Turn:
    turn = await arbiter.slot()
    turn.owner = owner
    await turn.begin()
    return turn


async def test_who_steps_aside_has_no_slot_and_comes_back_in_the_order_of_coming() -> None:
    arbiter = Arbiter(1, 0, roomy)
    waiting, order = [], []
    for _ in range(9):
        waiting.append(await begun(arbiter))
        waiting[-1].step_aside()
    assert arbiter.busy == 0
    asked = await arbiter.slot()  # the intake has the slot

    async def go_on(turn: Turn) -> None:
        await turn.go_on(trio.Event())
        order.append(turn)
        await wait_all_tasks_blocked()
        assert arbiter.busy == 1
        turn.end()

    for turn in waiting:
        turn.come_back()
    async with trio.open_nursery() as nursery:
        for turn in reversed(waiting):
            nursery.start_soon(go_on, turn)
    assert order == waiting
    asked.end()
    assert await free_slots(arbiter) == 1


async def test_those_who_come_back_take_turns_with_others_by_their_owners() -> None:
    arbiter = Arbiter(1, 0, roomy)
    never, order = trio.Event(), []
    many = [await begun(arbiter, "many")]
    for _ in range(4):
        many[-1].step_aside()
        many.append(await begun(arbiter, "many"))
    for turn in many[:-1]:
        turn.come_back()

    async def work(turn: Turn) -> None:
        await turn.go_on(never)
        order.append(turn.owner)
        turn.end()

    async with trio.open_nursery() as nursery:
        for turn in many[:-1]:
            nursery.start_soon(work, turn)
        await wait_all_tasks_blocked()
        many[-1].end()  # the slot goes to the first, and the intake has it as well
        few = await arbiter.slot()
        few.owner = "few"
        await few.begin()
        order.append(few.owner)
        few.end()
    assert order.index("few") <= 2
    assert await free_slots(arbiter) == 1


async def test_who_comes_back_needs_no_intake() -> None:
    """While a node drains, nobody asks for slots."""
    arbiter = Arbiter(1, 0, roomy)
    first = await begun(arbiter)
    first.step_aside()
    second = await begun(arbiter)
    first.come_back()
    with trio.move_on_after(0) as scope:
        await first.go_on(trio.Event())
    assert scope.cancelled_caught
    second.end()
    await first.go_on(trio.Event())
    assert (arbiter.busy, first.in_slot, arbiter.full) == (1, True, True)
    first.end()
    assert (arbiter.busy, first.in_slot) == (0, False)
    assert await free_slots(arbiter) == 1


async def test_who_has_come_back_can_get_a_seat() -> None:
    arbiter = Arbiter(1, 1, roomy)
    turn = await begun(arbiter)
    turn.step_aside()
    turn.sit()  # it has no slot to give for it
    assert arbiter.seated == 0
    await turn.go_on(trio.Event())
    turn.sit()
    assert (arbiter.seated, arbiter.busy, turn.in_slot) == (1, 0, False)
    turn.end()
    assert arbiter.seated == 0
    assert await free_slots(arbiter) == 1


async def test_no_more_than_a_bound_step_aside() -> None:
    arbiter = Arbiter(2, 0, roomy)
    aside = []
    for _ in range(ASIDE_MAX):
        aside.append(await begun(arbiter))
        aside[-1].step_aside()
    further, large = await begun(arbiter), await begun(arbiter)
    further.step_aside()
    aside.pop().end()
    large.bytes = ASIDE_BYTES + 1
    large.step_aside()
    assert await free_slots(arbiter) == 0
    further.step_aside()
    assert await free_slots(arbiter) == 1
    for turn in (*aside, further, large):
        turn.end()
    assert await free_slots(arbiter) == 2


@given(st.integers(1, 5), st.randoms(use_true_random=False))
def test_no_more_run_than_there_are_slots_and_nobody_waits_for_ever(
    slots: int, chance: random.Random
) -> None:
    async def play() -> None:
        arbiter = Arbiter(slots, 0, roomy, lambda: True)
        running: set[Turn] = set()

        async def work() -> None:
            with await arbiter.slot() as turn:
                turn.owner = chance.choice("ABC")
                await turn.begin()
                running.add(turn)
                for _ in range(chance.randrange(3)):
                    running.remove(turn)
                    turn.step_aside()
                    await trio.sleep(chance.random())
                    await turn.go_on(trio.Event())
                    running.add(turn)
                    assert len(running) <= slots
                    with turn.loans() as loans:
                        if loans.take():
                            loans.give_back()
                    await trio.sleep(chance.random())
                running.remove(turn)

        async with trio.open_nursery() as nursery:
            for _ in range(30):
                nursery.start_soon(work)
        assert arbiter.busy == 0
        assert await free_slots(arbiter) == slots

    trio.run(play, clock=MockClock(autojump_threshold=0))


@given(st.integers(1, 5), st.integers(0, 9), st.randoms(use_true_random=False))
def test_nothing_leaks_and_every_bound_holds(slots: int, seats: int, chance: random.Random) -> None:
    async def play() -> None:
        arbiter = Arbiter(slots, seats, lambda: chance.random() < 0.8)
        asked: dict[Turn, str] = {}
        for _ in range(60):
            match chance.choice(["slot", "slot", "sit", "sit", "end"]):
                case "slot" if arbiter.in_slots < slots:
                    asked[await arbiter.slot()] = ""
                case "sit" if asked:
                    turn = chance.choice(list(asked))
                    if not asked[turn]:
                        asked[turn] = chance.choice("ABC")
                        turn.owner = asked[turn]
                        turn.sit()
                case "end" if asked:
                    turn = chance.choice(list(asked))
                    turn.end()
                    del asked[turn]
            assert arbiter.in_slots <= slots
            assert arbiter.seated <= seats
            assert arbiter.in_slots + arbiter.seated == len(asked)
            shares = Counter(turn.owner for turn in arbiter._seated).values()
            assert all(share <= max(1, seats // 4) for share in shares)
        for turn in asked:
            turn.end()
        assert (arbiter.in_slots, arbiter.seated) == (0, 0)
        assert await free_slots(arbiter) == slots

    trio.run(play)
