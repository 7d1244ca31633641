"""What execute and notify promise together over the embedded broker and state, whatever the sandbox
does: it is a fake here, so that it can fail."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trio
from seams import QUIET_S, SOON_S

from occd import wire
from occd.broker import Broker, open_broker
from occd.config import Config, ExecuteConfig
from occd.errors import BrokerError, DataFolderError, SandboxFailed
from occd.languages import Available, Installed, Language, load_languages
from occd.model import Event, File, Limits, Outcome, Record, Result, Submission, Verdict, new_id
from occd.roles.execute import Execute
from occd.roles.notify import Notify
from occd.sandbox import Cell, Emit, Job
from occd.sqlite import open_database
from occd.state import State, open_state

FINE = Outcome(0, None, None, b"done\n", b"", False, False, 0.0, 0.0, 0)
Q = "submission_queue"


@dataclass
class FakeSandbox:
    """Runs what the test says: an outcome, or an exception of ours."""

    behave: Callable[[Emit, trio.Event], Awaitable[Outcome]]
    isolation: Sequence[str] = ()
    runs: int = 0
    languages: dict[str, Language] = field(default_factory=load_languages)
    available: Available = field(
        default_factory=lambda: {"python": (Installed("3.11.2", "/usr/bin/python3"),)}
    )

    @asynccontextmanager
    async def cell(
        self, language: Language, files: Sequence[File], limits: Limits
    ) -> AsyncIterator[Cell]:
        yield self

    async def run(
        self,
        job: Job,
        stdin: trio.MemoryReceiveChannel[bytes],
        emit: Emit,
        stop: trio.Event,
        signals: trio.MemoryReceiveChannel[int] | None = None,
    ) -> Outcome:
        self.runs += 1
        emit("stdout", b"done\n")
        return await self.behave(emit, stop)


@dataclass
class Flow:
    config: Config
    broker: Broker
    state: State
    sandbox: FakeSandbox

    async def submit(self) -> Submission:
        submission = Submission(
            new_id(), "python", None, "main.py", (File("main.py", b""),), created_at=time.time()
        )
        await self.state.create(submission, None, "")
        await self.publish(submission, wire.encode_submission(submission))
        await self.state.published(submission.id)
        return submission

    async def publish(self, submission: Submission, body: bytes, queue: str = Q) -> None:
        await self.broker.publish(queue, body, key=submission.id, owner=None)

    async def settled(self, submission: Submission) -> tuple[Record, Result]:
        with trio.fail_after(SOON_S):
            record = await self.state.settled(submission.id)
        assert record.result
        return record, record.result

    async def names(self, submission: Submission) -> list[str]:
        with trio.fail_after(SOON_S):
            return [each.event.name for each in await self.state.watch(submission.id, 0)]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        roles = (
            Notify(self.config, self.broker, self.state),
            Execute(self.config, self.broker, self.state, self.sandbox),
        )
        async with trio.open_nursery() as nursery:
            for role in roles:
                await nursery.start(role.run)
            yield
            nursery.cancel_scope.cancel()


async def end_well(emit: Emit, stop: trio.Event) -> Outcome:
    await trio.lowlevel.checkpoint()
    return FINE


async def fail(emit: Emit, stop: trio.Event) -> Outcome:
    await trio.lowlevel.checkpoint()
    raise SandboxFailed("the jail could not be made")


@pytest.fixture
async def flow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Flow]:
    monkeypatch.setattr("occd.roles.execute._RETRY_S", 0.01)
    monkeypatch.setattr("occd.roles.notify._RETRY_S", 0.01)
    config = Config(data_dir=tmp_path, execute=ExecuteConfig(slots=2))
    async with (
        open_database(tmp_path) as database,
        open_broker(config, database) as broker,
        open_state(config, database) as state,
    ):
        yield Flow(config, broker, state, FakeSandbox(end_well))


async def test_a_submission_goes_from_queued_to_finished(flow: Flow) -> None:
    async with flow.running():
        submission = await flow.submit()
        record, result = await flow.settled(submission)
        assert (result.verdict, result.run, result.attempts) == (Verdict.OK, FINE, 1)
        assert (record.attempts, result.version) == (1, "3.11.2")
        assert await flow.names(submission) == [
            "queued", "started", "stage", "output", "stage", "finished"
        ]  # fmt: skip


async def test_our_third_failure_is_an_internal_error(flow: Flow) -> None:
    flow.sandbox.behave = fail
    async with flow.running():
        record, result = await flow.settled(await flow.submit())
        assert (result.verdict, record.attempts, flow.sandbox.runs) == ("internal_error", 3, 3)


async def test_our_second_failure_is_mended_by_the_third_attempt(flow: Flow) -> None:
    async def mend(emit: Emit, stop: trio.Event) -> Outcome:
        return await (fail if flow.sandbox.runs < 3 else end_well)(emit, stop)

    flow.sandbox.behave = mend
    async with flow.running():
        _, result = await flow.settled(await flow.submit())
        assert (result.verdict, result.attempts) == (Verdict.OK, 3)


async def test_a_message_that_comes_again_while_it_runs_is_dropped(flow: Flow) -> None:
    both, go = trio.Event(), trio.Event()

    async def wait(emit: Emit, stop: trio.Event) -> Outcome:
        if flow.sandbox.runs == 2:
            both.set()
        await go.wait()
        return FINE

    flow.sandbox.behave = wait
    async with flow.running():
        submission = await flow.submit()
        for _ in range(5):
            await flow.publish(submission, wire.encode_submission(submission))
        other = await flow.submit()
        with trio.fail_after(SOON_S):
            await both.wait()  # the other one runs: the copies before it are dealt with
        go.set()
        for each in (submission, other):
            _, result = await flow.settled(each)
            assert (result.verdict, result.attempts) == (Verdict.OK, 1)
        assert flow.sandbox.runs == 2


async def test_copies_at_any_moment_give_one_result(flow: Flow) -> None:
    async with flow.running():
        submission = await flow.submit()
        for _ in range(5):
            await flow.publish(submission, wire.encode_submission(submission))
        _, result = await flow.settled(submission)
        await flow.settled(await flow.submit())  # the copies are dealt with
        assert result.verdict == Verdict.OK
        assert (await flow.names(submission)).count("finished") == 1
        assert (await flow.settled(submission))[1] == result


async def test_a_cancelled_run_is_stopped_and_keeps_its_output(flow: Flow) -> None:
    started = trio.Event()

    async def until_stopped(emit: Emit, stop: trio.Event) -> Outcome:
        started.set()
        await stop.wait()
        return FINE

    flow.sandbox.behave = until_stopped
    async with flow.running():
        submission = await flow.submit()
        with trio.fail_after(SOON_S):
            await started.wait()
        await flow.state.cancel(submission.id)
        _, result = await flow.settled(submission)
        assert (result.verdict, result.run) == (Verdict.CANCELLED, FINE)


async def test_what_was_cancelled_in_the_queue_never_runs(flow: Flow) -> None:
    submission = await flow.submit()
    await flow.state.cancel(submission.id)
    async with flow.running():
        await flow.settled(await flow.submit())
        assert flow.sandbox.runs == 1
        assert await flow.names(submission) == ["queued", "finished"]


@pytest.mark.parametrize("queue", [Q, "execution_queue"])
async def test_a_poisoned_message_ends_its_submission_as_internal_error(
    flow: Flow, queue: str
) -> None:
    async with flow.running():
        submission = Submission(new_id(), "python", None, "main.py", ())
        await flow.state.create(submission, None, "")
        await flow.publish(submission, b'{"v": 99}', queue)
        _, result = await flow.settled(submission)
        assert result.verdict == Verdict.INTERNAL_ERROR
        await flow.settled(await flow.submit())  # and nothing else is the worse for it


async def test_a_language_that_went_away_is_an_internal_error(flow: Flow) -> None:
    flow.sandbox.available = {}
    async with flow.running():
        _, result = await flow.settled(await flow.submit())
        assert result.verdict == Verdict.INTERNAL_ERROR
        assert "not installed" in (result.message or "")


async def test_an_outage_of_state_is_never_a_verdict(
    flow: Flow, monkeypatch: pytest.MonkeyPatch
) -> None:
    append, finish = flow.state.append, flow.state.finish
    calls = 0

    def refuse_often() -> None:
        nonlocal calls
        calls += 1
        if calls % 4:
            raise DataFolderError("the disk is full")

    async def append_seldom(id: str, attempt: int, events: Sequence[Event]) -> None:
        refuse_often()
        await append(id, attempt, events)

    async def finish_seldom(id: str, attempt: int | None, result: Result) -> bool:
        refuse_often()
        return await finish(id, attempt, result)

    monkeypatch.setattr(flow.state, "append", append_seldom)
    monkeypatch.setattr(flow.state, "finish", finish_seldom)
    async with flow.running():
        submission = await flow.submit()
        _, result = await flow.settled(submission)
        assert (result.verdict, result.attempts) == (Verdict.OK, 1)
        assert (await flow.names(submission))[-3:] == ["output", "stage", "finished"]


async def test_an_outage_of_the_broker_runs_nothing_twice(
    flow: Flow, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish, refused = flow.broker.publish, 0

    async def refuse_first(queue: str, body: bytes, *, key: str, owner: str | None) -> None:
        nonlocal refused
        if queue == "execution_queue" and refused < 3:
            refused += 1
            raise BrokerError("the broker is gone")
        await publish(queue, body, key=key, owner=owner)

    monkeypatch.setattr(flow.broker, "publish", refuse_first)
    async with flow.running():
        _, result = await flow.settled(await flow.submit())
        assert (result.verdict, result.attempts, flow.sandbox.runs) == (Verdict.OK, 1, 1)


async def test_a_later_attempt_stops_an_earlier_one_and_its_result_is_dropped(flow: Flow) -> None:
    started, stopped = trio.Event(), trio.Event()

    async def talk_until_stopped(emit: Emit, stop: trio.Event) -> Outcome:
        started.set()
        while not stop.is_set():  # noqa: ASYNC110
            emit("stdout", b"still here\n")
            await trio.sleep(0.02)
        stopped.set()
        return FINE

    flow.sandbox.behave = talk_until_stopped
    async with flow.running():
        submission = await flow.submit()
        with trio.fail_after(SOON_S):
            await started.wait()
            assert await flow.state.begin(submission, "3", "another node") == 2
            await stopped.wait()
        await trio.sleep(QUIET_S)
        assert (await flow.state.get(submission.id)).status == "running"
        assert await flow.state.finish(submission.id, 2, Result(Verdict.OK, finished_at=1.0))
        names = await flow.names(submission)
        assert names[-2:] == ["started", "finished"]
