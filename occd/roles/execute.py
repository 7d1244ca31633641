"""execute: takes submissions from the queue, one for each free slot, and runs them (`execution/attempt.py`).

The arbiter gives out the slots (`execution/arbiter.py`). The intake takes a slot first, and then asks for a
submission, so that no submission leaves the queue before it can begin. An interactive run that has started
gives its slot back for a seat, and so the intake goes on. One that gets no seat gives way to those that wait,
when it has had its slot for as long as any other program may.

An attempt is counted before it begins, and its message is acknowledged after its result is queued, so that a
death in between brings the submission back. After a failure of ours the message goes back into the queue, and
the attempt counts. The last failed attempt becomes `internal_error`. A program's failure is never ours.
"""

import time
from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import structlog
import trio
from structlog.contextvars import bind_contextvars

from occd import metrics, trace, wire
from occd.broker import Broker, Delivery, Pull
from occd.config import Config
from occd.draining import Draining
from occd.errors import (
    AlreadyFinished,
    Exhausted,
    OccdError,
    Poisoned,
    SandboxFailed,
    Unreadable,
    in_words,
    leaves,
    out_of_descriptors,
)
from occd.events import Event
from occd.execution.arbiter import Arbiter, Turn
from occd.execution.attempt import Attempt
from occd.execution.built import Built
from occd.execution.lingering import Lingering
from occd.execution.precompiled import Precompiled
from occd.execution.program import Program
from occd.languages.finding import find
from occd.languages.installed import formats, pick
from occd.model import (
    Result,
    Submission,
    Verdict,
)
from occd.quotas import records_of
from occd.roles.heartbeat import announce
from occd.sandbox import Sandbox
from occd.sandbox.fitness import Fitness
from occd.sandbox.memory import memory_used
from occd.scopes import cancel_when
from occd.state import WAIT_BOUNDS_S, Load, Node, State, Taken
from occd.together import taken, together
from occd.trouble import Trouble

log = structlog.get_logger()

_RETRY_S = 0.5
_HAND_BACK_S = 2.0
_LOOK_S = 5.0
_LOOK_AGAIN_S = 30.0
"""The time between two looks whether an interactive program has to give way."""

_INTERNAL = "The server could not run this program. That is our fault, not yours."


@dataclass(slots=True)
class _Held:
    """A submission that this node has taken: its slot or seat, its delivery, which would come again if we
    died, and its attempt once the attempt has begun."""

    turn: Turn
    delivery: Delivery
    language: str
    attempt: Attempt | None = None

    def close(self) -> None:
        if self.attempt:
            self.attempt.close()


class Execute:
    def __init__(
        self,
        config: Config,
        broker: Broker,
        state: State,
        sandbox: Sandbox,
        memory_used: Callable[[], float] = memory_used,
        draining: Draining | None = None,
    ) -> None:
        """`memory_used` tells the share of the node's memory that is in use."""
        self._config = config
        self._broker = broker
        self._state = state
        self._together = together(config, broker, state)
        self._sandbox = sandbox
        self.fitness = Fitness(sandbox)
        self._draining = draining or Draining()
        self._draining.counts(lambda: self._handling, lambda: self._pull is not None)
        self._handling = 0
        self._running: dict[str, _Held] = {}
        self._lingering = Lingering()
        self._built = Built(config.cache, config.cache_folder, sandbox)
        self._precompiled = Precompiled(config, sandbox)
        self.arbiter = Arbiter(
            config.execute.slots,
            config.execute.interactive,
            lambda: memory_used() <= config.execute.memory_used_max,
            lambda: self._pull is not None and self._pull.starves(),
        )
        self._pull: Pull | None = None
        self._trouble = Trouble("a result waits for the broker")
        self._started_at = time.time()
        self._verdicts: Counter[str] = Counter()
        self._waits = [0] * (len(WAIT_BOUNDS_S) + 1)
        self.stopping = trio.Event()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Take submissions until `stopping` is set, then finish the running ones and return. Cancelling hands
        the unfinished ones back."""
        async with self._built.opened(), trio.open_nursery() as background:
            await background.start(
                announce,
                self._state.nodes,
                self._describe,
                self._remind,
                lambda: self._draining.changed,
            )
            background.start_soon(self.fitness.run)
            background.start_soon(self.arbiter.run)
            background.start_soon(self._make_room)
            background.start_soon(self._get_ready)
            async with trio.open_nursery() as handlers:
                await self._take(handlers, background, task_status)
            background.cancel_scope.cancel()

    async def _get_ready(self) -> None:
        found_all = await self._sandbox.look_further()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._precompiled.run)
            while not found_all:
                await trio.sleep(_LOOK_AGAIN_S)
                found_all = await self._sandbox.look_further()

    def _describe(self) -> Node | None:
        if self.fitness.problem:  # other nodes take the submissions, or submit answers `no-nodes`
            return None
        if self._draining.on:  # a role that no node asks for; what runs here must not be forgotten
            return Node(
                self._config.node,
                ("draining",),
                running=len(self._running),
                started_at=self._started_at,
                load=self._load(),
                holds=self._sandbox.holds,
            )
        languages = {
            name: tuple(v.version for v in each) for name, each in self._sandbox.available.items()
        }
        return Node(
            self._config.node,
            ("execute",),
            languages,
            running=len(self._running),
            started_at=self._started_at,
            accepts=frozenset(self._accepts()),
            load=self._load(),
            holds=self._sandbox.holds,
            warm=tuple(sorted({*self._precompiled.languages, *self._sandbox.templates})),
        )

    def _accepts(self) -> Iterator[str]:
        yield from wire.FIELDS
        yield from map(formats, self._sandbox.formatters)
        untraced = self._sandbox.untraced
        if not untraced:
            yield trace.HERE
            return
        for language, versions in self._sandbox.available.items():
            for each in versions:
                if each.root not in untraced:
                    yield trace.here(language, each.version)

    def _load(self) -> Load:
        known = self._sandbox.languages
        running = Counter(each.language for each in self._running.values())
        return Load(
            self._started_at,
            self.arbiter.slots,
            self.arbiter.busy,
            self.arbiter.seats,
            self.arbiter.seated,
            {language: count for language, count in running.items() if language in known},
            dict(self._verdicts),
            tuple(self._waits),
        )

    def _remind(self) -> None:
        for held in self._running.values():
            if held.attempt:
                held.attempt.remind()

    async def _make_room(self) -> None:
        """While submissions wait and every slot is taken, end the interactive programs without a seat that
        have had their slots for long, one after the other."""
        trouble = Trouble("whether submissions wait cannot be seen")
        while True:
            await trio.sleep(_LOOK_S)
            if self._longest():
                with trouble.survived():
                    depths = await self._broker.depths()
                    if depths[self._config.submission_queue] and (longest := self._longest()):
                        longest.give_way()

    def _longest(self) -> Attempt | None:
        """The interactive program that has to give way first."""
        if not self.arbiter.full or self._draining.on:
            return None
        until = trio.current_time() - self._config.ceilings.wall_time
        found = [
            (since, held.attempt)
            for held in self._running.values()
            if held.turn.in_slot
            and held.attempt
            and (since := held.attempt.interacts_since) is not None
            and since < until
        ]
        return min(found, key=lambda each: each[0])[1] if found else None

    async def _take(
        self, handlers: trio.Nursery, background: trio.Nursery, task_status: trio.TaskStatus[None]
    ) -> None:
        """Take submissions while this node is able to. At other times they wait in the queue."""
        queue, most = self._config.submission_queue, self.arbiter.places
        while not self.stopping.is_set():
            turns: deque[Turn] = deque()
            try:
                async with self._broker.pull(queue, most) as pull, trio.open_nursery() as intake:
                    self._pull = pull
                    intake.start_soon(self._until, False, intake.cancel_scope)
                    intake.start_soon(self._ask, pull, turns)
                    task_status.started()
                    task_status = trio.TASK_STATUS_IGNORED
                    async for delivery in pull.deliveries:
                        self._handling += 1
                        handlers.start_soon(self._handle, delivery, turns.popleft(), background)
            finally:
                self._pull = None
                for turn in turns:  # nothing came for these
                    turn.end()
            async with trio.open_nursery() as waiting:
                waiting.start_soon(self._until, True, waiting.cancel_scope)

    async def _ask(self, pull: Pull, turns: deque[Turn]) -> None:
        """Ask for a submission for each slot that becomes free. `turns` has the slots of the submissions that
        were asked for and did not come yet."""
        while True:
            turns.append(await self.arbiter.slot())
            pull.ask()

    async def _until(self, able: bool, scope: trio.CancelScope) -> None:
        """Cancel `scope` when this node is `able` to take submissions or is not, and when this role is to
        stop."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(cancel_when, self.stopping, nursery.cancel_scope)
            nursery.start_soon(self._able if able else self._unable, nursery.cancel_scope)
        scope.cancel()

    async def _able(self, scope: trio.CancelScope) -> None:
        """Cancel `scope` when jails can be made, and nobody drains this node."""
        while self.fitness.problem or self._draining.on:
            await self.fitness.until(fit=True)
            await self._draining.until(on=False)
        scope.cancel()

    async def _unable(self, scope: trio.CancelScope) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._unfit, nursery.cancel_scope)
            await self._draining.until(on=True)
            nursery.cancel_scope.cancel()
        scope.cancel()

    async def _unfit(self, scope: trio.CancelScope) -> None:
        await self.fitness.until(fit=False)
        scope.cancel()

    async def _handle(self, delivery: Delivery, turn: Turn, background: trio.Nursery) -> None:
        try:
            with turn:
                await self._end(delivery, turn, background)
        finally:
            self._handling -= 1

    async def _end(self, delivery: Delivery, turn: Turn, background: trio.Nursery) -> None:
        """Run one submission, and end its delivery whatever happens."""
        bind_contextvars(submission=delivery.key, **delivery.names)
        try:
            submission = taken(delivery)
        except Poisoned as error:
            log.warning("poisoned message", reason=str(error))
            await delivery.reject(str(error))
            return
        bind_contextvars(submission=submission.id)
        if held := self._running.get(submission.id):
            # Queued twice, or delivered anew after a lost connection. In the second case the broker knows
            # only the new delivery, and only this one brings the submission back.
            older, held.delivery = held.delivery, delivery
            await older.ack()
            return
        turn.owner, turn.bytes = _owner_of_seat(submission, delivery), len(delivery.body)
        held = self._running[submission.id] = _Held(turn, delivery, submission.language)
        try:
            ended = await self._try(submission, held)
        except Unreadable as error:  # no repetition mends what is stored: notify tells it once
            del self._running[submission.id]
            held.close()
            await held.delivery.reject(str(error))
            return
        except BaseException:
            del self._running[submission.id]
            with trio.move_on_after(_HAND_BACK_S, shield=True):
                if held.attempt:
                    with suppress(OccdError):  # then the attempt counts, which is the lesser evil
                        await self._state.submissions.excuse(submission.id, held.attempt.number)
                await held.delivery.hand_back()
            held.close()
            raise
        del self._running[submission.id]
        if ended and held.attempt and held.attempt.lingers:
            background.start_soon(self._lingering.linger, held.attempt, len(held.delivery.body))
        else:
            held.close()
        if ended:
            turn.end()  # the next submission need not wait until this end is written down
            await held.delivery.ack()
        else:
            await held.delivery.hand_back()

    async def _try(self, submission: Submission, held: _Held) -> bool:
        """Whether the submission's delivery has served its purpose. Raises Unreadable when the submission was
        damaged in state."""
        try:
            await self._attempt(submission, held)
        except AlreadyFinished:
            return True
        except Exception as error:
            for each in leaves(error):
                if isinstance(each, Unreadable):
                    raise each from None
            metrics.FAILED.inc()
            known = all(isinstance(each, OccdError) for each in leaves(error))
            log.error(  # a known failure needs no traceback
                "attempt failed", error=in_words(error), exc_info=not known
            )
            jailless = any(isinstance(each, SandboxFailed) for each in leaves(error))
            unfit = jailless and not await self.fitness.doubt()
            if held.attempt and (
                unfit or out_of_descriptors(error)
            ):  # this is not the program's fault
                with suppress(OccdError):
                    await self._state.submissions.excuse(submission.id, held.attempt.number)
            await trio.sleep(_RETRY_S)
            return False
        except BaseExceptionGroup as error:
            # A failure at the moment at which this role was cancelled. The failure must not end the process.
            failed, cancelled = error.split(Exception)
            if failed:
                log.error("attempt failed", error=in_words(failed))
            raise (cancelled or error) from None
        return True

    async def _attempt(self, submission: Submission, held: _Held) -> None:
        """One attempt, from its start to its result in the queue.

        Raises AlreadyFinished when nothing is left to do, OccdError when the attempt has to be repeated.
        """
        await held.turn.begin()
        language = find(self._sandbox.languages, submission.language)
        versions = self._sandbox.available.get(language.id, ()) if language else ()
        installed = pick(versions, submission.version)
        formatter = self._sandbox.formatters.get(submission.language)
        node = self._config.node
        try:
            version = installed.version if installed else ""
            # A state that was emptied has forgotten an earlier attempt, whose result may still come: it must
            # not be taken for the result of this one.
            taken = Taken(attempts=int(held.delivery.again))
            number = await self._state.submissions.begin(submission, version, node, taken)
            metrics.ATTEMPTS.inc()
            log.debug("an attempt begins", attempt=number)
        except Exhausted as error:
            result = Result(Verdict.INTERNAL_ERROR, _INTERNAL)
            await self._conclude(submission, held, error.attempts, result)
            return
        started_at = time.time()
        events: Sequence[Event] = ()
        if number == 1:
            waited = max(0.0, started_at - submission.created_at)
            metrics.WAITED.observe(waited)
            self._waits[bisect_left(WAIT_BOUNDS_S, waited)] += 1
        else:
            metrics.REPEATED.inc()
        if language is None or installed is None:
            name = " ".join(filter(None, (submission.language, submission.version)))
            result = Result(
                Verdict.INTERNAL_ERROR, f"{name} is not installed on this server any more"
            )
        elif submission.format and not formatter:
            result = Result(
                Verdict.INTERNAL_ERROR,
                f"the formatter of {language.name} is not installed on this server any more",
            )
        else:
            program = Program(
                language,
                installed,
                submission.main,
                submission.files,
                submission.compile_args,
                formatter,
            )
            held.attempt = Attempt(
                self._state,
                self._sandbox,
                submission,
                number,
                program,
                node,
                held.turn,
                self._built,
                self._config,
            )
            result, events = await held.attempt.run(keep_rest=self._together is not None)
            number = held.attempt.number
        await self._conclude(submission, held, number, result, started_at, events)

    async def _conclude(
        self,
        submission: Submission,
        held: _Held,
        attempt: int,
        result: Result,
        started_at: float | None = None,
        events: Sequence[Event] = (),
    ) -> None:
        """Have the result stored, behind these events: at once, or by notify."""
        language = find(self._sandbox.languages, submission.language)
        metrics.RUNS.labels(language.id if language else "unknown", result.verdict).inc()
        self._verdicts[result.verdict] += 1
        result = replace(
            result.with_short_heads(),
            attempts=attempt,
            started_at=started_at,
            finished_at=time.time(),
        )
        log.debug("an attempt ended", attempt=attempt, verdict=result.verdict)
        if joint := self._together:
            await self._surely(
                lambda: joint.finish(held.delivery, submission.id, attempt, result, events)
            )
            metrics.STORED.observe(max(0.0, time.time() - result.finished_at))
            log.debug("a result is stored", attempt=attempt)
            return
        known: Submission | None = None
        if self._state.store.can_be_emptied:  # nothing of a client's data
            known = replace(submission, files=(), stdin=b"", judging=None)
        queue = self._config.execution_queue
        body = wire.encode_result(wire.ResultMessage(submission.id, attempt, result, known))
        await self._surely(lambda: self._broker.publish(queue, body, key=submission.id, owner=None))

    async def _surely(self, conclude: Callable[[], Awaitable[object]]) -> None:
        """An outage of the broker, or of the data folder, must not repeat the finished work."""
        while True:
            try:
                await conclude()
            except Unreadable:
                raise
            except OccdError as error:
                self._trouble.tell(error)
                await trio.sleep(_RETRY_S)
            else:
                self._trouble.over()
                return


def _owner_of_seat(submission: Submission, delivery: Delivery) -> str:
    """Who takes turns in the queue shares seats, too. There are few seats, so a network above addresses
    counts as one."""
    return records_of(delivery.owner or submission.turn or "")[-1]
