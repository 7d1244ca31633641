"""What every state promises (`occd/state/__init__.py`), over every implementation."""

import json
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial
from hashlib import sha256
from pathlib import Path

import pytest
import trio
from seams import QUIET_S, SOON_S, STATE_SEAMS, StateSeam

from occd import wire
from occd.errors import (
    AlreadyFinished,
    Conflict,
    EventsReset,
    Exhausted,
    InboxFull,
    NodeGone,
    NoTerminal,
    NotInteractive,
    NotRunning,
    Poisoned,
    Rejected,
    Stale,
    StdinFull,
    UnknownSubmission,
    Unreadable,
)
from occd.events import Event, Finished, LogEntry, Output, Queued, Stage, Started, Unknown
from occd.model import (
    ACCOUNTS,
    COMPILE,
    HEAD_BYTES,
    MAX_ATTEMPTS,
    RUN,
    File,
    Outcome,
    Result,
    Submission,
    Terminal,
    Verdict,
    Written,
    new_id,
)
from occd.state import (
    CONTROL_BYTES,
    RESIZES_MAX,
    SIGNALS_MAX,
    STDIN_UNREAD_MAX,
    WAIT_BOUNDS_S,
    WATCH_BYTES,
    WRITERS_MAX,
    Load,
    Node,
    State,
    Taken,
)
from occd.state.control import Cancel, Control, End, Resize, Signal, Stdin
from occd.state.inbox import LETTER_MAX, LETTERS_BYTES_MAX, LETTERS_MAX, Letter

OUTCOME = Outcome(0, None, None, Written(4, utf8=False), Written(), 0.1, 0.2, 300)


@pytest.fixture(params=STATE_SEAMS)
def seam(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> StateSeam:
    return STATE_SEAMS[request.param](tmp_path, monkeypatch)


def make(
    *,
    interactive: bool = False,
    created_at: float | None = None,
    retry_of: str | None = None,
    tty: Terminal | None = None,
) -> Submission:
    return Submission(
        id=new_id(),
        language="python",
        version=None,
        main="main.py",
        files=(File("main.py", b"print(1)\xff"),),
        interactive=interactive or tty is not None,
        created_at=time.time() if created_at is None else created_at,
        retry_of=retry_of,
        tty=tty,
    )


def result(verdict: Verdict = Verdict.OK, *, attempt: int = 1, at: float | None = None) -> Result:
    finished_at = time.time() if at is None else at
    return Result(verdict, run=OUTCOME, attempts=attempt, finished_at=finished_at)


def output(data: bytes) -> Output:
    return Output("run", "stdout", data)


async def created(
    state: State, *, interactive: bool = False, tty: Terminal | None = None
) -> Submission:
    submission = make(interactive=interactive, tty=tty)
    await state.submissions.create(submission, None, "")
    return submission


async def begun(
    state: State, *, interactive: bool = False, tty: Terminal | None = None
) -> Submission:
    submission = await created(state, interactive=interactive, tty=tty)
    assert await state.submissions.begin(submission, "3.11", "node") == 1
    return submission


async def finished(state: State) -> Submission:
    submission = await begun(state)
    assert await state.submissions.finish(submission.id, 1, result())
    return submission


async def log(state: State, id: str, after: int = 0) -> list[LogEntry]:
    """All events beyond `after` of a submission that has finished, as a client would follow them."""
    found: list[LogEntry] = []
    with trio.fail_after(SOON_S):
        while events := await state.log.watch(id, after):
            found += events
            after = events[-1].seq
    return found


async def recorded(state: State, id: str) -> list[Event]:
    """What has been appended so far; there is something."""
    with trio.fail_after(SOON_S):
        return [each.event for each in await state.log.watch(id, 0)]


class Waiting:
    """A call that waits, watched from outside."""

    def __init__(self) -> None:
        self.done = trio.Event()

    async def run(self, call: Callable[[], Awaitable[object]]) -> None:
        await call()
        self.done.set()

    async def assert_still(self) -> None:
        with trio.move_on_after(QUIET_S):
            await self.done.wait()
            pytest.fail("it should wait")

    async def assert_ends(self) -> None:
        with trio.fail_after(SOON_S):
            await self.done.wait()


async def assert_waits_for(call: Callable[[], Awaitable[object]], cause: Awaitable[object]) -> None:
    """`call` waits until `cause`, and then returns."""
    waiting = Waiting()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(waiting.run, call)
        await waiting.assert_still()
        await cause
        await waiting.assert_ends()


# create, published, discard


async def test_a_created_submission_is_queued_and_survives_a_crash(seam: StateSeam) -> None:
    submission = make(retry_of="another")
    async with seam.open() as state:
        made = await state.submissions.create(submission, "key", "digest")
        assert (made.id, made.published) == (submission.id, False)
        seam.crash()
    async with seam.open() as state:
        record = await state.submissions.get(submission.id)
        assert (record.id, record.language) == (submission.id, "python")
        assert (record.created_at, record.retry_of) == (submission.created_at, submission.retry_of)
        assert await state.submissions.submission(submission.id) == submission
        assert (record.status, record.attempts, record.started_at, record.result) == (
            "queued",
            0,
            None,
            None,
        )
        assert await recorded(state, submission.id) == [Queued(1, 0.0)]


async def test_create_gives_the_earlier_submission_for_the_same_key_and_digest(
    seam: StateSeam,
) -> None:
    first, again = make(), make()
    async with seam.open() as state:
        await state.submissions.create(first, "key", "digest")
        repeated = await state.submissions.create(again, "key", "digest")
        assert (repeated.id, repeated.published) == (first.id, False)
        await state.submissions.published(first.id)
        seam.crash()
    async with seam.open() as state:
        repeated = await state.submissions.create(again, "key", "digest")
        assert (repeated.id, repeated.published) == (first.id, True)
        with pytest.raises(UnknownSubmission):
            await state.submissions.get(again.id)


async def test_create_with_the_same_key_and_another_digest_conflicts(seam: StateSeam) -> None:
    async with seam.open() as state:
        await state.submissions.create(make(), "key", "digest")
        with pytest.raises(Conflict):
            await state.submissions.create(make(), "key", "other")


async def test_create_without_a_key_is_always_new(seam: StateSeam) -> None:
    async with seam.open() as state:
        first, second = await created(state), await created(state)
        assert {(await state.submissions.get(each.id)).status for each in (first, second)} == {
            "queued"
        }


async def test_concurrent_creates_with_one_key_make_one_submission(seam: StateSeam) -> None:
    ids = set()

    async def create(state: State) -> None:
        ids.add((await state.submissions.create(make(), "key", "digest")).id)

    async with seam.open() as state:
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(create, state)
        assert len(ids) == 1
        assert len(await state.submissions.unpublished(time.time() + 60)) == 1


async def test_the_oldest_is_the_submission_that_has_waited_longest(seam: StateSeam) -> None:
    async with seam.open() as state:
        assert await state.submissions.oldest() is None
        now = time.time()
        first, second = (make(created_at=now - age) for age in (20, 10))
        for each in (first, second):
            await state.submissions.create(each, None, "")
        assert await state.submissions.oldest() == pytest.approx(now - 20)
        await state.submissions.begin(first, "3.11", "node")
        assert await state.submissions.oldest() == pytest.approx(now - 10)
        await state.submissions.cancel(second.id)
        assert await state.submissions.oldest() is None


async def test_unpublished_names_old_ones_that_no_broker_confirmed(seam: StateSeam) -> None:
    old, confirmed, running = (make(created_at=time.time() - 100) for _ in range(3))
    new = make()
    async with seam.open() as state:
        for submission in (old, confirmed, running, new):
            await state.submissions.create(submission, None, "")
        await state.submissions.published(confirmed.id)
        await state.submissions.begin(running, "3", "node")
        seam.crash()
    async with seam.open() as state:
        assert await state.submissions.unpublished(time.time() - 30) == [old]


async def test_discard_forgets_what_the_broker_did_not_take(seam: StateSeam) -> None:
    submission = make()
    async with seam.open() as state:
        await state.submissions.create(submission, "key", "digest")
        await state.submissions.discard(submission.id)
        with pytest.raises(UnknownSubmission):
            await state.submissions.get(submission.id)
        again = make()
        assert (await state.submissions.create(again, "key", "other")).id == again.id


async def test_discard_keeps_what_was_published(seam: StateSeam) -> None:
    async with seam.open() as state:
        submission = await created(state)
        await state.submissions.published(submission.id)
        await state.submissions.discard(submission.id)
        await state.submissions.discard("unknown")
        assert (await state.submissions.get(submission.id)).status == "queued"
        with trio.move_on_after(QUIET_S):  # nor is its end announced, which has not come
            raise AssertionError(await state.submissions.settled(submission.id))


async def test_queued_tells_its_place_among_those_that_wait(seam: StateSeam) -> None:
    async def position(state: State, submission: Submission) -> int:
        (event,) = await recorded(state, submission.id)
        assert isinstance(event, Queued)
        return event.position

    async with seam.open() as state:
        waiting = [await created(state) for _ in range(6)]
        assert [await position(state, each) for each in waiting] == list(range(1, 7))
        await state.submissions.begin(waiting[0], "3", "node")
        await state.submissions.cancel(waiting[1].id)
        await state.submissions.discard(waiting[2].id)
        await state.submissions.finish(waiting[3].id, None, result(Verdict.INTERNAL_ERROR))
        assert await position(state, await created(state)) == 3
        await state.submissions.begin(waiting[0], "3", "node")  # running already: no longer counted
        seam.crash()
    async with seam.open() as state:
        assert await position(state, await created(state)) == 4


async def test_concurrent_creates_have_different_positions(seam: StateSeam) -> None:
    submissions = [make() for _ in range(10)]
    async with seam.open() as state:
        async with trio.open_nursery() as nursery:
            for each in submissions:
                nursery.start_soon(state.submissions.create, each, None, "")
            nursery.start_soon(state.submissions.create, make(), "key", "digest")
            nursery.start_soon(state.submissions.create, make(), "key", "digest")
        events = [(await recorded(state, each.id))[0] for each in submissions]
        positions = [event.position for event in events if isinstance(event, Queued)]
        assert len(set(positions)) == len(positions) == 10
        (last,) = await recorded(state, (await created(state)).id)
        assert isinstance(last, Queued)
        assert last.position == 12


# begin, append, finish


async def test_begin_counts_starts_and_appends_started(seam: StateSeam) -> None:
    async with seam.open() as state:
        submission = await created(state)
        assert await state.submissions.begin(submission, "3.11", "n1") == 1
        first = (await state.submissions.get(submission.id)).started_at
        assert first is not None
        assert await state.submissions.begin(submission, "3.12", "n2") == 2
        seam.crash()
    async with seam.open() as state:
        record = await state.submissions.get(submission.id)
        assert (record.status, record.attempts, record.started_at) == ("running", 2, first)
        assert await recorded(state, submission.id) == [
            Queued(1, 0.0),
            Started(1, "3.11", "n1"),
            Started(2, "3.12", "n2"),
        ]


async def test_begin_is_exhausted_after_three_starts(seam: StateSeam) -> None:
    async with seam.open() as state:
        submission = await created(state)
        for attempt in range(1, MAX_ATTEMPTS + 1):
            assert await state.submissions.begin(submission, "3", "node") == attempt
        with pytest.raises(Exhausted):
            await state.submissions.begin(submission, "3", "node")
        assert (await state.submissions.get(submission.id)).attempts == MAX_ATTEMPTS
        assert await state.submissions.finish(
            submission.id, MAX_ATTEMPTS, result(Verdict.INTERNAL_ERROR)
        )


async def test_an_excused_attempt_keeps_its_number_and_does_not_count(seam: StateSeam) -> None:
    async with seam.open() as state:
        submission = await created(state)
        for attempt in range(1, MAX_ATTEMPTS + 3):
            assert await state.submissions.begin(submission, "3", "node") == attempt
            if attempt <= 2:
                await state.submissions.excuse(submission.id, attempt)
        with pytest.raises(Exhausted) as exhausted:
            await state.submissions.begin(submission, "3", "node")
        assert exhausted.value.attempts == MAX_ATTEMPTS + 2
        with pytest.raises(Stale):
            await state.log.append(submission.id, 1, [output(b"x")])


async def test_begin_refuses_what_has_finished(seam: StateSeam) -> None:
    async with seam.open() as state:
        submission = await finished(state)
        with pytest.raises(AlreadyFinished):
            await state.submissions.begin(submission, "3", "node")
        assert (await state.submissions.get(submission.id)).attempts == 1


async def test_begin_works_for_a_forgotten_submission(seam: StateSeam) -> None:
    submission = make()
    async with seam.open() as state:
        assert await state.submissions.begin(submission, "3", "node") == 1
        await state.log.append(submission.id, 1, [output(b"x")])
        assert await state.submissions.finish(submission.id, 1, result())
        assert await state.submissions.submission(submission.id) == submission
        told = await log(state, submission.id)
        assert [(each.seq, each.event.name) for each in told] == [
            (1, "queued"),  # the events have the numbers that they had
            (2, "started"),
            (3, "output"),
            (4, "finished"),
        ]
        assert await state.submissions.unpublished(time.time() + 60) == []


async def test_only_the_latest_attempt_may_append(seam: StateSeam) -> None:
    async with seam.open() as state:
        submission = await begun(state)
        await state.log.append(submission.id, 1, [output(b"first")])
        await state.submissions.begin(submission, "3", "node")
        with pytest.raises(Stale):
            await state.log.append(submission.id, 1, [output(b"stale")])
        await state.log.append(submission.id, 2, [output(b"second")])
        events = await recorded(state, submission.id)
        assert [each.data for each in events if isinstance(each, Output)] == [b"first", b"second"]


async def test_nothing_is_appended_after_the_end_or_to_the_unknown(seam: StateSeam) -> None:
    async with seam.open() as state:
        submission = await finished(state)
        with pytest.raises(AlreadyFinished):
            await state.log.append(submission.id, 1, [output(b"late")])
        for nothing_or_something in ([], [output(b"x")]):
            with pytest.raises(UnknownSubmission):
                await state.log.append("unknown", 1, nothing_or_something)


async def test_appending_nothing_adds_nothing(seam: StateSeam) -> None:
    async with seam.open() as state:
        submission = await begun(state)
        before = await state.log.watch(submission.id, 0)
        await state.log.append(submission.id, 1, [])
        assert await state.log.watch(submission.id, 0) == before
        with trio.move_on_after(QUIET_S) as scope:
            await state.log.watch(submission.id, len(before))
        assert scope.cancelled_caught


async def test_events_are_numbered_from_1_without_gaps_whoever_appends(seam: StateSeam) -> None:
    async def append(state: State, id: str, name: int) -> None:
        for number in range(10):
            await state.log.append(
                id, 1, [output(f"{name} {number} {part}".encode()) for part in "ab"]
            )

    async with seam.open() as state:
        submission = await begun(state)
        async with trio.open_nursery() as nursery:
            for name in range(20):
                nursery.start_soon(append, state, submission.id, name)
        await state.submissions.finish(submission.id, 1, result())
        events = await log(state, submission.id)
        assert [each.seq for each in events] == list(range(1, len(events) + 1))
        texts = [each.event.data.decode() for each in events if isinstance(each.event, Output)]
        for name in range(20):
            own = [text for text in texts if text.split()[0] == str(name)]
            assert own == [f"{name} {number} {part}" for number in range(10) for part in "ab"]
        firsts = [at for at, text in enumerate(texts) if text.endswith("a")]
        assert all(texts[at + 1] == texts[at][:-1] + "b" for at in firsts)  # one append is one step


async def test_finish_stores_the_result_and_ends_the_log_at_once(seam: StateSeam) -> None:
    async with seam.open() as state:
        submission = await begun(state)
        last = result(Verdict.RUNTIME_ERROR)
        assert await state.submissions.finish(submission.id, 1, last)
        seam.crash()
    async with seam.open() as state:
        record = await state.submissions.get(submission.id)
        assert (record.status, record.result) == ("finished", last)
        assert [each.event.name for each in await log(state, submission.id)] == [
            "queued",
            "started",
            "finished",
        ]
        assert (await log(state, submission.id))[-1].event == Finished(last)


async def test_output_is_stored_in_the_log_only(seam: StateSeam) -> None:
    head = Written.of(b"x" * HEAD_BYTES)
    last = replace(result(), run=replace(OUTCOME, stdout=head))
    async with seam.open() as state:
        submission = await begun(state)
        await state.log.append(submission.id, 1, [Output("run", "stdout", head.head)])
        assert await state.submissions.finish(submission.id, 1, last)
        stored = (await state.submissions.get(submission.id)).result
        assert stored == last.without_heads()
        assert (await log(state, submission.id))[-1].event == Finished(stored)


OUTPUTS: dict[str, list[Event]] = {
    "nothing": [],
    "in few pieces": [Output("run", "stdout", b"one\n"), Output("run", "stderr", b"\xff")],
    "in many pieces": [
        Output("run", ACCOUNTS[number % 2], b"%d\n" % number) for number in range(1000)
    ],
    "of both stages": [
        Stage("compile", "start"),
        Output("compile", "stderr", b"warning\n"),
        Stage("run", "start"),
        Output("run", "stdout", b"out\n"),
    ],
    "at a terminal": [Output("run", "tty", b"$ "), Output("run", "tty", b"ls\r\n\xff")],
    "as long as a batch": [Output("run", "stdout", b"x" * 2**15)] * 20,
}


@pytest.mark.parametrize("name", OUTPUTS)
async def test_a_record_has_its_output_if_it_is_short_enough(seam: StateSeam, name: str) -> None:
    """The output of the attempt that the result is of."""
    events = OUTPUTS[name]
    said = {
        (step, account): b"".join(
            each.data
            for each in events
            if isinstance(each, Output)
            and (each.step, each.stream.replace("tty", "stdout")) == (step, account)
        )
        for step in (COMPILE, RUN)
        for account in ACCOUNTS
    }
    written = {key: replace(Written.of(data), head=b"") for key, data in said.items()}
    outcomes = {
        step: replace(OUTCOME, stdout=written[step, "stdout"], stderr=written[step, "stderr"])
        for step in (COMPILE, RUN)
    }
    last = Result(Verdict.OK, compile=outcomes[COMPILE], run=outcomes[RUN], finished_at=time.time())
    size = sum(map(len, said.values()))
    async with seam.open() as state:
        submission = await begun(state)
        await state.log.append(
            submission.id, 1, [Output("run", "stdout", b"of an earlier attempt")]
        )
        number = await state.submissions.begin(submission, "3", "node")
        await state.log.append(submission.id, number, events)
        assert (await state.submissions.get(submission.id, size)).output is None
        await state.submissions.finish(submission.id, number, last)
        for look in (state.submissions.get, state.submissions.settled):
            record = await look(submission.id, size)
            assert record.output_size == size
            assert record.output == said
            if size:
                assert (await look(submission.id, size - 1)).output is None
        found = [each.event for each in await entries(state, submission.id, record.log_from)]
        assert found == [*events, Finished(last)]
        with pytest.raises(EventsReset):
            await state.log.entries(submission.id, 10_000)


async def entries(state: State, id: str, after: int) -> list[LogEntry]:
    found: list[LogEntry] = []
    while more := await state.log.entries(id, after):
        assert more[0].seq == after + 1
        found += more
        after = more[-1].seq
    return found


async def test_status_follows_a_submission(seam: StateSeam) -> None:
    async with seam.open() as state:
        submission = await created(state)
        assert await state.submissions.status(submission.id) == "queued"
        await state.submissions.begin(submission, "3", "node")
        assert await state.submissions.status(submission.id) == "running"
        await state.submissions.finish(submission.id, 1, result())
        assert await state.submissions.status(submission.id) == "finished"


async def test_small_questions_do_not_read_what_was_submitted(
    seam: StateSeam, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with seam.open() as state:
        submission = await begun(state, interactive=True)
        monkeypatch.setattr(wire, "decode_submission", pytest.fail)
        await state.controls.send_stdin(submission.id, b"x", None, end=False)
        await state.controls.send_signal(submission.id, "SIGINT")
        await state.submissions.status(submission.id)
        await state.log.watch(submission.id, 0)
        await state.submissions.get(submission.id)
        await state.submissions.finish(submission.id, 1, result())
        await state.submissions.settled(submission.id)


async def test_a_redelivered_result_changes_nothing(seam: StateSeam) -> None:
    async with seam.open() as state:
        submission = await begun(state)
        first = result()
        assert await state.submissions.finish(submission.id, 1, first)
        for attempt in (1, None):
            assert not await state.submissions.finish(
                submission.id, attempt, result(Verdict.TIME_LIMIT)
            )
        assert (await state.submissions.get(submission.id)).result == first
        assert len(await log(state, submission.id)) == 3


async def test_of_many_results_exactly_one_is_stored(seam: StateSeam) -> None:
    done: list[float] = []

    async def finish(state: State, id: str, at: float) -> None:
        if await state.submissions.finish(id, 1, result(at=at)):
            done.append(at)

    now = time.time()
    async with seam.open() as state:
        submission = await begun(state)
        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(finish, state, submission.id, now + number)
        stored = (await state.submissions.get(submission.id)).result
        assert stored is not None
        assert done == [stored.finished_at]


async def test_a_stale_attempts_result_is_dropped(seam: StateSeam) -> None:
    async with seam.open() as state:
        submission = await begun(state)
        await state.submissions.begin(submission, "3", "node")
        assert not await state.submissions.finish(submission.id, 1, result(Verdict.TIME_LIMIT))
        assert (await state.submissions.get(submission.id)).result is None
        assert await state.submissions.finish(submission.id, 2, result(attempt=2))


async def test_a_result_records_what_has_been_forgotten(seam: StateSeam) -> None:
    submission = make()
    async with seam.open() as state:
        long = replace(Written.of(b"beginning"), size=10**6)
        first = replace(result(attempt=2), run=replace(OUTCOME, stdout=long, stderr=Written()))
        assert await state.submissions.finish(submission.id, 2, first, submission)
        for attempt in (1, 2, None):
            assert not await state.submissions.finish(submission.id, attempt, result(), submission)
        seam.crash()
    async with seam.open() as state:
        record = await state.submissions.get(submission.id)
        assert await state.submissions.submission(submission.id) == submission
        assert (record.status, record.attempts) == ("finished", 2)
        short = Written(9, truncated=True)
        assert record.result == replace(first, run=replace(OUTCOME, stdout=short, stderr=Written()))
        assert [each.event for each in await log(state, submission.id)] == [
            Output("run", "stdout", b"beginning"),
            Finished(record.result),
        ]
        output = (await state.submissions.get(submission.id, 9)).output
        assert output
        assert output[RUN, "stdout"] == b"beginning"
        with pytest.raises(EventsReset):
            await state.log.watch(submission.id, 7)
        with pytest.raises(AlreadyFinished):
            await state.submissions.begin(submission, "3", "node")
        assert await state.submissions.unpublished(time.time() + 60) == []


async def test_a_result_of_any_attempt_ends_what_still_waits(seam: StateSeam) -> None:
    async with seam.open() as state:
        submission = await created(state)
        assert await state.submissions.finish(submission.id, None, result(Verdict.INTERNAL_ERROR))
        assert (await state.submissions.get(submission.id)).status == "finished"
        assert not await state.submissions.finish("unknown", None, result())


# get, settled, watch


async def test_what_nobody_created_is_unknown_to_everyone(seam: StateSeam) -> None:
    async with seam.open() as state:
        calls: Sequence[Callable[[], Awaitable[object]]] = [
            lambda: state.submissions.get("unknown"),
            lambda: state.submissions.status("unknown"),
            lambda: state.submissions.submission("unknown"),
            lambda: state.submissions.settled("unknown"),
            lambda: state.log.watch("unknown", 0),
            lambda: state.submissions.cancel("unknown"),
            lambda: state.controls.send_stdin("unknown", b"x", None, end=False),
        ]
        for call in calls:
            with pytest.raises(UnknownSubmission):
                await call()


async def test_settled_waits_for_the_result(seam: StateSeam) -> None:
    async with seam.open() as state:
        submission = await begun(state)
        await assert_waits_for(
            lambda: state.submissions.settled(submission.id),
            state.submissions.finish(submission.id, 1, result()),
        )
        record = await state.submissions.settled(submission.id)
        assert record.result is not None
        assert record.result.verdict == Verdict.OK


async def test_watch_waits_for_events_and_resumes_after_any_of_them(seam: StateSeam) -> None:
    async with seam.open() as state:
        submission = await begun(state)
        await assert_waits_for(
            lambda: state.log.watch(submission.id, 2),
            state.log.append(submission.id, 1, [output(b"3")]),
        )
        await assert_waits_for(
            lambda: state.log.watch(submission.id, 3),
            state.submissions.begin(submission, "3", "node"),
        )
        await assert_waits_for(
            lambda: state.log.watch(submission.id, 4),
            state.submissions.finish(submission.id, 2, result()),
        )
        whole = await log(state, submission.id)
        for after in range(6):
            assert await log(state, submission.id, after) == whole[after:]


async def test_watch_gives_nothing_after_the_end(seam: StateSeam) -> None:
    async with seam.open() as state:
        submission = await finished(state)
        with trio.fail_after(SOON_S):
            assert list(await state.log.watch(submission.id, 3)) == []


async def test_watch_beyond_the_log_is_a_reset(seam: StateSeam) -> None:
    async with seam.open() as state:
        running, ended = await begun(state), await finished(state)
        with pytest.raises(EventsReset):
            await state.log.watch(running.id, 3)
        with pytest.raises(EventsReset):
            await state.log.watch(ended.id, 4)


async def test_watch_gives_a_long_log_in_parts(seam: StateSeam) -> None:
    async with seam.open() as state:
        submission = await begun(state)
        for number in range(100):
            await state.log.append(submission.id, 1, [output(bytes([number]) * 32_768)])
        await state.submissions.finish(submission.id, 1, result())
        part = await state.log.watch(submission.id, 0)
        size = sum(len(e.event.data) for e in part if isinstance(e.event, Output))
        assert WATCH_BYTES / 2 < size < WATCH_BYTES * 2
        events = await log(state, submission.id)
        assert [each.seq for each in events] == list(range(1, 104))


async def test_many_watchers_see_the_same_log(seam: StateSeam) -> None:
    seen: list[list[LogEntry]] = []

    async def follow(state: State, id: str) -> None:
        seen.append(await log(state, id))

    async with seam.open() as state:
        submission = await created(state)
        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(follow, state, submission.id)
            await state.submissions.begin(submission, "3", "node")
            for number in range(30):
                await state.log.append(submission.id, 1, [output(b"%d" % number)])
            await state.submissions.finish(submission.id, 1, result())
        assert len(seen) == 10
        assert all(each == seen[0] for each in seen)
        assert [each.seq for each in seen[0]] == list(range(1, 34))


# cancel


async def test_cancelling_what_waits_ends_it_at_once(seam: StateSeam) -> None:
    async with seam.open() as state:
        submission = await created(state)
        await assert_waits_for(
            lambda: state.submissions.settled(submission.id),
            state.submissions.cancel(submission.id),
        )
        seam.crash()
    async with seam.open() as state:
        record = await state.submissions.get(submission.id)
        assert record.result is not None
        assert record.result.verdict == Verdict.CANCELLED
        assert [each.event.name for each in await log(state, submission.id)] == [
            "queued",
            "finished",
        ]
        with pytest.raises(AlreadyFinished):
            await state.submissions.begin(submission, "3", "node")


async def test_cancelling_what_runs_tells_its_attempt(seam: StateSeam) -> None:
    async with seam.open() as state:
        submission, other = await begun(state), await begun(state)
        unrelated = Waiting()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(unrelated.run, partial(state.controls.watch, other.id, 0))
            await assert_waits_for(
                partial(state.controls.watch, submission.id, 0),
                state.submissions.cancel(submission.id),
            )
            await unrelated.assert_still()
            nursery.cancel_scope.cancel()
        assert (await state.submissions.get(submission.id)).status == "running"
        assert await state.submissions.finish(submission.id, 1, result(Verdict.CANCELLED))


async def test_a_cancel_is_remembered_for_the_next_attempt(seam: StateSeam) -> None:
    async with seam.open() as state:
        submission = await begun(state)
        assert await state.submissions.cancel(submission.id)
        seam.crash()
    async with seam.open() as state:
        assert await state.submissions.begin(submission, "3", "node") == 2
        assert await controls(state, submission.id, 1) == [Cancel()]


async def test_cancelling_what_has_finished_changes_nothing(seam: StateSeam) -> None:
    async with seam.open() as state:
        submission = await finished(state)
        before = await state.submissions.get(submission.id)
        assert not await state.submissions.cancel(submission.id)
        assert await state.submissions.get(submission.id) == before


async def test_what_was_cancelled_before_it_began_never_begins_not_even_forgotten(
    seam: StateSeam,
) -> None:
    """Its message may lie in a queue for longer than its record is kept."""
    seam.hasten(node_ttl_s=15)
    waiting, never_known = make(), make()
    async with seam.open(keep_s=0.05) as state:
        await state.submissions.create(waiting, None, "")
        assert await state.submissions.cancel(waiting.id)
        with trio.fail_after(SOON_S):
            await _forgotten(state, waiting.id)
        for _ in range(2):  # a message may come twice
            with pytest.raises(AlreadyFinished):
                await state.submissions.begin(waiting, "3", "node")
        with pytest.raises(UnknownSubmission):
            await state.submissions.get(waiting.id)
        assert await state.submissions.begin(never_known, "3", "node") == 1


async def test_cancelling_twice_is_cancelling_once(seam: StateSeam) -> None:
    async with seam.open() as state:
        running, queued = await begun(state), await created(state)
        assert await state.submissions.cancel(running.id)
        assert await state.submissions.cancel(running.id)
        assert await state.submissions.cancel(queued.id)
        assert not await state.submissions.cancel(queued.id)


# controls


async def controls(state: State, id: str, count: int, after: int = 0) -> list[Control]:
    """So many controls, and those that come with them."""
    found: list[Control] = []
    with trio.fail_after(SOON_S):
        while len(found) < count:
            for entry in await state.controls.watch(id, after):
                assert entry.number > after
                after = entry.number
                found.append(entry.control)
    return found


async def typed(state: State, id: str, size: int) -> bytes:
    """So many bytes of stdin from the first, and those that come with them."""
    data, after = b"", 0
    with trio.fail_after(SOON_S):
        while len(data) < size:
            for entry in await state.controls.watch(id, after):
                if isinstance(entry.control, Stdin):
                    assert entry.control.offset == len(data)
                    data += entry.control.data
                after = entry.number
    return data


async def test_controls_are_one_log_by_number_that_survives_a_crash(seam: StateSeam) -> None:
    async with seam.open() as state:
        submission = await begun(state, interactive=True)
        await state.controls.send_stdin(submission.id, b"one\xff", 0, end=False)
        await state.controls.send_stdin(submission.id, b"two", None, end=False)
        first: list[Control] = [Stdin(0, b"one\xff"), Stdin(4, b"two")]
        assert await controls(state, submission.id, 2) == first
        await state.controls.send_stdin(submission.id, b"three", 7, end=True)
        await state.submissions.cancel(submission.id)
        await state.submissions.cancel(submission.id)
        rest: list[Control] = [Stdin(7, b"three"), End(), Cancel()]
        assert await controls(state, submission.id, 3, after=2) == rest
        for after in range(5):
            numbers = [each.number for each in await state.controls.watch(submission.id, after)]
            assert numbers == list(range(after + 1, 6))
        seam.crash()
    async with seam.open() as state:
        await state.submissions.begin(submission, "3", "node")
        assert await controls(state, submission.id, 5) == first + rest


async def test_who_watches_controls_waits_for_more(seam: StateSeam) -> None:
    async with seam.open() as state:
        submission = await begun(state, interactive=True)
        sends: list[Callable[[], Awaitable[object]]] = [
            lambda: state.controls.send_stdin(submission.id, b"x", None, end=False),
            lambda: state.controls.send_signal(submission.id, "SIGINT"),
            lambda: state.controls.send_stdin(submission.id, b"", None, end=True),
            lambda: state.submissions.cancel(submission.id),
        ]
        for number, send in enumerate(sends):
            await assert_waits_for(partial(state.controls.watch, submission.id, number), send())


async def test_many_controls_come_in_parts(seam: StateSeam) -> None:
    """Of 256 KiB and some thousands of controls, so that no reader is handed what a client piled up."""
    async with seam.open() as state:
        submission = await begun(state, interactive=True)
        for _ in range(4):
            await state.controls.send_stdin(submission.id, bytes(WATCH_BYTES), None, end=False)
        first = await state.controls.watch(submission.id, 0)
        assert [each.number for each in first] == [1]
        assert len(await typed(state, submission.id, STDIN_UNREAD_MAX)) == STDIN_UNREAD_MAX
        await state.controls.took(submission.id, STDIN_UNREAD_MAX)
        for _ in range(5):
            async with trio.open_nursery() as nursery:
                for _ in range(1000):
                    nursery.start_soon(send_byte, state, submission.id)
        assert len(await state.controls.watch(submission.id, 4)) < 5000
        assert len(await controls(state, submission.id, 5000, after=4)) == 5000


async def send_byte(state: State, id: str) -> None:
    await state.controls.send_stdin(id, b"x", None, end=False)


async def test_stdin_sent_before_the_start_is_kept(seam: StateSeam) -> None:
    async with seam.open() as state:
        submission = await created(state, interactive=True)
        await state.controls.send_stdin(submission.id, b"early", 0, end=False)
        await state.submissions.begin(submission, "3", "node")
        assert await controls(state, submission.id, 1) == [Stdin(0, b"early")]


async def test_repeated_stdin_is_dropped(seam: StateSeam) -> None:
    async with seam.open() as state:
        submission = await begun(state, interactive=True)
        await state.controls.send_stdin(submission.id, b"abc", 0, end=False)
        await state.controls.send_stdin(submission.id, b"abc", 0, end=False)
        await state.controls.send_stdin(submission.id, b"b", 1, end=False)
        await state.controls.send_stdin(submission.id, b"bcde", 1, end=True)
        await state.controls.send_stdin(submission.id, b"de", 3, end=True)
        found = await controls(state, submission.id, 3)
        assert found == [Stdin(0, b"abc"), Stdin(3, b"de"), End()]


async def test_a_gap_in_stdin_is_refused(seam: StateSeam) -> None:
    async with seam.open() as state:
        submission = await begun(state, interactive=True)
        await state.controls.send_stdin(submission.id, b"abc", 0, end=False)
        with pytest.raises(Rejected) as refused:
            await state.controls.send_stdin(submission.id, b"x", 4, end=False)
        assert (refused.value.kind, refused.value.errors[0].field) == ("stdin-gap", "offset")
        assert await controls(state, submission.id, 1) == [Stdin(0, b"abc")]


async def test_two_who_type_at_once_lose_nothing_and_double_nothing(seam: StateSeam) -> None:
    """Each counts its own bytes, as two tabs that do not know of each other; also over a crash."""
    async with seam.open() as state:
        submission = await begun(state, interactive=True)
        send = state.controls.send_stdin
        await send(submission.id, b"same\n", 0, end=False, writer="one")
        await send(submission.id, b"same\n", 0, end=False, writer="two")
        await send(submission.id, b"x", 10, end=False)  # of no name: counted from all that came
        await send(submission.id, b"same\nmore", 0, end=False, writer="one")  # a repeat, and more
        with pytest.raises(Rejected) as refused:
            await send(submission.id, b"x", 6, end=False, writer="two")
        assert refused.value.kind == "stdin-gap"
        seam.crash()
    async with seam.open() as state:
        await state.controls.send_stdin(submission.id, b"\nend", 4, end=False, writer="two")
        await state.submissions.begin(submission, "3", "node")
        found = await controls(state, submission.id, 5)
        sent = [(0, b"same\n"), (5, b"same\n"), (10, b"x"), (11, b"more"), (15, b"end")]
        assert found == [Stdin(offset, data) for offset, data in sent]


async def test_writers_are_bounded(seam: StateSeam) -> None:
    async with seam.open() as state:
        submission = await begun(state, interactive=True)
        for number in range(WRITERS_MAX):
            await state.controls.send_stdin(submission.id, b"x", 0, end=False, writer=f"w{number}")
        await state.controls.send_stdin(submission.id, b"y", 1, end=False, writer="w0")
        with pytest.raises(Rejected) as refused:
            await state.controls.send_stdin(submission.id, b"x", 0, end=False, writer="new")
        assert refused.value.kind == "too-many"


async def test_stdin_after_its_end_is_refused(seam: StateSeam) -> None:
    async with seam.open() as state:
        submission = await begun(state, interactive=True)
        await state.controls.send_stdin(submission.id, b"abc", 0, end=True)
        with pytest.raises(NotInteractive):
            await state.controls.send_stdin(submission.id, b"d", 3, end=False)


async def test_stdin_is_refused_where_it_has_no_meaning(seam: StateSeam) -> None:
    async with seam.open() as state:
        batch, ended = await begun(state), await begun(state, interactive=True)
        with pytest.raises(NotInteractive):
            await state.controls.send_stdin(batch.id, b"x", None, end=False)
        await state.submissions.finish(ended.id, 1, result())
        with pytest.raises(AlreadyFinished):
            await state.controls.send_stdin(ended.id, b"x", None, end=False)


async def test_unread_stdin_is_bounded_and_has_room_again_when_the_program_took_some(
    seam: StateSeam,
) -> None:
    async with seam.open() as state:
        submission = await begun(state, interactive=True)
        half = bytes(STDIN_UNREAD_MAX // 2)
        await state.controls.send_stdin(submission.id, half, None, end=False)
        await state.controls.send_stdin(submission.id, half, None, end=False)
        with pytest.raises(StdinFull) as full:
            await state.controls.send_stdin(submission.id, b"x", None, end=False)
        assert full.value.unread == STDIN_UNREAD_MAX
        await typed(state, submission.id, STDIN_UNREAD_MAX)
        with pytest.raises(StdinFull):  # what the attempt got is not what the program took
            await state.controls.send_stdin(submission.id, b"x", None, end=False)
        await state.controls.took(submission.id, 1)
        await state.controls.send_stdin(submission.id, b"x", None, end=False)
        with pytest.raises(StdinFull):
            await state.controls.send_stdin(submission.id, b"x", None, end=False)


async def test_unread_stdin_holds_up_no_signal_and_no_cancel(seam: StateSeam) -> None:
    async with seam.open() as state:
        submission = await begun(state, interactive=True)
        await state.controls.send_stdin(submission.id, bytes(STDIN_UNREAD_MAX), None, end=True)
        await state.controls.send_signal(submission.id, "SIGINT")
        await state.submissions.cancel(submission.id)
        *_, signal, cancel = await controls(state, submission.id, 4)
        assert (signal, cancel) == (Signal("SIGINT"), Cancel())


async def test_stdin_can_end_however_much_a_new_attempt_has_to_read(seam: StateSeam) -> None:
    async with seam.open() as state:
        submission = await begun(state, interactive=True)
        chunk = bytes(STDIN_UNREAD_MAX)
        for number in range(3):
            await state.controls.send_stdin(submission.id, chunk, None, end=False)
            await state.controls.took(submission.id, (number + 1) * len(chunk))
        await state.submissions.begin(submission, "3", "node")
        await state.controls.send_stdin(submission.id, chunk, 2 * len(chunk), end=False)  # a repeat
        with pytest.raises(StdinFull):
            await state.controls.send_stdin(submission.id, b"x", None, end=False)
        await state.controls.send_stdin(submission.id, b"", None, end=True)
        assert len(await typed(state, submission.id, 3 * len(chunk))) == 3 * len(chunk)
        assert await controls(state, submission.id, 1, after=3) == [End()]


async def test_what_clients_send_goes_on_after_an_emptying(seam: StateSeam) -> None:
    """From what the attempt had got; whoever waits for more is not told that none comes."""
    async with seam.open() as state:
        submission = await begun(state, interactive=True)
        await state.controls.send_stdin(submission.id, b"taken", 0, end=False)
        await state.controls.send_signal(submission.id, "SIGINT")
        assert len(await controls(state, submission.id, 2)) == 2
        seam.empty()
        with trio.move_on_after(QUIET_S) as scope:
            await state.controls.watch(submission.id, 2)
        assert scope.cancelled_caught
        await state.controls.took(submission.id, 3)
        await state.submissions.begin(submission, "3", "node", Taken(controls=2, stdin=5))
        with pytest.raises(Rejected):
            await state.controls.send_stdin(submission.id, b"a gap", 6, end=False)
        await state.controls.send_stdin(submission.id, b"ken and more", 2, end=True)
        await state.controls.send_signal(submission.id, "SIGTERM")
        found = await state.controls.watch(submission.id, 2)
        assert [(each.number, each.control) for each in found] == [
            (3, Stdin(5, b" and more")),
            (4, End()),
            (5, Signal("SIGTERM")),
        ]


# list


def of_owner(owner: str, at: float) -> Submission:
    return replace(make(created_at=at), owner=owner)


async def test_an_owners_submissions_are_listed_newest_first_in_pages(seam: StateSeam) -> None:
    start = time.time() - 100
    mine = [of_owner("anon:me", start + number // 2) for number in range(9)]  # two at a time
    async with seam.open() as state:
        for each in (*mine, of_owner("anon:another", start + 3), make(created_at=start + 3)):
            await state.submissions.create(each, None, "")
        await state.submissions.begin(mine[8], "3", "node")
        await state.submissions.finish(mine[8].id, 1, result(Verdict.TIME_LIMIT))
        seam.crash()
    async with seam.open() as state:
        found = list(await state.submissions.owned("anon:me", None, 4))
        while page := await state.submissions.owned("anon:me", found[-1].cursor, 4):
            found += page
        wanted = sorted(mine, key=lambda each: (each.created_at, each.id), reverse=True)
        assert [each.id for each in found] == [each.id for each in wanted]
        first, second, *_ = found
        assert (first.id, first.status, first.verdict) == (
            mine[8].id,
            "finished",
            "time_limit",
        )
        assert (first.language, first.created_at) == ("python", mine[8].created_at)
        assert first.started_at
        assert first.finished_at
        assert (second.status, second.verdict, second.finished_at) == (
            "queued",
            None,
            None,
        )
        assert list(await state.submissions.owned("nobody", None, 4)) == []
        with pytest.raises(Rejected):
            await state.submissions.owned("anon:me", "no cursor", 4)


async def test_a_list_reads_no_submission_and_no_result(
    seam: StateSeam, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended, waiting = (of_owner("anon:me", time.time() - ago) for ago in (2, 1))
    async with seam.open() as state:
        for each in (ended, waiting):
            await state.submissions.create(each, None, "")
        await state.submissions.begin(ended, "3", "node")
        await state.submissions.finish(ended.id, 1, result())
        for name in ("decode_submission", "load_result", "load_event"):
            monkeypatch.setattr(wire, name, pytest.fail)
        found = await state.submissions.owned("anon:me", None, 10)
    assert [(each.id, each.verdict) for each in found] == [(waiting.id, None), (ended.id, "ok")]


async def test_what_has_expired_or_was_discarded_is_listed_no_more(seam: StateSeam) -> None:
    seam.hasten(node_ttl_s=15)
    kept, gone, discarded = (of_owner("anon:me", time.time()) for _ in range(3))
    async with seam.open() as state:
        for each in (kept, gone, discarded):
            await state.submissions.create(each, None, "")
        await state.submissions.discard(discarded.id)
        await state.submissions.finish(gone.id, None, result(at=1.0))
        with trio.fail_after(SOON_S):
            await _forgotten(state, gone.id)
        assert [each.id for each in await state.submissions.owned("anon:me", None, 9)] == [kept.id]


async def test_a_list_goes_on_behind_any_number_that_have_expired(seam: StateSeam) -> None:
    seam.hasten(node_ttl_s=15)
    kept = [of_owner("anon:me", time.time() - 100 - number) for number in range(3)]
    gone = [of_owner("anon:me", time.time() - number / 10) for number in range(100)]
    async with seam.open() as state:
        for each in (*kept, *gone):
            await state.submissions.create(each, None, "")
        for each in gone:
            await state.submissions.finish(each.id, None, result(at=1.0))
        with trio.fail_after(SOON_S):
            for each in gone:
                await _forgotten(state, each.id)
        for _ in range(2):
            assert [each.id for each in await state.submissions.owned("anon:me", None, 2)] == [
                each.id for each in kept[:2]
            ]


async def test_a_list_goes_on_behind_any_number_of_the_same_moment(seam: StateSeam) -> None:
    now = time.time()
    many = [of_owner("anon:me", now) for _ in range(90)]
    async with seam.open() as state:
        for each in many:
            await state.submissions.create(each, None, "")
        found: list[str] = []
        cursor = None
        while page := await state.submissions.owned("anon:me", cursor, 7):
            found += [each.id for each in page]
            cursor = page[-1].cursor
        assert sorted(found) == sorted(each.id for each in many)


async def test_what_is_erased_is_gone_for_good_and_leaves_its_key_to_others(
    seam: StateSeam,
) -> None:
    """Also when a message of it comes once more."""
    erased, kept = (replace(make(), owner="anon:me", stdin=b"secret") for _ in range(2))
    async with seam.open() as state:
        await state.submissions.create(erased, "key", "digest")
        await state.submissions.create(kept, None, "")
        for each in (erased, kept):
            attempt = await state.submissions.begin(each, "3", "node")
            await state.log.append(each.id, attempt, [Output("run", "stdout", b"out")])
            await state.submissions.finish(each.id, attempt, result())
        assert await state.submissions.erase(erased)
        with pytest.raises(UnknownSubmission):
            await state.submissions.erase(erased)
    seam.crash()
    async with seam.open() as state:
        with pytest.raises(UnknownSubmission):
            await state.submissions.get(erased.id)
        with pytest.raises(UnknownSubmission):
            await state.log.entries(erased.id, 0)
        with pytest.raises(AlreadyFinished):
            await state.submissions.begin(erased, "3", "node")
        assert not await state.submissions.finish(erased.id, 1, result(), erased)
        with pytest.raises(UnknownSubmission):
            await state.submissions.submission(erased.id)
        listed = await state.submissions.owned("anon:me", None, 10)
        assert [each.id for each in listed] == [kept.id]
        assert (await state.submissions.get(kept.id)).status == "finished"
        again = replace(make(), owner="anon:me")
        assert (await state.submissions.create(again, "key", "other")).id == again.id


async def test_only_what_has_finished_is_erased(seam: StateSeam) -> None:
    async with seam.open() as state:
        waiting, running = make(), make()
        for each in (waiting, running):
            await state.submissions.create(each, None, "")
        await state.submissions.begin(running, "3", "node")
        for each in (waiting, running):
            assert not await state.submissions.erase(each)
        assert (await state.submissions.get(waiting.id)).status == "queued"
        assert (await state.submissions.get(running.id)).status == "running"
        with pytest.raises(UnknownSubmission):
            await state.submissions.erase(make())


async def test_a_list_names_what_was_forgotten_and_recorded_anew(seam: StateSeam) -> None:
    begun_anew, ended_anew = (of_owner("anon:me", time.time() + number) for number in range(2))
    async with seam.open() as state:
        await state.submissions.begin(begun_anew, "3", "node")
        await state.submissions.finish(ended_anew.id, 1, result(), ended_anew)
        listed = await state.submissions.owned("anon:me", None, 9)
        assert [(each.id, each.status) for each in listed] == [
            (ended_anew.id, "finished"),
            (begun_anew.id, "running"),
        ]


# how much is kept


@pytest.mark.parametrize("each", [b"x", b"x" * 1000])
async def test_stdin_of_one_submission_is_bounded(
    seam: StateSeam, monkeypatch: pytest.MonkeyPatch, each: bytes
) -> None:
    """State keeps it for a next attempt, also what the program has taken. A control counts, too."""
    for name in ("embedded", "redis"):
        most = 10 * (len(each) + CONTROL_BYTES)
        monkeypatch.setattr(f"occd.state.{name}.controls.STDIN_MAX", most)
    async with seam.open() as state:
        submission = await begun(state, interactive=True)
        for number in range(10):
            await state.controls.send_stdin(submission.id, each, None, end=False)
            await state.controls.took(submission.id, (number + 1) * len(each))
        with pytest.raises(Rejected) as refused:
            await state.controls.send_stdin(submission.id, each, None, end=False)
        assert refused.value.kind == "too-many"
        await state.controls.send_stdin(
            submission.id, each, 9 * len(each), end=True
        )  # a repetition
        assert (await controls(state, submission.id, 11))[-1] == End()


async def test_controls_go_at_the_end(seam: StateSeam) -> None:
    """Nobody reads them any more, and they may be many times as long as the rest."""
    async with seam.open() as state:
        submission = await begun(state, interactive=True)
        for each in b"typed", b"more":
            await state.controls.send_stdin(submission.id, each, None, end=False)
        assert seam.counts_controls(submission.id) == 2
        await state.submissions.finish(submission.id, 1, result())
        assert seam.counts_controls(submission.id) == 0


# signals


async def test_a_new_attempt_gets_no_signals_of_an_earlier_one(seam: StateSeam) -> None:
    """It gets what was typed, and a cancel, in the same order."""
    async with seam.open() as state:
        submission = await begun(state, interactive=True)
        await state.controls.send_signal(submission.id, "SIGTSTP")
        await state.controls.send_stdin(submission.id, b"x", None, end=False)
        await state.submissions.begin(submission, "3", "node")
        assert await controls(state, submission.id, 1) == [Stdin(0, b"x")]
        await state.controls.send_signal(submission.id, "SIGINT")
        assert await controls(state, submission.id, 2) == [Stdin(0, b"x"), Signal("SIGINT")]
        for _ in range(SIGNALS_MAX - 1):  # their number counts anew, too
            await state.controls.send_signal(submission.id, "SIGINT")


async def test_signals_are_refused_where_nothing_runs(seam: StateSeam) -> None:
    async with seam.open() as state:
        queued, ended = await created(state), await finished(state)
        with pytest.raises(NotRunning):
            await state.controls.send_signal(queued.id, "SIGINT")
        with pytest.raises(AlreadyFinished):
            await state.controls.send_signal(ended.id, "SIGINT")
        with pytest.raises(UnknownSubmission):
            await state.controls.send_signal("unknown", "SIGINT")


async def test_signals_to_one_attempt_are_bounded(seam: StateSeam) -> None:
    async with seam.open() as state:
        submission = await begun(state)
        for _ in range(SIGNALS_MAX):
            await state.controls.send_signal(submission.id, "SIGCONT")
        with pytest.raises(Rejected) as refused:
            await state.controls.send_signal(submission.id, "SIGCONT")
        assert refused.value.kind == "too-many"


# the window of a terminal

WINDOW = Terminal(24, 80)


async def test_a_terminal_is_given_sizes_that_later_attempts_get_too(seam: StateSeam) -> None:
    async with seam.open() as state:
        submission = await begun(state, tty=WINDOW)
        await state.controls.send_resize(submission.id, Terminal(50, 132))
        await state.controls.send_signal(submission.id, "SIGINT")
        await state.controls.send_resize(submission.id, Terminal(1000, 1))
        sizes = [Resize(Terminal(50, 132)), Resize(Terminal(1000, 1))]
        sent: list[Control] = [sizes[0], Signal("SIGINT"), sizes[1]]
        assert await controls(state, submission.id, 3) == sent
        await assert_waits_for(
            partial(state.controls.watch, submission.id, 3),
            state.controls.send_resize(submission.id, WINDOW),
        )
        seam.crash()
    async with seam.open() as state:
        await state.submissions.begin(submission, "3", "node")
        assert await controls(state, submission.id, 3) == [*sizes, Resize(WINDOW)]


async def test_sizes_are_refused_where_there_is_no_terminal_that_runs(seam: StateSeam) -> None:
    async with seam.open() as state:
        plain, queued = await begun(state, interactive=True), await created(state, tty=WINDOW)
        waiting, ended = await created(state), await finished(state)
        for id, error in {
            plain.id: NoTerminal,
            waiting.id: NoTerminal,
            queued.id: NotRunning,
            ended.id: AlreadyFinished,
            "unknown": UnknownSubmission,
        }.items():
            with pytest.raises(error):
                await state.controls.send_resize(id, WINDOW)


async def test_sizes_for_one_attempt_are_bounded_beside_its_signals(seam: StateSeam) -> None:
    async with seam.open() as state:
        submission = await begun(state, tty=WINDOW)
        for _ in range(RESIZES_MAX):
            await state.controls.send_resize(submission.id, WINDOW)
        with pytest.raises(Rejected) as refused:
            await state.controls.send_resize(submission.id, WINDOW)
        assert refused.value.kind == "too-many"
        await state.controls.send_signal(submission.id, "SIGINT")
        await state.submissions.begin(submission, "3", "node")
        await state.controls.send_resize(submission.id, WINDOW)


async def test_a_forgotten_terminal_is_still_one(seam: StateSeam) -> None:
    async with seam.open() as state:
        submission = await begun(state, tty=WINDOW)
        seam.empty()
        await state.submissions.begin(submission, "3", "node", Taken(controls=7))
        await state.controls.send_resize(submission.id, WINDOW)
        (entry,) = await state.controls.watch(submission.id, 7)
        assert (entry.number, entry.control) == (8, Resize(WINDOW))


async def test_what_a_terminal_showed_first_outlives_an_emptying(seam: StateSeam) -> None:
    """In the heads of the result: as what it was."""
    shown = Written.of(b"$ ls\r\n")
    last = Result(Verdict.OK, run=replace(OUTCOME, stdout=shown, tty=True), finished_at=time.time())
    async with seam.open() as state:
        submission = make(tty=WINDOW)
        assert await state.submissions.finish(submission.id, 1, last, submission)
        record = await state.submissions.get(submission.id, 1000)
        assert record.output == {(RUN, "stdout"): shown.head, (RUN, "stderr"): b""}
        told = [each.event for each in await state.log.entries(submission.id, 0)]
        assert told == [Output("run", "tty", shown.head), Finished(last.without_heads())]


# who follows


async def test_a_follower_is_believed_for_a_while(seam: StateSeam) -> None:
    async with seam.open() as state:
        await state.presence.touch(["one", "two"])
        await state.presence.touch([])
        found = [await state.presence.here(each) for each in ("one", "two", "three")]
        assert found == [True, True, False]
        seam.hasten(node_ttl_s=0.1)
        await state.presence.touch({"three"})
        with trio.fail_after(SOON_S):
            while await state.presence.here("three"):  # noqa: ASYNC110  (time alone ends it)
                await trio.sleep(0.02)
        assert await state.presence.here("two")
        seam.hasten(node_ttl_s=60)
        await state.presence.touch([str(number) for number in range(1200)])
        assert await state.presence.here("1199")


# what somebody else wrote


async def test_what_a_later_version_asked_for_is_shown_and_not_queued_again(
    seam: StateSeam, capsys: pytest.CaptureFixture[str]
) -> None:
    later, ours = (make(created_at=time.time() - 100) for _ in range(2))
    message = json.loads(wire.encode_submission(later))
    message["submission"]["tests"] = [{"stdin": "1"}]
    async with seam.open() as state:
        for submission in (later, ours):
            await state.submissions.create(submission, None, "")
        seam.damage(later.id, json.dumps(message).encode())
        record = await state.submissions.get(later.id)
        assert (record.id, record.language, record.status) == (later.id, "python", "queued")
        with pytest.raises(Poisoned, match=r"submission\.tests"):
            await state.submissions.submission(later.id)
        for _ in range(3):
            assert await state.submissions.unpublished(time.time() - 30) == [ours]
        assert capsys.readouterr().out.count("waits for a version that can read it") == 1
        assert await state.submissions.cancel(later.id)
        assert await state.submissions.unpublished(time.time() - 30) == [ours]
        assert "it works again" in capsys.readouterr().out
        assert await state.submissions.cancel(ours.id)
        assert await state.submissions.unpublished(time.time() - 30) == []


@pytest.mark.parametrize("body", [b"", b"\xff", b'{"submission": {"id": "../x"}}'])
async def test_a_damaged_submission_is_one_error_and_stops_nobody(
    seam: StateSeam, body: bytes
) -> None:
    damaged, ours = (replace(make(created_at=time.time() - 100), owner="anon:me") for _ in range(2))
    async with seam.open() as state:
        for submission in (damaged, ours):
            await state.submissions.create(submission, None, "")
        seam.damage(damaged.id, body)
        with pytest.raises(Poisoned):
            await state.submissions.submission(damaged.id)
        assert (await state.submissions.get(damaged.id)).status == "queued"
        assert await state.submissions.unpublished(time.time() - 30) == [ours]


@pytest.mark.parametrize("end", [b"", b"\xff", b"1e999 {}", b'{"result": {"verdict": "graded"}}'])
async def test_a_damaged_end_is_one_error_and_still_the_end(seam: StateSeam, end: bytes) -> None:
    async with seam.open() as state:
        submission = await finished(state)
        seam.damage_end(submission.id, end)
    async with seam.open() as state:
        with pytest.raises(Unreadable):
            await state.submissions.get(submission.id)
        with pytest.raises(Unreadable):
            await state.submissions.settled(submission.id)
        *_, last = await log(state, submission.id)
        assert (last.seq, last.event) == (3, Unknown())
        with trio.fail_after(SOON_S):
            assert list(await state.log.watch(submission.id, 3)) == []


# nodes


def seen(node: Node) -> Node:
    """Without the time, which differs."""
    assert abs(node.seen_at - time.time()) < SOON_S
    return replace(node, seen_at=0.0)


async def test_nodes_are_believed_until_withdrawn(seam: StateSeam) -> None:
    one = Node("n1", ("execute",), {"python": ("3.12", "3.11")}, running=2, started_at=5.0)
    load = Load(5.0, 4, 3, 64, 2, {"python": 5}, {"ok": 7}, tuple(range(len(WAIT_BOUNDS_S) + 1)))
    one = replace(one, accepts=frozenset({"id", "a field that came later"}), load=load, holds=())
    two = Node("n2", ("execute",), {"c": ("12",)})
    async with seam.open() as state:
        assert list(await state.nodes.live()) == []
        assert not await state.nodes.announce(two)
        assert not await state.nodes.announce(one)
        assert await state.nodes.announce(one)
        assert [seen(each) for each in await state.nodes.live()] == [one, two]
        await state.nodes.withdraw(one)
        await state.nodes.withdraw(Node("unknown", ("ws",)))
        assert [seen(each) for each in await state.nodes.live()] == [two]
        assert not await state.nodes.announce(one)


async def test_the_roles_of_a_node_are_one_node(seam: StateSeam) -> None:
    load = Load(5.0, 4, 3, 64, 2, {}, {}, (0,) * (len(WAIT_BOUNDS_S) + 1))
    execute = Node("n1", ("execute",), {"c": ("12",)}, running=2, started_at=5.0, load=load)
    execute = replace(execute, holds=("memory", "cpu"), warm=("cpp",))
    ws = Node("n1", ("ws",), connections=3, following=4, started_at=4.0)
    async with seam.open() as state:
        await state.nodes.announce(ws)
        await state.nodes.announce(execute)
        (node,) = await state.nodes.live()
        both = Node("n1", ("execute", "ws"), {"c": ("12",)}, 2, 3, 4, started_at=4.0, load=load)
        assert seen(node) == replace(both, holds=("memory", "cpu"), warm=("cpp",))
        await state.nodes.withdraw(ws)
        assert [seen(each) for each in await state.nodes.live()] == [execute]


async def test_a_node_that_falls_silent_is_forgotten(seam: StateSeam) -> None:
    seam.hasten(node_ttl_s=0.3)
    gone, kept = Node("gone", ("ws",)), Node("kept", ("ws",))
    async with seam.open() as state:
        await state.nodes.announce(gone)
        with trio.fail_after(SOON_S):
            while True:
                await state.nodes.announce(kept)
                if [each.name for each in await state.nodes.live()] == ["kept"]:
                    break
                await trio.sleep(0.02)


# expiry


async def test_results_and_events_expire_after_their_time_and_the_unfinished_never(
    seam: StateSeam,
) -> None:
    seam.hasten(node_ttl_s=15)
    ancient = make(created_at=1.0)
    async with seam.open(keep_s=3600) as state:
        await state.submissions.create(ancient, None, "")
        running, fresh, old = await begun(state), await finished(state), await begun(state)
        await state.submissions.finish(old.id, 1, result(at=time.time() - 3601))
        with trio.fail_after(SOON_S):
            await _forgotten(state, old.id)
        with pytest.raises(UnknownSubmission):
            await state.log.watch(old.id, 0)
        assert (await state.submissions.get(ancient.id)).status == "queued"
        assert (await state.submissions.get(running.id)).status == "running"
        assert (await state.submissions.get(fresh.id)).status == "finished"


async def test_expiry_frees_the_idempotency_key(seam: StateSeam) -> None:
    seam.hasten(node_ttl_s=15)
    submission, again = make(), make()
    async with seam.open(keep_s=0.05) as state:
        await state.submissions.create(submission, "key", "digest")
        await state.submissions.begin(submission, "3", "node")
        await state.submissions.finish(submission.id, 1, result())
        with trio.fail_after(SOON_S):
            await _forgotten(state, submission.id)
        assert (await state.submissions.create(again, "key", "other")).id == again.id


async def test_a_crash_does_not_keep_things_from_expiring(seam: StateSeam) -> None:
    async with seam.open() as state:
        many = [make() for _ in range(450)]  # more than one step of expiry removes
        async with trio.open_nursery() as nursery:
            for each in many:
                nursery.start_soon(state.submissions.begin, each, "3", "node")
        async with trio.open_nursery() as nursery:
            for each in many:
                nursery.start_soon(state.submissions.finish, each.id, 1, result(at=1.0))
        seam.crash()
    async with seam.open() as state:
        with trio.fail_after(SOON_S):
            for each in many:
                await _forgotten(state, each.id)


async def _forgotten(state: State, id: str) -> None:
    while True:
        try:
            await state.submissions.get(id)
        except UnknownSubmission:
            return
        await trio.sleep(0.02)


async def test_warnings_name_nothing_where_all_is_durable(seam: StateSeam) -> None:
    async with seam.open() as state:
        assert list(await state.store.warnings()) == []


async def test_check_passes_while_a_submission_could_be_recorded(seam: StateSeam) -> None:
    async with seam.open() as state:
        await state.store.check()


# Blobs


async def test_bytes_of_a_subject_are_there_after_a_crash(seam: StateSeam) -> None:
    data = bytes(range(256)) * 1000
    digest = sha256(data).hexdigest()
    async with seam.open() as state:
        one, other = await begun(state), await begun(state)
        for _ in range(2):  # a repetition changes nothing
            await state.blobs.put(one.id, digest, data)
        seam.crash()
    async with seam.open() as state:
        assert await state.blobs.get(one.id, digest) == data
        assert await state.blobs.get(other.id, digest) is None
        assert await state.blobs.get(one.id, "0" * 64) is None
        assert len(data) <= state.blobs.bytes_max
        await state.blobs.forget(one.id)
        await state.blobs.forget(other.id)
        assert await state.blobs.get(one.id, digest) is None


# inboxes


async def letters(state: State, node: str, reader: int, after: int = 0) -> list[tuple[int, bytes]]:
    """The seat and the data of each letter; there is one."""
    with trio.fail_after(SOON_S):
        return [(each.seat, each.data) for each in await state.inboxes.watch(node, reader, after)]


async def insist(state: State, node: str, data: bytes) -> None:
    """Send it as soon as the reader has been heard."""
    with trio.fail_after(SOON_S):
        while True:
            try:
                return await state.inboxes.send(node, 0, data)
            except NodeGone:
                await trio.sleep(0.01)


async def test_letters_reach_the_node_that_they_are_for_in_order(seam: StateSeam) -> None:
    async with seam.open() as state:
        one, two = await state.inboxes.open("host:1"), await state.inboxes.open("host:2")
        await state.inboxes.send("host:1", 3, b" 1 2 \xff")
        await state.inboxes.send("host:2", 0, b"other")
        await state.inboxes.send("host:1", 0, b"")
        assert await letters(state, "host:1", one) == [(3, b" 1 2 \xff"), (0, b"")]
        assert await letters(state, "host:2", two) == [(0, b"other")]


async def test_who_watches_an_inbox_is_woken_by_letters_to_it(seam: StateSeam) -> None:
    """At once, not when the reader is heard again."""
    async with seam.open() as state:
        one, two = await state.inboxes.open("one"), await state.inboxes.open("two")
        unrelated = Waiting()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(unrelated.run, partial(state.inboxes.watch, "two", two, 0))
            after = 0
            for _ in range(2):
                watch = partial(state.inboxes.watch, "one", one, after)
                await assert_waits_for(watch, state.inboxes.send("one", 0, b"x"))
                after = (await state.inboxes.watch("one", one, after))[-1].number
            await unrelated.assert_still()
            nursery.cancel_scope.cancel()


async def test_a_letter_comes_again_until_it_was_handled(seam: StateSeam) -> None:
    async with seam.open() as state:
        reader = await state.inboxes.open("node")
        for data in (b"one", b"two", b"three"):
            await state.inboxes.send("node", 0, data)
        found = await state.inboxes.watch("node", reader, 0)
        assert [each.number for each in found] == sorted({each.number for each in found})
        assert await state.inboxes.watch("node", reader, found[0].number) == found[1:]
        assert await state.inboxes.watch("node", reader, 0) == found
        await state.inboxes.handled("node", reader, found[0].number)
        assert await state.inboxes.watch("node", reader, 0) == found[1:]
        later = await state.inboxes.open("node")  # the earlier one was cut off
        assert await state.inboxes.watch("node", later, 0) == found[1:]
        await state.inboxes.handled("node", later, found[2].number)
        await state.inboxes.send("node", 0, b"four")
        assert await letters(state, "node", later) == [(0, b"four")]


async def test_only_the_process_that_opened_an_inbox_last_reads_it(seam: StateSeam) -> None:
    async with seam.open() as state:
        first = await state.inboxes.open("node")

        async def wait() -> None:
            with pytest.raises(Stale):
                await state.inboxes.watch("node", first, 0)

        await assert_waits_for(wait, state.inboxes.open("node"))
        second = await state.inboxes.open("node")
        await state.inboxes.send("node", 0, b"x")
        for step in (
            state.inboxes.watch("node", first, 0),
            state.inboxes.handled("node", first, 2**60),
            state.inboxes.close("node", first),
        ):
            with pytest.raises(Stale):
                await step
        assert await letters(state, "node", second) == [(0, b"x")]


async def test_a_letter_to_a_node_that_nobody_reads_for_is_refused(seam: StateSeam) -> None:
    async with seam.open() as state:
        with pytest.raises(NodeGone):
            await state.inboxes.send("node", 0, b"x")
        reader = await state.inboxes.open("node")
        await state.inboxes.send("node", 0, b"x")
        await state.inboxes.close("node", reader)
        with pytest.raises(NodeGone):
            await state.inboxes.send("node", 0, b"x")
        reader = await state.inboxes.open("node")
        await state.inboxes.send("node", 0, b"y")
        assert await letters(state, "node", reader) == [(0, b"y")]


async def test_an_inbox_takes_no_more_than_its_bound(seam: StateSeam) -> None:
    async with seam.open() as state:
        reader = await state.inboxes.open("node")
        with pytest.raises(Rejected):
            await state.inboxes.send("node", 0, bytes(LETTER_MAX + 1))
        for _ in range(LETTERS_MAX):
            await state.inboxes.send("node", 0, b"x")
        with pytest.raises(InboxFull):
            await state.inboxes.send("node", 0, b"x")
        last = (await state.inboxes.watch("node", reader, 0))[-1].number
        await state.inboxes.handled("node", reader, last)
        fitting = LETTERS_BYTES_MAX // LETTER_MAX - 1
        for _ in range(fitting):
            await state.inboxes.send("node", 0, bytes(LETTER_MAX))
        with pytest.raises(InboxFull):
            await state.inboxes.send("node", 0, bytes(LETTER_MAX))
        found: list[Letter] = []
        while len(found) < fitting:
            part = await state.inboxes.watch("node", reader, found[-1].number if found else 0)
            assert len(part) * LETTER_MAX <= WATCH_BYTES + LETTER_MAX
            found += part
        await state.inboxes.handled("node", reader, found[0].number)
        await state.inboxes.send("node", 0, bytes(LETTER_MAX))


async def test_a_node_whose_reader_is_silent_is_gone_with_its_letters(seam: StateSeam) -> None:
    seam.hasten(node_ttl_s=0.3)
    async with seam.open() as state:
        await state.inboxes.open("node")

        async def send_on() -> None:
            while True:
                await state.inboxes.send("node", 0, b"old")
                await trio.sleep(0.02)

        with trio.fail_after(SOON_S), pytest.raises(NodeGone):
            await send_on()
        seam.hasten(node_ttl_s=15)
        reader = await state.inboxes.open("node")
        await state.inboxes.send("node", 0, b"new")
        assert await letters(state, "node", reader) == [(0, b"new")]


async def test_a_reader_that_waits_is_heard(seam: StateSeam) -> None:
    ttl_s = 0.3
    seam.hasten(node_ttl_s=ttl_s)
    async with seam.open() as state:
        reader = await state.inboxes.open("node")

        async def send() -> None:
            while True:
                await trio.sleep(4 * ttl_s)
                await insist(state, "node", b"x")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            assert (await letters(state, "node", reader))[0] == (0, b"x")
            nursery.cancel_scope.cancel()


async def test_a_letter_that_nobody_handled_in_time_is_dropped(seam: StateSeam) -> None:
    ttl_s = 0.3
    seam.hasten(node_ttl_s=ttl_s)
    async with seam.open() as state:
        reader = await state.inboxes.open("node")
        await insist(state, "node", bytes(LETTER_MAX))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(state.inboxes.watch, "node", reader, 2**60)  # it is heard
            await trio.sleep(2 * ttl_s)
            too_late = Waiting()
            nursery.start_soon(too_late.run, partial(state.inboxes.watch, "node", reader, 0))
            await too_late.assert_still()
            for _ in range(LETTERS_BYTES_MAX // LETTER_MAX - 1):  # its place is free
                await insist(state, "node", bytes(LETTER_MAX))
            nursery.cancel_scope.cancel()


async def test_after_an_emptying_a_reader_misses_no_letter_that_was_sent(seam: StateSeam) -> None:
    async with seam.open() as state:
        reader = await state.inboxes.open("node")
        await state.inboxes.send("node", 0, b"before")
        before = (await state.inboxes.watch("node", reader, 0))[-1].number
        await state.inboxes.handled("node", reader, before)
        seam.empty()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(insist, state, "node", b"after")
            assert await letters(state, "node", reader, before) == [(0, b"after")]
