"""One attempt at a submission: runs its steps, appends their output to the log as it arrives, and feeds them
the clients' input.

An outage of state never becomes a verdict: output waits in memory. A state that was emptied gets the whole
log again, which the attempt keeps until the result is stored. When a later attempt has taken over, this
attempt ends.
"""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from math import inf
from signal import Signals

import structlog
import trio

from occd import metrics
from occd.config import Config
from occd.errors import (
    AlreadyFinished,
    Exhausted,
    OccdError,
    Stale,
    StateError,
    UnknownSubmission,
    Unreadable,
)
from occd.events import Event, Left
from occd.execution import artifacts
from occd.execution.arbiter import Turn
from occd.execution.built import Built, Claim
from occd.execution.checkers import open_checkers
from occd.execution.compiling import Compiler
from occd.execution.eventlog import EventLog
from occd.execution.kept import Kept
from occd.execution.program import Program
from occd.execution.stdin import feeding
from occd.execution.steps import Done, Steps
from occd.execution.tests import Tests
from occd.execution.traced import account_in_turn
from occd.execution.typed import Typed
from occd.execution.verdicts import of_format, of_submission
from occd.model import (
    COMPILE,
    HEAD_BYTES,
    RUN,
    Artifacts,
    Judgement,
    Result,
    Spent,
    Submission,
    Verdict,
    judge,
)
from occd.sandbox import Cell, Collected, Feed, Given, Packed, Running, Sandbox, Traced, Tree
from occd.state import State, Taken
from occd.state.control import Cancel, Resize, Signal
from occd.trace import STORED_MAX, Trace
from occd.trouble import Trouble

log = structlog.get_logger()

_RETRY_S = 0.5
_MOMENT_S = 0.02
_LINGER_S = 60.0
_LEFT_S = 60.0
"""An interactive program ends when for so long nobody followed it or sent it anything."""

_LOOK_S = 20.0
"""So often an attempt asks whether somebody follows it. Longer than RENEW_S: when state was emptied, it has
been told of the followers again by the next time."""

_SEATED_BYTES = 2**20
"""The bytes of files and stdin that a submission in a seat may hold in this process. 64 submissions of
8 MiB would take more than 1 GiB, because their messages are held, too."""


class Attempt:
    """One attempt's steps, and the input and signals of clients."""

    def __init__(
        self,
        state: State,
        sandbox: Sandbox,
        submission: Submission,
        number: int,
        program: Program,
        node: str,
        turn: Turn,
        built: Built,
        config: Config,
    ) -> None:
        self._state = state
        self._sandbox = sandbox
        self._submission = submission
        self.number = number
        """Changes when state was emptied meanwhile and another attempt began."""
        self._program = program
        self._total_time = config.ceilings.total_time
        self._collect = artifacts.wanted(
            submission.artifacts,
            config.artifacts,
            state.blobs.bytes_max - (STORED_MAX if submission.trace else 0),
        )
        self._node = node
        self._turn = turn
        self._taken = Taken(attempts=number - 1)
        self._kept = Kept() if state.store.can_be_emptied else None
        self._left: Collected | None = None
        """The files that the program left, for a state that may be emptied."""
        self._listed: tuple[str, bytes] | None = None
        """Likewise its system calls: their SHA-256, and the bytes."""
        self._trouble = Trouble("events wait for state")
        self._log = EventLog(lambda: state.log.followed(submission.id))
        self._typed = Typed(submission.id, state.controls)
        """Stays empty unless the submission is interactive."""
        # State bounds the number of signals. They go to the step that runs when they arrive, or to the next.
        self._signal, self._signals = trio.open_memory_channel[int](inf)
        self._signalled = False
        self._window = submission.tty
        self._running: Running | None = None
        """The program, from its start on."""
        self._stop = trio.Event()
        self._steps = Steps(self._log, self._stop)
        self._compiler = Compiler(built, self._steps, submission.owner, cached=submission.cache)
        self._tests = (
            Tests(submission, program, self._steps, self._log, self._stop)
            if submission.judging
            else None
        )
        self._cancelled = False
        self._heard_at = trio.current_time()
        self._left_alone = False
        self._gave_way = False
        self.interacts_since: float | None = None
        """When the program started, if it is interactive."""
        self._superseded: StateError | None = None

    async def run(self, *, keep_rest: bool = False) -> tuple[Result, Sequence[Event]]:
        """Compile and run, or format. With `keep_rest` also returns the last events, which are not appended
        then. Raises AlreadyFinished when a later attempt has taken over, and Unreadable when the submission
        was damaged in state."""
        rest: Sequence[Event] = ()
        async with trio.open_nursery() as nursery:
            if self._submission.interactive:
                nursery.start_soon(self._typed.tell)
                if not self._submission.detached:
                    nursery.start_soon(self._end_when_left)
            if not keep_rest:
                nursery.start_soon(self._log.run, self._append)
            nursery.start_soon(self._attend, nursery, keep_rest)
            result = self._explained(await self._execute())
            result = replace(result, spent=Spent(self._steps.cpu_time, self._steps.logged))
            if keep_rest:
                rest = await self._log.take_rest()
            else:
                await self._log.close()
            nursery.cancel_scope.cancel()
        if isinstance(self._superseded, Unreadable):
            raise self._superseded
        if self._superseded:
            raise AlreadyFinished(self._submission.id) from self._superseded
        return result, rest

    async def linger(self) -> None:
        """Keep a log that is longer than the heads in the result, and files, until the result is stored, at
        most 60 s: a state that is emptied meanwhile gets both again."""
        with trio.move_on_after(_LINGER_S):
            while self.lingers and not self._superseded:
                try:
                    if await self._state.submissions.status(self._submission.id) == "finished":
                        return
                except UnknownSubmission:
                    await self._append(())
                except OccdError as error:
                    self._trouble.tell(error, submission=self._submission.id)
                await trio.sleep(_RETRY_S)

    @property
    def lingers(self) -> bool:
        """Whether this attempt keeps more than the result has."""
        more = self._left is not None or self._listed is not None
        return self._kept is not None and (more or self._kept.size > HEAD_BYTES)

    def close(self) -> None:
        if self._kept:
            self._kept.close()

    def remind(self) -> None:
        """Check that state knows this attempt, because its program may be silent for long."""
        self._log.look()

    def give_way(self) -> None:
        """End the program, because others need its slot."""
        self._gave_way = self._cancelled = True
        self._stop.set()

    async def _execute(self) -> Result:
        if self._submission.format:
            async with self._cell() as cell:
                formatted = (await self._format(cell)).outcome
            verdict = of_format(formatted, cancelled=self._cancelled)
            return Result(verdict, None, self._program.installed.version, run=formatted)
        if not self._program.is_compiled:
            async with self._cell() as cell:
                return await self._execute_in(cell, None)
        box = self._submission.limits.box
        with await self._compiler.claim(self._program, COMPILE, box, self._turn) as claim:
            if claim.stopped:
                return self._not_compiled(None)
            known = self._compiler.known(claim, COMPILE)
            if known and not known.outcome.succeeded:
                return self._not_compiled(known)
            async with self._cell() as cell:
                done = known or await self._compile(claim, cell)
                if self._cancelled or not done.outcome.succeeded:
                    return self._not_compiled(done)
                return await self._execute_in(cell, done)

    def _cell(self) -> AbstractAsyncContextManager[Cell]:
        submission, program = self._submission, self._program
        chosen = program.formatter if submission.format else program.installed
        assert chosen
        return self._sandbox.cell(
            program.language, submission.files, submission.limits, chosen.root
        )

    def _not_compiled(self, done: Done | None) -> Result:
        """None: it was stopped before."""
        program, judgement = self._program, None
        compiled = done.outcome if done else None
        verdict = judge(compiled, None, cancelled=self._cancelled or done is None)
        hint = program.language.hint(done.outcome, done.end_of_stderr) if done else None
        if self._tests:
            judgement = self._tests.judgement(cancelled=self._cancelled)
        version = program.installed.version
        return Result(verdict, hint, version, compile=compiled, judgement=judgement)

    async def _execute_in(self, cell: Cell, compiled: Done | None) -> Result:
        version = self._program.installed.version
        outcome, tree = (compiled.outcome, compiled.tree) if compiled else (None, None)
        if self._tests:
            judgement = await self._judge(self._tests, cell, tree)
            verdict = Verdict(of_submission(judgement.tests, cancelled=self._cancelled))
            return Result(verdict, None, version, compile=outcome, judgement=judgement)
        done = await self._run_program(cell, tree)
        verdict = judge(outcome, done.outcome, cancelled=self._cancelled)
        left = await self._keep(done)
        trace = await self._keep_trace(done.trace) if done.trace else None
        return Result(verdict, None, version, outcome, done.outcome, artifacts=left, trace=trace)

    def _explained(self, result: Result) -> Result:
        """Say why an interactive program was ended that its client may have wanted to go on."""
        idle = self._submission.limits.idle
        if self._left_alone and result.verdict == Verdict.CANCELLED:
            message = (
                f"Nobody followed the program for {_LEFT_S:g} s, so it was ended. "
                "Submit it with detached: true to let it go on until its limits."
            )
        elif self._gave_way and result.verdict == Verdict.CANCELLED:
            message = (
                "No seat was free for the program, and others waited for its slot, so it was ended."
            )
        elif idle and result.run and result.run.limit == "idle" and not self._cancelled:
            message = f"The program got no input for {idle:g} s, so it was ended."
        else:
            return result
        return replace(result, message=message)

    async def _keep(self, done: Done) -> Artifacts | None:
        """Store the files that the program left."""
        if not self._submission.artifacts:
            return None
        if self._kept and done.collected.files:
            self._left = done.collected
        found = await artifacts.store(self._state.blobs, self._submission.id, done.collected)
        for artifact in found.kept:
            self._log.put(RUN, Left(artifact, RUN.stage))
        return found

    async def _keep_trace(self, traced: Traced) -> Trace:
        """Store the list of the program's system calls."""
        trace, stored = await account_in_turn(traced)
        assert trace.sha256
        self._listed = trace.sha256, stored
        await self._state.blobs.put(self._submission.id, *self._listed)
        return trace

    def _runs(self, running: Running) -> None:
        """The program runs now. If it is interactive, it mostly waits for its client from now on."""
        submission, self._running = self._submission, running
        self._resize()
        held = len(submission.stdin) + sum(len(file.content) for file in submission.files)
        if submission.interactive:
            self.interacts_since = trio.current_time()
            if held <= _SEATED_BYTES:
                self._turn.sit()

    def _resize(self) -> None:
        """Give the window its present size. A program that does not run yet gets it when it does."""
        if self._running and self._window:
            self._running.resize(self._window.rows, self._window.cols)

    async def _compile(self, claim: Claim, cell: Cell) -> Done:
        with self._signals.clone() as signals:
            return await self._compiler.compile(
                claim,
                cell,
                self._program,
                COMPILE,
                signals=signals,
                disturbed=lambda: self._signalled,
            )

    async def _format(self, cell: Cell) -> Done:
        program = self._program
        command = program.to_format(self._submission.limits)
        return await self._steps.run(cell, RUN, command, stdin=Given(program.source))

    async def _run_program(self, cell: Cell, tree: Tree | Packed | None) -> Done:
        submission = self._submission
        if not submission.interactive:
            return await self._run_with(Given(submission.stdin), cell, tree)
        async with feeding(submission.stdin, self._typed) as stdin:
            return await self._run_with(stdin, cell, tree)

    async def _run_with(self, stdin: Feed | Given, cell: Cell, tree: Tree | Packed | None) -> Done:
        submission = self._submission
        with self._signals.clone() as signals:
            return await self._steps.run(
                cell,
                RUN,
                self._program.to_run(submission.args, submission.env, submission.limits),
                stdin=stdin,
                tty=self._window,
                signals=signals,
                tree=tree,
                interactive=submission.interactive,
                collect=self._collect,
                trace=submission.trace,
                started=self._runs,
            )

    async def _judge(self, tests: Tests, cell: Cell, tree: Tree | Packed | None) -> Judgement:
        """Run the tests, as far as the time for all of them goes."""
        async with (
            open_checkers(tests.judging, self._sandbox, self._steps, self._compiler) as checkers,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(self._stop_after, self._total_time)
            await tests.run(cell, tree, checkers, self._turn)
            nursery.cancel_scope.cancel()
        return tests.judgement(cancelled=self._cancelled)

    async def _stop_after(self, seconds: float) -> None:
        await trio.sleep(seconds)
        self._stop.set()

    async def _attend(self, nursery: trio.Nursery, keep_rest: bool) -> None:
        """Do what a short attempt that nobody follows does not need. Its log waits for its end."""
        if keep_rest:
            if not (self._submission.interactive or self._log.followed):
                await trio.sleep(_MOMENT_S)
            nursery.start_soon(self._log.run, self._append)
        await self._obey()

    async def _obey(self) -> None:
        """Take the clients' controls as they come. None waits for the program to take an earlier one."""
        while True:
            id, after = self._submission.id, self._taken.controls
            for entry in await self._state.controls.watch(id, after):
                self._heard_at = trio.current_time()
                self._typed.add(entry)
                match entry.control:
                    case Signal(name) if number := Signals.__members__.get(name):
                        self._signalled = True
                        self._signal.send_nowait(number)
                    case Resize(window) if self._submission.tty:
                        self._window = window
                        self._resize()
                    case Cancel():
                        self._cancelled = True
                        self._stop.set()
                self._taken = replace(self._taken, controls=entry.number)

    async def _end_when_left(self) -> None:
        """End a program that waits for somebody who has gone. None is ended while state cannot be asked, and
        none because of one answer: state may have been emptied a moment ago."""
        alone = 0
        while alone < 2:
            await trio.sleep(_LOOK_S)
            if trio.current_time() < self._heard_at + _LEFT_S:
                alone = 0
                continue
            try:
                here = await self._state.presence.here(self._submission.id)
            except OccdError:
                here = True
            alone = 0 if here else alone + 1
        self._left_alone = self._cancelled = True
        self._stop.set()

    async def _append(self, events: Sequence[Event]) -> None:
        """Store events, however long this takes: a fault of state is not the program's fault."""
        began_at = trio.current_time()
        while not self._superseded:
            try:
                await self._record(events)
                metrics.EVENTS.inc(len(events))
                metrics.EVENT_LAG.observe(trio.current_time() - began_at)
                self._trouble.over()
                return
            except (Stale, AlreadyFinished, Exhausted, Unreadable) as error:
                self._superseded = error
                self._stop.set()
            except OccdError as error:
                self._trouble.tell(error, submission=self._submission.id)
                await trio.sleep(_RETRY_S)

    async def _record(self, events: Sequence[Event]) -> None:
        """Record the attempt anew in a state that was emptied. The program runs on."""
        try:
            await self._state.log.append(self._submission.id, self.number, events)
        except UnknownSubmission:
            await self._record_anew()
            await self._state.log.append(self._submission.id, self.number, events)
        if self._kept:
            self._kept.add(events)

    async def _record_anew(self) -> None:
        """Tell a state that was emptied what it knew before."""
        submission = self._submission
        log.warning("state has forgotten what runs; recording it anew", submission=submission.id)
        version = self._program.installed.version
        taken = replace(self._taken, stdin=self._typed.got, log=self._kept is not None)
        self.number = await self._state.submissions.begin(submission, version, self._node, taken)
        for batch in self._kept.batches() if self._kept else ():
            await self._state.log.append(submission.id, self.number, batch)
        if self._left:
            await artifacts.store(self._state.blobs, submission.id, self._left)
        if self._listed:
            await self._state.blobs.put(submission.id, *self._listed)
        if self._kept and self._kept.is_whole:
            await self._state.submissions.whole(submission.id, self.number)
