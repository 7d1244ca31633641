"""What execute and notify promise together over every broker and state, whatever the sandbox
does: it is a fake here, so that it can fail."""

import errno
import hashlib
import json
import logging
import random
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import pytest
import structlog
import trio
from fake_sandbox import Emit, FakeSandbox, FakeWindow
from seams import BROKER_SEAMS, QUIET_S, SOON_S, STATE_SEAMS, EmbeddedStateSeam, StateSeam
from structlog.contextvars import bind_contextvars, get_contextvars

from occd import judging, wire
from occd.broker import Broker, Delivery, open_broker
from occd.config import Config, ExecuteConfig
from occd.errors import (
    BrokerError,
    DataFolderError,
    EventsReset,
    SandboxFailed,
    StateUnavailable,
    UnknownSubmission,
)
from occd.events import Event, Output, Queued
from occd.languages import Language
from occd.languages.fields import Formatter
from occd.languages.installed import Available, Installed, InstalledFormatter
from occd.languages.packages import Packages
from occd.log import set_up_logging
from occd.model import (
    HEAD_BYTES,
    HEADS_BYTES,
    RUN,
    File,
    Limits,
    Outcome,
    Record,
    Result,
    Spent,
    Submission,
    Terminal,
    Verdict,
    Written,
    new_id,
)
from occd.origin import coming_from
from occd.queues import requeue
from occd.roles.execute import Execute
from occd.roles.following import Following
from occd.roles.notify import Notify
from occd.sandbox import Cell, Collected, Ended, Packed, Run, Running, Tree
from occd.scopes import cancel_when
from occd.sqlite import open_database
from occd.state import Presence, State, open_state
from occd.together import Together, together

FINE = Outcome(0, None, None, Written(5), Written(), 0.0, 0.0, 0)
Q = "submission_queue"


@dataclass
class Flow:
    config: Config
    broker: Broker
    state: State
    sandbox: FakeSandbox
    seam: StateSeam

    async def submit(self, **fields: Any) -> Submission:
        usual = {"language": "python", "version": None, "files": (File("main.py", b""),)}
        submission = Submission(
            id=new_id(), main="main.py", created_at=time.time(), **(usual | fields)
        )
        await self.state.submissions.create(submission, None, "")
        await self.publish(submission, wire.encode_submission(submission))
        await self.state.submissions.published(submission.id)
        return submission

    async def publish(self, submission: Submission, body: bytes, queue: str = Q) -> None:
        await self.broker.publish(queue, body, key=submission.id, owner=None)

    async def settled(self, submission: Submission) -> tuple[Record, Result]:
        with trio.fail_after(SOON_S):
            record = await self.state.submissions.settled(submission.id)
        assert record.result
        return record, record.result

    async def names(self, submission: Submission) -> list[str]:
        with trio.fail_after(SOON_S):
            return [each.event.name for each in await self.state.log.watch(submission.id, 0)]

    @asynccontextmanager
    async def running(
        self, memory_used: Callable[[], float] = lambda: 0.0
    ) -> AsyncIterator[Execute]:
        execute = Execute(self.config, self.broker, self.state, self.sandbox, memory_used)
        async with trio.open_nursery() as nursery:
            for role in (Notify(self.config, self.broker, self.state), execute):
                await nursery.start(role.run)
            yield execute
            nursery.cancel_scope.cancel()


class Concluding:
    """Calls a function before each try to conclude an attempt: to queue its result, or to store it."""

    def __init__(self, flow: Flow, monkeypatch: pytest.MonkeyPatch) -> None:
        self._before: Callable[[], None] = lambda: None
        publish, finish = flow.broker.publish, Together.finish

        async def publish_after(queue: str, body: bytes, *, key: str, owner: str | None) -> None:
            if queue == flow.config.execution_queue:
                self._before()
            await publish(queue, body, key=key, owner=owner)

        async def finish_after(together: Together, *args: Any) -> bool:
            self._before()
            return await finish(together, *args)

        monkeypatch.setattr(flow.broker, "publish", publish_after)
        monkeypatch.setattr(Together, "finish", finish_after)

    def after(self, before: Callable[[], None]) -> None:
        self._before = before


async def end_well(emit: Emit, stop: trio.Event) -> Outcome:
    await trio.lowlevel.checkpoint()
    return FINE


async def fail(emit: Emit, stop: trio.Event) -> Outcome:
    await trio.lowlevel.checkpoint()
    raise SandboxFailed("the jail could not be made")


ONE_FILE = "one file"
SEAMS = {
    ONE_FILE: ("embedded", "embedded"),
    "embedded": ("embedded", "embedded"),
    "embedded broker": ("embedded", "redis"),
    "cluster": ("rabbitmq", "redis"),
}
"""One file is what a daemon has, and what `occd/together.py` is for. The embedded two in a file of each show
that they need no common file."""

APART = [name for name in SEAMS if name != ONE_FILE]
"""A result waits in a queue for notify."""

EMPTIED = [name for name, (_, state) in SEAMS.items() if state == "redis"]
"""Somebody can empty the state of these."""


@pytest.fixture(params=SEAMS)
async def flow(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Flow]:
    monkeypatch.setattr("occd.roles.execute._RETRY_S", 0.01)
    monkeypatch.setattr("occd.execution.attempt._RETRY_S", 0.01)
    monkeypatch.setattr("occd.roles.notify._RETRY_S", 0.01)
    config = Config(data_dir=tmp_path, execute=ExecuteConfig(slots=2))
    broker_name, state_name = SEAMS[request.param]
    broker_seam = BROKER_SEAMS[broker_name](tmp_path / "broker", monkeypatch)
    state_seam = STATE_SEAMS[state_name](tmp_path / "state", monkeypatch)
    async with AsyncExitStack() as stack:
        if request.param == ONE_FILE:
            assert isinstance(state_seam, EmbeddedStateSeam)
            folder = state_seam.folder
            database = await stack.enter_async_context(open_database(folder))
            broker = await stack.enter_async_context(open_broker(config, database))
            state = await stack.enter_async_context(open_state(config, database))
        else:
            broker = await stack.enter_async_context(broker_seam.open())
            state = await stack.enter_async_context(state_seam.open())
        assert (together(config, broker, state) is not None) == (request.param == ONE_FILE)
        yield Flow(config, broker, state, FakeSandbox(end_well), state_seam)


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


async def test_a_lack_of_descriptors_is_no_attempt_of_the_program(flow: Flow) -> None:
    async def lack(emit: Emit, stop: trio.Event) -> Outcome:
        if flow.sandbox.runs > 5:
            return await end_well(emit, stop)
        try:
            raise OSError(errno.EMFILE, "Too many open files")
        except OSError as error:
            raise SandboxFailed("the jail could not be made") from error

    flow.sandbox.behave = lack
    async with flow.running():
        _, result = await flow.settled(await flow.submit())
        assert (result.verdict, flow.sandbox.runs) == (Verdict.OK, 6)


async def test_no_more_than_its_slots_run_after_a_time_without_jails(flow: Flow) -> None:
    go, at_once, most = trio.Event(), 0, 0

    async def wait(emit: Emit, stop: trio.Event) -> Outcome:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await go.wait()
        at_once -= 1
        return FINE

    flow.sandbox.behave = wait
    async with flow.running() as execute:
        submissions = [await flow.submit() for _ in range(6)]
        with trio.fail_after(SOON_S):
            while flow.sandbox.runs < 2:  # noqa: ASYNC110
                await trio.sleep(0.01)
            flow.sandbox.stuck = "no jail stands"
            await execute.fitness.until(fit=False)
            flow.sandbox.stuck = None
            await execute.fitness.until(fit=True)
        await trio.sleep(QUIET_S)
        go.set()
        for submission in submissions:
            assert (await flow.settled(submission))[1].verdict == "ok"
    assert most == 2


async def test_the_log_names_what_failed(flow: Flow, capsys: pytest.CaptureFixture[str]) -> None:
    flow.sandbox.behave = fail
    async with flow.running():
        await flow.settled(await flow.submit())
    said = capsys.readouterr().out
    assert "the jail could not be made" in said
    assert "sub-exception" not in said


NAMES = {
    "request_id": "mine-1",
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
}


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], list[str]]]:
    """The events that the log tells of a submission. Each line has the names of its request."""
    root, path = logging.getLogger(), tmp_path / "log"
    handlers = root.handlers[:]

    def told(id: str) -> list[str]:
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        found = [line for line in lines if line.get("submission") == id]
        for line in found:
            assert {name: line.get(name) for name in NAMES} == NAMES, line
        return [line["event"] for line in found]

    with path.open("w") as stream:
        monkeypatch.setattr("sys.stderr", stream)
        set_up_logging("json", "debug")
        yield told
        root.handlers[:] = handlers
        structlog.reset_defaults()


async def test_every_attempt_and_its_result_tell_the_request_in_the_log(
    flow: Flow, told: Callable[[str], list[str]]
) -> None:
    async def mend(emit: Emit, stop: trio.Event) -> Outcome:
        return await (fail if flow.sandbox.runs < 3 else end_well)(emit, stop)

    flow.sandbox.behave = mend
    async with flow.running():
        with coming_from(NAMES):
            submission = await flow.submit()
        other = await flow.submit()  # whose lines have no names
        for each in (submission, other):
            await flow.settled(each)
    events = told(submission.id)
    assert events.count("an attempt begins") == 1 + events.count("attempt failed") > 1
    assert events[-2:] == ["an attempt ended", "a result is stored"]
    with pytest.raises(AssertionError):
        told(other.id)


@pytest.mark.parametrize("queue", [Q, "execution_queue"])
async def test_a_dead_letter_and_its_second_life_tell_the_request_in_the_log(
    flow: Flow, queue: str, told: Callable[[str], list[str]]
) -> None:
    poison = b'{"v": 99}'
    async with flow.running():
        with coming_from(NAMES):
            submission = Submission(new_id(), "python", None, "main.py", (File("main.py", b""),))
            await flow.state.submissions.create(submission, None, "")
            await flow.publish(submission, poison, queue)
        await flow.settled(submission)
        with trio.fail_after(SOON_S):
            while not await flow.broker.kept(queue):  # noqa: ASYNC110
                await trio.sleep(0.02)
        assert told(submission.id) == ["poisoned message", "dead letter"]
        bind_contextvars(request_id="of-the-operator")
        again = await requeue(flow.config, flow.broker, flow.state, submission.id)
        await flow.state.submissions.settled(again)
        assert get_contextvars()["request_id"] == "of-the-operator"
    assert told(again) == ["an attempt begins", "an attempt ended", "a result is stored"]


async def test_our_second_failure_is_mended_by_the_third_attempt(flow: Flow) -> None:
    async def mend(emit: Emit, stop: trio.Event) -> Outcome:
        return await (fail if flow.sandbox.runs < 3 else end_well)(emit, stop)

    flow.sandbox.behave = mend
    async with flow.running():
        _, result = await flow.settled(await flow.submit())
        assert (result.verdict, result.attempts) == (Verdict.OK, 3)


async def test_a_message_that_comes_again_while_it_runs_is_dropped(
    flow: Flow, monkeypatch: pytest.MonkeyPatch
) -> None:
    go, all_but_one, ended, handle = trio.Event(), trio.Event(), 0, Execute._handle

    async def counted(*delivery: Any) -> None:
        nonlocal ended
        await handle(*delivery)
        ended += 1
        if ended == 6:  # five copies in any order, and the other submission
            all_but_one.set()

    async def wait(emit: Emit, stop: trio.Event) -> Outcome:
        if flow.sandbox.runs == 1:
            await go.wait()
        return FINE

    monkeypatch.setattr(Execute, "_handle", counted)
    flow.sandbox.behave = wait
    async with flow.running():
        submission = await flow.submit()
        with trio.fail_after(SOON_S):
            while flow.sandbox.runs < 1:  # noqa: ASYNC110
                await trio.sleep(0.01)
        for _ in range(5):
            await flow.publish(submission, wire.encode_submission(submission))
        other = await flow.submit()
        with trio.fail_after(SOON_S):
            await all_but_one.wait()
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


async def test_stdin_that_no_program_reads_holds_up_no_signal_and_no_cancel(flow: Flow) -> None:
    started = trio.Event()

    async def read_nothing(emit: Emit, stop: trio.Event) -> Outcome:
        started.set()
        assert flow.sandbox.signals
        assert await flow.sandbox.signals.receive() == 2
        await flow.state.submissions.cancel(submission.id)
        await stop.wait()
        return FINE

    flow.sandbox.behave = read_nothing
    async with flow.running():
        submission = await flow.submit(interactive=True)
        await started.wait()
        for _ in range(16):
            await flow.state.controls.send_stdin(submission.id, bytes(2**16), None, end=False)
        await flow.state.controls.send_signal(submission.id, "SIGINT")
        _, result = await flow.settled(submission)
    assert result.verdict == Verdict.CANCELLED


async def test_signals_reach_the_stage_that_runs(flow: Flow) -> None:
    started = trio.Event()

    async def until_signalled(emit: Emit, stop: trio.Event) -> Outcome:
        started.set()
        assert flow.sandbox.signals
        assert [await flow.sandbox.signals.receive() for _ in range(2)] == [2, 18]
        return FINE

    flow.sandbox.behave = until_signalled
    async with flow.running():
        submission = await flow.submit()
        with trio.fail_after(SOON_S):
            await started.wait()
        await flow.state.controls.send_signal(submission.id, "SIGINT")
        await flow.state.controls.send_signal(
            submission.id, "SIGNOBODYKNOWS"
        )  # a later version may send some
        await flow.state.controls.send_signal(submission.id, "SIGCONT")
        _, result = await flow.settled(submission)
        assert result.verdict == Verdict.OK


async def test_a_terminal_has_the_size_that_it_was_given_last(flow: Flow) -> None:
    """Also in the attempt after one that was lost."""
    window, started = flow.sandbox.window, trio.Event()

    async def until_resized(emit: Emit, stop: trio.Event) -> Outcome:
        started.set()
        while (50, 132) not in window.sizes[-2:]:
            window.told = trio.Event()
            await window.told.wait()
        if flow.sandbox.runs == 1:
            window.sizes.clear()
            raise SandboxFailed("the jail is gone")
        return FINE

    flow.sandbox.behave = until_resized
    async with flow.running():
        submission = await flow.submit(interactive=True, tty=Terminal(24, 80))
        with trio.fail_after(SOON_S):
            await started.wait()
        await flow.state.controls.send_resize(submission.id, Terminal(50, 132))
        _, result = await flow.settled(submission)
    assert (result.verdict, result.attempts) == (Verdict.OK, 2)
    assert window.sizes[-1] == (50, 132)


async def until_stopped(emit: Emit, stop: trio.Event) -> Outcome:
    await stop.wait()
    return FINE


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has left is noticed soon."""
    monkeypatch.setattr("occd.execution.attempt._LEFT_S", 0.3)
    monkeypatch.setattr("occd.execution.attempt._LOOK_S", 0.2)
    monkeypatch.setattr("occd.roles.following.RENEW_S", 0.05)
    monkeypatch.setattr("occd.roles.following.NEW_S", 0.05)
    for kind in ("embedded", "redis"):
        monkeypatch.setattr(f"occd.state.{kind}.presence.PRESENT_S", 1.0)


LEFT = "Nobody followed the program for 0.3 s, so it was ended. Submit it with detached: true"
LONG_ENOUGH_S = 2.0
"""More than who is left has under `hasty`."""


async def test_an_interactive_program_that_nobody_follows_ends_and_says_why(
    flow: Flow, hasty: None
) -> None:
    flow.sandbox.behave = until_stopped
    async with flow.running():
        _, result = await flow.settled(await flow.submit(interactive=True))
    assert (result.verdict, result.attempts) == (Verdict.CANCELLED, 1)
    assert result.message
    assert result.message.startswith(LEFT)


@pytest.mark.parametrize("way", ["following", "settled"])
async def test_it_runs_for_as_long_as_somebody_follows_it(
    flow: Flow, hasty: None, way: str
) -> None:
    flow.sandbox.behave = until_stopped
    following = Following(flow.state)

    async def read(id: str) -> None:
        with following.following(id):
            await trio.sleep_forever()

    async def wait(id: str) -> None:
        await following.settled(id, 0)

    async with flow.running(), trio.open_nursery() as nursery:
        nursery.start_soon(following.run)
        submission = await flow.submit(interactive=True)
        follower = trio.CancelScope()

        async def follow() -> None:
            with follower:
                await (read if way == "following" else wait)(submission.id)

        nursery.start_soon(follow)
        await trio.sleep(LONG_ENOUGH_S)
        assert await flow.state.submissions.status(submission.id) == "running"
        assert following.count == 1
        follower.cancel()
        _, result = await flow.settled(submission)
        assert result.message
        assert (result.verdict, following.count) == (Verdict.CANCELLED, 0)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    "fields", [{"interactive": False}, {"interactive": True, "detached": True}], ids=str
)
async def test_who_need_not_be_followed_runs_on(
    flow: Flow, hasty: None, fields: dict[str, Any]
) -> None:
    flow.sandbox.behave = until_stopped
    async with flow.running():
        submission = await flow.submit(**fields)
        await trio.sleep(LONG_ENOUGH_S)
        assert await flow.state.submissions.status(submission.id) == "running"
        await flow.state.submissions.cancel(submission.id)
        assert (await flow.settled(submission))[1].message is None


async def test_whom_somebody_types_to_runs_on(
    flow: Flow, hasty: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("occd.execution.attempt._LEFT_S", 0.6)  # a disk may hold a key up
    monkeypatch.setattr("occd.execution.attempt._LOOK_S", 0.4)
    flow.sandbox.behave = until_stopped
    async with flow.running():
        submission = await flow.submit(interactive=True)
        for _ in range(30):
            await trio.sleep(LONG_ENOUGH_S / 30)
            await flow.state.controls.send_stdin(submission.id, b"x", None, end=False)
        assert await flow.state.submissions.status(submission.id) == "running"
        _, result = await flow.settled(submission)
    assert result.verdict == Verdict.CANCELLED


class Away:
    """A presence that cannot be asked."""

    def __init__(self) -> None:
        self._asked = 0
        self.often = trio.Event()

    async def here(self, subject: str) -> bool:
        await trio.lowlevel.checkpoint()
        self._asked += 1
        if self._asked == 5:
            self.often.set()
        raise StateUnavailable("it is away", 1)


async def test_nobody_is_ended_while_state_cannot_be_asked(flow: Flow, hasty: None) -> None:
    away = Away()
    flow.state = replace(flow.state, presence=cast(Presence, away))
    flow.sandbox.behave = until_stopped
    async with flow.running():
        submission = await flow.submit(interactive=True)
        with trio.fail_after(SOON_S):
            await away.often.wait()
        assert await flow.state.submissions.status(submission.id) == "running"
        await flow.state.submissions.cancel(submission.id)
        await flow.settled(submission)


async def test_what_a_terminal_shows_is_one_stream(flow: Flow) -> None:
    async with flow.running():
        submission = await flow.submit(interactive=True, tty=Terminal(24, 80))
        await flow.settled(submission)
    told = [each.event for each in await flow.state.log.entries(submission.id, 0)]
    assert [each.stream for each in told if isinstance(each, Output)] == ["tty"]


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
        await flow.state.submissions.cancel(submission.id)
        _, result = await flow.settled(submission)
        assert (result.verdict, result.run) == (Verdict.CANCELLED, FINE)


async def test_what_was_cancelled_in_the_queue_never_runs(flow: Flow) -> None:
    submission = await flow.submit()
    await flow.state.submissions.cancel(submission.id)
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
        await flow.state.submissions.create(submission, None, "")
        await flow.publish(submission, b'{"v": 99}', queue)
        _, result = await flow.settled(submission)
        assert result.verdict == Verdict.INTERNAL_ERROR
        await flow.settled(await flow.submit())  # and nothing else is the worse for it


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("files", [{"name": "../../x", "content": ""}]),
        ("main", "../main.py"),
        ("limits", {"wall_time": 1e9}),
        ("compile_args", ["-x"] * 1001),
        ("retry_of", "../x"),
        ("tests", [{"stdin": "1"}]),
    ],
)
async def test_a_message_that_breaks_a_rule_or_asks_for_what_is_not_known_runs_nothing(
    flow: Flow, field: str, value: object
) -> None:
    async with flow.running():
        submission = Submission(new_id(), "python", None, "main.py", (File("main.py", b""),))
        await flow.state.submissions.create(submission, None, "")
        message = json.loads(wire.encode_submission(submission))
        message["submission"][field] = value
        await flow.publish(submission, json.dumps(message).encode())
        _, result = await flow.settled(submission)
        assert result.verdict == Verdict.INTERNAL_ERROR
        with trio.fail_after(SOON_S):
            while not (kept := await flow.broker.kept(Q)):  # noqa: ASYNC110
                await trio.sleep(0.02)
        assert field in (kept[0].reason or "")
        assert flow.sandbox.runs == 0
        await flow.settled(await flow.submit())


async def test_a_language_that_went_away_is_an_internal_error(flow: Flow) -> None:
    flow.sandbox.available = {}
    async with flow.running():
        _, result = await flow.settled(await flow.submit())
        assert result.verdict == Verdict.INTERNAL_ERROR
        assert "not installed" in (result.message or "")


TIDY = "/usr/bin/tidy"
FORMATTER = InstalledFormatter(Formatter(Packages(), (TIDY,), ("{bin}", "{file}")), TIDY)


@pytest.mark.parametrize(
    ("exit_code", "verdict"), [(0, Verdict.OK), (1, Verdict.COMPILE_ERROR)], ids=["neat", "broken"]
)
async def test_a_program_is_formatted_instead_of_run(
    flow: Flow, exit_code: int, verdict: Verdict
) -> None:
    async def tidy(emit: Emit, _stop: trio.Event) -> Outcome:
        return replace(FINE, exit_code=exit_code)

    flow.sandbox.behave = tidy
    flow.sandbox.formatters = {"c": FORMATTER}
    flow.sandbox.available = {"c": (Installed("12.2.0", "/usr/bin/gcc"),)}
    async with flow.running():
        submission = await flow.submit(language="c", format=True)
        _, result = await flow.settled(submission)
        assert (result.verdict, result.compile) == (verdict, None)
        assert result.run == replace(FINE, exit_code=exit_code)
        assert flow.sandbox.ran == [("/usr/bin/tidy", "main.py")]
        assert await flow.names(submission) == [
            "queued", "started", "stage", "output", "stage", "finished"
        ]  # fmt: skip


async def test_a_program_sees_the_root_of_the_version_that_was_asked_for(flow: Flow) -> None:
    flow.sandbox.available = {
        "python": (
            Installed("3.13.5", "/usr/bin/python3.13", "debian-13"),
            Installed("3.11.2", "/usr/bin/python3.11", "debian-12"),
        )
    }
    flow.sandbox.formatters = {"python": replace(FORMATTER, root="debian-14")}
    async with flow.running():
        for values in ({}, {"version": "3.11"}, {"version": "3.11", "format": True}):
            await flow.settled(await flow.submit(**values))
    assert flow.sandbox.seen == ["debian-13", "debian-12", "debian-14"]
    assert [argv[0] for argv in flow.sandbox.ran] == [
        "/usr/bin/python3.13",
        "/usr/bin/python3.11",
        "/usr/bin/tidy",
    ]


@pytest.mark.parametrize(
    ("untraced", "told"),
    [
        ((), {"trace.here"}),
        (("debian-12",), {"trace.python.3.13.5"}),
        (("debian-12", "debian-13"), set()),
    ],
)
async def test_node_announces_which_versions_can_be_traced(
    flow: Flow, untraced: Sequence[str], told: set[str]
) -> None:
    flow.sandbox.available = {
        "python": (
            Installed("3.13.5", "/usr/bin/python3.13", "debian-13"),
            Installed("3.11.2", "/usr/bin/python3.11", "debian-12"),
        )
    }
    flow.sandbox.untraced = dict.fromkeys(untraced, "for no reason")
    async with flow.running():
        (node,) = await flow.state.nodes.live()
    assert {each for each in node.accepts or () if each.startswith("trace.")} == told


async def test_node_announces_the_languages_that_are_warm(flow: Flow) -> None:
    flow.sandbox.templates = ("python",)
    async with flow.running():
        (node,) = await flow.state.nodes.live()
    assert node.warm == ("python",)


async def test_a_formatter_that_went_away_is_an_internal_error(flow: Flow) -> None:
    async with flow.running():
        _, result = await flow.settled(await flow.submit(format=True))
        assert result.verdict == Verdict.INTERNAL_ERROR
        assert "formatter of Python is not installed" in (result.message or "")
        assert flow.sandbox.runs == 0


async def test_an_outage_of_state_is_never_a_verdict(
    flow: Flow, monkeypatch: pytest.MonkeyPatch
) -> None:
    append, finish = flow.state.log.append, flow.state.submissions.finish
    calls = 0

    def refuse_often() -> None:
        nonlocal calls
        calls += 1
        if calls % 4:
            raise DataFolderError("the disk is full")

    async def append_seldom(id: str, attempt: int, events: Sequence[Event]) -> None:
        refuse_often()
        await append(id, attempt, events)

    async def finish_seldom(
        id: str, attempt: int | None, result: Result, submission: Submission | None
    ) -> bool:
        refuse_often()
        return await finish(id, attempt, result, submission)

    Concluding(flow, monkeypatch).after(refuse_often)
    monkeypatch.setattr(flow.state.log, "append", append_seldom)
    monkeypatch.setattr(flow.state.submissions, "finish", finish_seldom)
    async with flow.running():
        submission = await flow.submit()
        _, result = await flow.settled(submission)
        assert (result.verdict, result.attempts) == (Verdict.OK, 1)
        assert (await flow.names(submission))[-3:] == ["output", "stage", "finished"]
    assert calls >= 4


async def test_an_outage_of_state_hands_nothing_back(
    flow: Flow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some brokers count that, and give up on what comes back too often."""
    handed_back = 0

    async def hand_back(delivery: Delivery) -> None:
        nonlocal handed_back
        handed_back += 1
        await trio.lowlevel.checkpoint()

    finish, calls = flow.state.submissions.finish, 0

    def refuse_for_long() -> None:
        nonlocal calls
        calls += 1
        if calls <= 60:
            raise StateUnavailable("away", 5)

    async def finish_after_outage(*args: Any) -> bool:
        await trio.lowlevel.checkpoint()
        refuse_for_long()
        return await finish(*args)

    if together(flow.config, flow.broker, flow.state):
        Concluding(flow, monkeypatch).after(refuse_for_long)
    monkeypatch.setattr("occd.broker.embedded.EmbeddedDelivery.hand_back", hand_back)
    monkeypatch.setattr(flow.state.submissions, "finish", finish_after_outage)
    async with flow.running():
        _, result = await flow.settled(await flow.submit())
        assert (result.verdict, result.attempts) == (Verdict.OK, 1)
    assert handed_back == 0
    assert calls > 60


async def test_an_outage_of_the_broker_runs_nothing_twice(
    flow: Flow, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = 0

    def refuse_first() -> None:
        nonlocal refused
        if refused < 3:
            refused += 1
            raise BrokerError("the broker is gone")

    Concluding(flow, monkeypatch).after(refuse_first)
    async with flow.running():
        _, result = await flow.settled(await flow.submit())
        assert (result.verdict, result.attempts, flow.sandbox.runs) == (Verdict.OK, 1, 1)
    assert refused == 3


LONG = b"a long line of output\n" * 100_000


async def assert_long_output_is_whole(flow: Flow, submission: Submission) -> None:
    """The output of `say_much`."""
    _, result = await flow.settled(submission)
    record = await flow.state.submissions.get(submission.id, 2 * len(LONG) + 100)
    assert result.run
    assert not result.run.stdout.truncated
    assert record.output
    assert record.output[RUN, "stdout"] == b"done\n" + LONG


async def say_much(emit: Emit, stop: trio.Event) -> Outcome:
    """After the line that the fake always writes."""
    for at in range(0, len(LONG), 2**15):
        await trio.lowlevel.checkpoint()
        emit("stdout", LONG[at : at + 2**15])
    all_of_it = b"done\n" + LONG
    written = replace(Written.of(all_of_it), head=all_of_it[:HEAD_BYTES])
    return replace(FINE, stdout=written, stderr=written)


@pytest.mark.parametrize("flow", APART, indirect=True)
async def test_a_result_in_the_queue_is_short_however_long_its_output_is(
    flow: Flow, monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths, publish = [], flow.broker.publish

    async def watched(queue: str, body: bytes, *, key: str, owner: str | None) -> None:
        lengths.append(len(body))
        await publish(queue, body, key=key, owner=owner)

    monkeypatch.setattr(flow.broker, "publish", watched)
    flow.sandbox.behave = say_much
    async with flow.running():
        submission = await flow.submit()
        await flow.settled(submission)
        record = await flow.state.submissions.get(submission.id, 2 * len(LONG) + 100)
    assert record.output
    assert record.output[RUN, "stdout"] == b"done\n" + LONG
    assert max(lengths) < 2 * HEADS_BYTES


@pytest.mark.parametrize("flow", APART, indirect=True)
async def test_a_result_in_the_queue_has_none_of_the_tests_data(
    flow: Flow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has the rest of the submission where state may have forgotten the submission."""
    lengths, known, publish = [], [], flow.broker.publish

    async def watched(queue: str, body: bytes, *, key: str, owner: str | None) -> None:
        if queue == flow.config.execution_queue:
            lengths.append(len(body))
            known.append(wire.decode_result(body).submission is not None)
        await publish(queue, body, key=key, owner=owner)

    monkeypatch.setattr(flow.broker, "publish", watched)
    test = judging.Test(
        "1", stdin=bytes(2**20), files=(File("a", bytes(2**20)),), expected_stdout=b"done"
    )
    async with flow.running():
        submission = await flow.submit(judging=judging.Judging((test,)))
        _, result = await flow.settled(submission)
    assert result.verdict == Verdict.ACCEPTED
    assert max(lengths) < 2 * HEADS_BYTES
    assert known == [flow.state.store.can_be_emptied]


@pytest.mark.parametrize("flow", EMPTIED, indirect=True)
async def test_a_long_output_outlives_a_state_that_is_emptied_before_its_result_is_stored(
    flow: Flow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The node that ran it keeps the log until then."""
    finish, ended, go = flow.state.submissions.finish, trio.Event(), trio.Event()

    async def finish_later(*args: Any) -> bool:
        ended.set()
        await go.wait()
        return await finish(*args)

    monkeypatch.setattr(flow.state.submissions, "finish", finish_later)
    flow.sandbox.behave = say_much
    async with flow.running():
        submission = await flow.submit()
        with trio.fail_after(SOON_S):
            await ended.wait()
            flow.seam.empty()
            while True:  # until its node has told it anew
                with suppress(UnknownSubmission):
                    if len(await flow.state.log.watch(submission.id, 1)) > 1:
                        break
                await trio.sleep(0.01)
            await trio.sleep(QUIET_S)
        go.set()
        await assert_long_output_is_whole(flow, submission)


@pytest.mark.parametrize("flow", EMPTIED, indirect=True)
async def test_a_result_waits_for_the_log_that_its_node_tells_anew(
    flow: Flow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """notify comes when half of the log is told."""
    finish, append = flow.state.submissions.finish, flow.state.log.append
    ended, half, go, rest = trio.Event(), trio.Event(), trio.Event(), trio.Event()
    told = 0

    async def finish_later(*args: Any) -> bool:
        ended.set()
        await go.wait()
        return await finish(*args)

    async def append_slowly(id: str, attempt: int, events: Sequence[Event]) -> None:
        nonlocal told
        if ended.is_set() and events:
            told += 1
            if told > 1:
                half.set()
                await rest.wait()
        await append(id, attempt, events)

    monkeypatch.setattr(flow.state.submissions, "finish", finish_later)
    monkeypatch.setattr(flow.state.log, "append", append_slowly)
    flow.sandbox.behave = say_much
    async with flow.running():
        submission = await flow.submit()
        with trio.fail_after(SOON_S):
            await ended.wait()
            flow.seam.empty()
            await half.wait()
            go.set()
            with trio.move_on_after(QUIET_S):
                await flow.state.submissions.settled(submission.id)
            rest.set()
        await assert_long_output_is_whole(flow, submission)


@pytest.mark.parametrize("flow", EMPTIED, indirect=True)
async def test_a_log_that_the_disk_did_not_take_is_not_told_as_whole(
    flow: Flow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """State is emptied while the program runs. Its later output alone would look like all of it."""
    monkeypatch.setattr("occd.state.redis.submissions._WHOLE_S", 0.1)

    def full(**_: Any) -> Any:
        return Path("/dev/full").open("w+b")

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    emptied, end = trio.Event(), b"the end\n"

    async def say_more(emit: Emit, stop: trio.Event) -> Outcome:
        said = await say_much(emit, stop)
        await emptied.wait()
        emit("stdout", end)
        return replace(said, stdout=replace(said.stdout, size=said.stdout.size + len(end)))

    flow.sandbox.behave = say_more
    async with flow.running():
        submission = await flow.submit()
        with trio.fail_after(SOON_S):
            while True:  # until the output is there
                with suppress(EventsReset):
                    await flow.state.log.watch(submission.id, len(LONG) // 2**15)
                    break
                await trio.sleep(0.01)
        flow.seam.empty()
        emptied.set()
        with trio.fail_after(SOON_S):
            while True:
                with suppress(UnknownSubmission):
                    record = await flow.state.submissions.settled(submission.id, 2 * len(LONG))
                    break
                await trio.sleep(0.01)
    assert record.result
    assert record.result.run
    assert record.output
    assert record.output[RUN, "stdout"] == (b"done\n" + LONG)[:HEAD_BYTES]
    assert record.result.run.stdout.truncated


@pytest.mark.parametrize("flow", EMPTIED, indirect=True)
async def test_files_outlive_a_state_that_is_emptied_before_their_result_is_stored(
    flow: Flow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The node that ran the program keeps them until then, however short the output is."""
    finish, ended, go = flow.state.submissions.finish, trio.Event(), trio.Event()

    async def finish_later(*args: Any) -> bool:
        ended.set()
        await go.wait()
        return await finish(*args)

    monkeypatch.setattr(flow.state.submissions, "finish", finish_later)
    flow.sandbox.collected = Collected((File("plot.png", b"a picture"),))
    async with flow.running():
        submission = await flow.submit(artifacts=("*.png",))
        with trio.fail_after(SOON_S):
            await ended.wait()
            flow.seam.empty()
            digest = hashlib.sha256(b"a picture").hexdigest()
            while await flow.state.blobs.get(submission.id, digest) != b"a picture":  # noqa: ASYNC110
                await trio.sleep(0.01)
        go.set()
        _, result = await flow.settled(submission)
    assert result.artifacts
    assert [each.name for each in result.artifacts.kept] == ["plot.png"]


async def test_the_beginning_of_a_long_output_outlives_its_node_and_an_emptied_state(
    flow: Flow,
) -> None:
    submission = await flow.submit()
    number = await flow.state.submissions.begin(submission, "3.11.2", "node")
    outcome = await say_much(lambda *_: None, trio.Event())
    result = Result(Verdict.OK, run=outcome, attempts=number, finished_at=time.time())
    body = wire.encode_result(wire.ResultMessage(submission.id, number, result, submission))
    await flow.publish(submission, body, flow.config.execution_queue)
    flow.seam.empty()
    async with trio.open_nursery() as nursery:
        await nursery.start(Notify(flow.config, flow.broker, flow.state).run)
        with trio.fail_after(SOON_S):
            while True:
                with suppress(UnknownSubmission):
                    record = await flow.state.submissions.settled(submission.id, 2 * HEADS_BYTES)
                    break
                await trio.sleep(0.01)
        nursery.cancel_scope.cancel()
    assert record.result
    assert record.result.run
    assert record.output
    kept = record.output[RUN, "stdout"]
    assert (kept, record.result.run.stdout.size) == (outcome.stdout.head, len(kept))
    assert record.result.run.stdout.truncated


async def test_a_run_outlives_a_state_that_was_emptied(flow: Flow) -> None:
    started, emptied = trio.Event(), trio.Event()

    async def talk(emit: Emit, stop: trio.Event) -> Outcome:
        started.set()
        await emptied.wait()
        for _ in range(3):
            emit("stdout", b"and on\n")
            await trio.sleep(0.03)
        assert not stop.is_set()
        return FINE

    flow.sandbox.behave = talk
    async with flow.running():
        submission = await flow.submit()
        with trio.fail_after(SOON_S):
            await started.wait()
            # until all that came before is there
            while len(await flow.state.log.watch(submission.id, 0)) < 4:  # noqa: ASYNC110
                await trio.sleep(0.01)
        before = await flow.state.log.entries(submission.id, 0)
        flow.seam.empty()
        emptied.set()
        with trio.fail_after(SOON_S):
            while True:  # until its next words have recorded it anew
                with suppress(UnknownSubmission):
                    record = await flow.state.submissions.settled(submission.id)
                    break
                await trio.sleep(0.01)
        assert record.result == replace(
            Result(Verdict.OK, run=FINE),
            version="3.11.2",
            attempts=1,
            started_at=record.result.started_at if record.result else None,
            finished_at=record.result.finished_at if record.result else 0,
            spent=Spent(FINE.cpu_time, len(b"done\n" + 3 * b"and on\n")),
        )
        names = await flow.names(submission)
        assert (names[:2], names[-1], names.count("finished")) == (
            ["queued", "started"],
            "finished",
            1,
        )
        assert "output" in names
        again = await flow.state.log.entries(submission.id, 0)
        if (
            flow.state.store.can_be_emptied
        ):  # then a client that comes back with a number misses nothing
            known = [each.event for each in before]
            assert [each.event for each in again][1 : len(known)] == known[1:]
        with pytest.raises(EventsReset):
            await flow.state.log.watch(submission.id, 100)
        assert flow.sandbox.runs == 1


async def test_of_two_attempts_after_an_emptying_exactly_one_result_stays(flow: Flow) -> None:
    started, go = trio.Event(), trio.Event()

    async def wait(emit: Emit, stop: trio.Event) -> Outcome:
        started.set()
        await go.wait()
        emit("stdout", b"late\n")
        await stop.wait()
        return FINE

    flow.sandbox.behave = wait
    async with flow.running():
        submission = await flow.submit()
        with trio.fail_after(SOON_S):
            await started.wait()
            # until all that came before is there
            while len(await flow.state.log.watch(submission.id, 0)) < 4:  # noqa: ASYNC110
                await trio.sleep(0.01)
        flow.seam.empty()
        stale = Result(Verdict.TIME_LIMIT, attempts=7, finished_at=time.time())
        assert await flow.state.submissions.finish(submission.id, 7, stale, submission)
        go.set()  # the other attempt learns that there is a result, and is stopped
        await trio.sleep(QUIET_S)
        _, result = await flow.settled(submission)
        assert result == stale
        assert await flow.names(submission) == ["finished"]


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
            assert await flow.state.submissions.begin(submission, "3", "another node") == 2
            await stopped.wait()
        await trio.sleep(QUIET_S)
        assert (await flow.state.submissions.get(submission.id)).status == "running"
        assert await flow.state.submissions.finish(
            submission.id, 2, Result(Verdict.OK, finished_at=time.time())
        )
        names = await flow.names(submission)
        assert names[-2:] == ["started", "finished"]


async def test_a_failure_while_execute_is_cancelled_loses_nothing_and_ends_well(flow: Flow) -> None:
    started = trio.Event()

    async def fail_at_the_end(emit: Emit, stop: trio.Event) -> Outcome:
        started.set()
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            raise SandboxFailed("the jail's init was killed, not by us") from None  # noqa: ASYNC104

    flow.sandbox.behave = fail_at_the_end
    async with flow.running():
        submission = await flow.submit()
        with trio.fail_after(SOON_S):
            await started.wait()
    flow.sandbox.behave = end_well
    async with flow.running():
        assert (await flow.settled(submission))[1].verdict == Verdict.OK


# Slots and seats


class Kind:
    """What the program's text says that a run does."""

    HELLO = b"hello"
    INPUT = b"waits for input that never comes"
    SLOW = b"its jail takes its time to be made"
    NO_JAIL = b"its first jail cannot be made"
    LOST = b"its first jail is lost while it runs"


@dataclass
class Cells(FakeSandbox):
    """Runs what each program's text says."""

    available: Available = field(
        default_factory=lambda: {
            "python": (Installed("3.11.2", "/usr/bin/python3"),),
            "c": (Installed("12.2.0", "/usr/bin/gcc"),),
        }
    )
    go: trio.Event = field(default_factory=trio.Event)
    """Ends the wait for input and for a slow jail."""
    compiled: trio.Event = field(default_factory=trio.Event)
    waiting: int = 0
    shared: list[tuple[str, bool]] = field(default_factory=list)
    """Each step, and whether it shares the processors with other interactive programs."""
    failed: set[bytes] = field(default_factory=set)

    @asynccontextmanager
    async def cell(
        self,
        language: Language,
        files: Sequence[File],
        limits: Limits,
        root: str | None = None,
    ) -> AsyncIterator[Cell]:
        yield _Cell(self, files[0].content)


@dataclass
class _Cell:
    _sandbox: Cells
    _text: bytes

    async def pack(self, tree: Tree, most: int) -> Packed | None:
        return None

    async def run(
        self, run: Run, *, task_status: trio.TaskStatus[Running] = trio.TASK_STATUS_IGNORED
    ) -> Ended:
        sandbox, kind = self._sandbox, self._text.partition(b"#")[0]
        await trio.sleep(0.001)
        sandbox.shared.append(("compile" if run.keep else "run", run.interactive))
        if run.keep:
            task_status.started(cast(Running, FakeWindow()))
            await sandbox.compiled.wait()
            return Ended(FINE, Tree(Path("none")))
        fails = self._text not in sandbox.failed and kind in (Kind.NO_JAIL, Kind.LOST)
        sandbox.failed.add(self._text)
        if kind == Kind.SLOW:
            await sandbox.go.wait()
        if fails and kind == Kind.NO_JAIL:
            raise SandboxFailed("the jail could not be made")
        sandbox.runs += 1
        task_status.started(cast(Running, FakeWindow()))
        await trio.sleep(0.001)
        if fails:
            raise SandboxFailed("the jail's init was killed, not by us")
        if kind == Kind.INPUT:
            await self._wait(run.stop)
        return Ended(FINE)

    async def _wait(self, stop: trio.Event) -> None:
        self._sandbox.waiting += 1
        try:
            async with trio.open_nursery() as nursery:
                for event in (stop, self._sandbox.go):
                    nursery.start_soon(cancel_when, event, nursery.cancel_scope)
        finally:
            self._sandbox.waiting -= 1


def seats(flow: Flow, slots: int, interactive: int) -> Cells:
    execute = ExecuteConfig(slots=slots, interactive=interactive)
    flow.config = flow.config.model_copy(update={"execute": execute})
    flow.sandbox = cells = Cells(end_well)
    return cells


async def submit(flow: Flow, text: bytes, owner: str = "", **fields: Any) -> Submission:
    """Everything but a hello is interactive."""
    file = File("main.py", text)
    return await flow.submit(
        files=(file,),
        interactive=text != Kind.HELLO,
        owner=f"anon:{owner}" if owner else None,
        **fields,
    )


async def come_to(wanted: tuple[int, int], execute: Execute) -> None:
    """Wait until so many are in slots and in seats."""
    with trio.fail_after(SOON_S):
        while (execute.arbiter.in_slots, execute.arbiter.seated) != wanted:  # noqa: ASYNC110
            await trio.sleep(0.01)


async def wait_for_input(cells: Cells, number: int) -> None:
    """Wait until so many programs run and wait for input."""
    with trio.fail_after(SOON_S):
        while cells.waiting < number:  # noqa: ASYNC110
            await trio.sleep(0.01)


async def assert_waits(flow: Flow, submission: Submission) -> None:
    await trio.sleep(QUIET_S)
    assert await flow.names(submission) == ["queued"]


async def test_four_who_are_asked_for_input_do_not_stop_the_fifth(flow: Flow) -> None:
    cells = seats(flow, slots=4, interactive=64)
    async with flow.running() as execute:
        four = [await submit(flow, Kind.INPUT, f"owner-{number}") for number in range(4)]
        await wait_for_input(cells, 4)
        for _ in range(10):
            _, result = await flow.settled(await submit(flow, Kind.HELLO, "fifth"))
            assert result.verdict == Verdict.OK
        assert (cells.waiting, execute.arbiter.seated) == (4, 4)
        cells.go.set()
        for each in four:
            assert (await flow.settled(each))[1].verdict == Verdict.OK
        await come_to((4, 0), execute)  # the intake has all slots again


async def test_when_the_seats_are_gone_a_run_keeps_its_slot_and_others_wait(flow: Flow) -> None:
    cells = seats(flow, slots=2, interactive=1)
    async with flow.running() as execute:
        first, second, third = [
            await submit(flow, Kind.INPUT, f"owner-{number}") for number in range(3)
        ]
        await wait_for_input(cells, 3)
        await come_to((2, 1), execute)
        fourth = await submit(flow, Kind.HELLO)
        await assert_waits(flow, fourth)
        event = (await flow.state.log.watch(fourth.id, 0))[0].event
        assert isinstance(event, Queued)
        assert event.position >= 1
        await flow.state.submissions.cancel(
            first.id
        )  # its seat is free for the second, whose slot is then free
        assert (await flow.settled(fourth))[1].verdict == Verdict.OK
        assert execute.arbiter.seated == 1
        for each in (second, third):
            await flow.state.submissions.cancel(each.id)
            assert (await flow.settled(each))[1].verdict == Verdict.CANCELLED
        await come_to((2, 0), execute)


async def test_an_owner_takes_a_quarter_of_the_seats_and_then_slots(flow: Flow) -> None:
    cells = seats(flow, slots=3, interactive=8)
    async with flow.running() as execute:
        greedy = [await submit(flow, Kind.INPUT, "greedy") for _ in range(5)]
        await wait_for_input(cells, 5)
        await come_to((3, 2), execute)
        other = await submit(flow, Kind.INPUT, "other")
        await assert_waits(flow, other)
        await flow.state.submissions.cancel(greedy[0].id)
        await come_to((3, 3), execute)
        await flow.names(other)
        flow.sandbox.go.set()  # type: ignore[attr-defined]
        for each in (*greedy[1:], other):
            assert (await flow.settled(each))[1].verdict == Verdict.OK


async def test_without_memory_an_interactive_run_keeps_its_slot(flow: Flow) -> None:
    seats(flow, slots=2, interactive=8)
    used = 0.9
    async with flow.running(lambda: used) as execute:
        await submit(flow, Kind.INPUT, "A")
        await submit(flow, Kind.INPUT, "B")
        hello = await submit(flow, Kind.HELLO)
        await assert_waits(flow, hello)
        assert (execute.arbiter.in_slots, execute.arbiter.seated) == (2, 0)
        used = 0.5
        assert (await flow.settled(hello))[1].verdict == Verdict.OK
        assert execute.arbiter.seated == 2


async def test_the_slot_is_given_back_when_the_program_runs_and_not_before(flow: Flow) -> None:
    cells = seats(flow, slots=1, interactive=8)
    async with flow.running() as execute:
        await submit(flow, Kind.SLOW, "A")
        hello = await submit(flow, Kind.HELLO, "B")
        await assert_waits(flow, hello)
        assert (execute.arbiter.in_slots, execute.arbiter.seated) == (1, 0)
        cells.go.set()
        assert (await flow.settled(hello))[1].verdict == Verdict.OK


async def test_an_interactive_program_compiles_in_its_slot(flow: Flow) -> None:
    cells = seats(flow, slots=1, interactive=8)
    async with flow.running() as execute:
        await submit(flow, Kind.INPUT, "A", language="c")
        hello = await submit(flow, Kind.HELLO, "B")
        await assert_waits(flow, hello)
        assert (execute.arbiter.in_slots, execute.arbiter.seated) == (1, 0)
        cells.compiled.set()
        assert (await flow.settled(hello))[1].verdict == Verdict.OK
        assert sorted(cells.shared) == [("compile", False), ("run", False), ("run", True)]
        assert execute.arbiter.seated == 1


async def test_a_program_without_input_of_clients_stays_in_its_slot(flow: Flow) -> None:
    seats(flow, slots=1, interactive=8)
    async with flow.running() as execute:
        await flow.submit(files=(File("main.py", Kind.INPUT),), owner="anon:A")
        await come_to((1, 0), execute)
        await assert_waits(flow, await submit(flow, Kind.HELLO))


@pytest.mark.parametrize("field", ["files", "stdin"])
async def test_a_submission_that_holds_much_memory_stays_in_its_slot(
    flow: Flow, field: str
) -> None:
    seats(flow, slots=1, interactive=8)
    much = b"x" * (2**20 + 1)
    files = [File("main.py", Kind.INPUT), *([File("data", much)] if field == "files" else [])]
    async with flow.running() as execute:
        await flow.submit(
            files=tuple(files), stdin=much if field == "stdin" else b"", interactive=True
        )
        await come_to((1, 0), execute)
        await assert_waits(flow, await submit(flow, Kind.HELLO))


async def test_no_slot_and_no_seat_is_lost_whatever_happens(flow: Flow) -> None:
    """200 runs of every kind, of which many are cancelled; jails are lost, and execute is stopped twice."""
    cells = seats(flow, slots=4, interactive=12)
    chance = random.Random(8)
    kinds = [Kind.HELLO, Kind.INPUT, Kind.INPUT, Kind.NO_JAIL, Kind.LOST]
    submissions: list[Submission] = []

    async def cancel_soon(submission: Submission) -> None:
        await trio.sleep(chance.random() / 2)
        await flow.state.submissions.cancel(submission.id)

    async def send(number: int) -> None:
        kind = chance.choice(kinds)
        text = kind if kind == Kind.HELLO else kind + b"#%d" % number
        submission = await submit(flow, text, chance.choice(["", "A", "B", "C", "D", "E"]))
        submissions.append(submission)
        if kind == Kind.INPUT or chance.random() < 0.3:
            cancelling.start_soon(cancel_soon, submission)

    async with trio.open_nursery() as cancelling:
        for life in range(3):
            async with flow.running() as execute:
                for number in range(67):
                    await send(100 * life + number)
                    assert execute.arbiter.in_slots <= 4
                    assert execute.arbiter.seated <= 12
                if life == 2:
                    cells.go.set()
                    for each in submissions:
                        await flow.settled(each)
                    await come_to((4, 0), execute)
            assert (execute.arbiter.in_slots, execute.arbiter.seated) == (0, 0)
    ended = [(await flow.settled(each))[1].verdict for each in submissions]
    assert len(ended) == 201
    assert {*ended} <= {Verdict.OK, Verdict.CANCELLED}
    assert cells.waiting == 0
