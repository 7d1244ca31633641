"""How one step is run, and what of it is logged."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import trio

from occd import metrics
from occd.events import Stage
from occd.execution.eventlog import EventLog
from occd.execution.program import Command
from occd.execution.recorder import Recorder, Said
from occd.model import File, Limits, Outcome, Step, Stream, Terminal
from occd.sandbox import (
    Cell,
    Collect,
    Collected,
    Feed,
    Given,
    Idle,
    Packed,
    Run,
    Running,
    Sink,
    Traced,
    Tree,
)

_NOTHING = Given()
_LONGEST = 3
"""So much longer than its idle time a program may go on that writes or computes, but gets no input."""


@dataclass(frozen=True, slots=True)
class Done:
    """How a step ended. The outcome counts the output that the log has. `stderr` is the beginning of stderr,
    and `end_of_stderr` its end, or the end of what a terminal showed. `stdout` and `said` (all output, in its
    order) are whole, if they were to be kept."""

    outcome: Outcome
    stderr: bytes
    end_of_stderr: str
    stdout: bytes
    tree: Tree | Packed | None
    collected: Collected
    trace: Traced | None = None
    said: Said = ()


def _no_matter(_running: Running) -> None:
    """For those who need not know when a program runs."""


@dataclass(frozen=True, slots=True)
class When:
    """A task status that calls a function when the program runs."""

    call: Callable[[Running], None]

    def started(self, running: Running | None = None) -> None:
        assert running is not None
        self.call(running)


def idle_time(limits: Limits) -> Idle | None:
    return Idle(limits.idle, _LONGEST * limits.idle) if limits.idle else None


class Steps:
    """Runs the steps of one attempt."""

    def __init__(self, log: EventLog, stop: trio.Event) -> None:
        """`stop` ends the steps that run, and keeps what they wrote."""
        self._log = log
        self.stop = stop
        self.logged = 0
        """Bytes of output in the log, of the steps that are over."""
        self.cpu_time = 0.0
        """In seconds, of the steps that are over."""

    async def run(
        self,
        cell: Cell,
        step: Step,
        command: Command,
        *,
        stdin: Feed | Given = _NOTHING,
        tty: Terminal | None = None,
        signals: trio.MemoryReceiveChannel[int] | None = None,
        tree: Tree | Packed | None = None,
        files: Sequence[File] = (),
        interactive: bool = False,
        log_max: int | None = None,
        keep_stdout: bool = False,
        keep_said: bool = False,
        keep_tree: bool = False,
        collect: Collect | None = None,
        trace: bool = False,
        stop: trio.Event | None = None,
        turn: Callable[[], Awaitable[None]] | None = None,
        started: Callable[[Running], None] = _no_matter,
    ) -> Done:
        """`stop` ends this step alone, instead of the event for all steps. `started` is called with the
        program when it runs. `log_max` is the most that the log gets of each stream, None for all. The step
        is made ready, and begins when `turn` returns; what it raises is raised."""
        recorder = Recorder(self._log, step, log_max, keep=keep_stdout, keep_said=keep_said)
        limits = command.limits
        out: Stream = "tty" if tty else "stdout"
        ordered_at = trio.current_time()
        if turn is None:
            self._log.put(step, _start(step))

        async def begin() -> None:
            nonlocal ordered_at
            assert turn
            await turn()
            ordered_at = trio.current_time()
            self._log.put(step, _start(step))

        def begun(running: Running) -> None:
            metrics.SET_UP.labels(step.stage).observe(trio.current_time() - ordered_at)
            started(running)

        ended = await cell.run(
            Run(
                command.argv,
                command.env,
                limits,
                stdout=Sink(limits.output, recorder.told(out)),
                stderr=Sink(limits.output, recorder.told("stderr")),
                stdin=stdin,
                tty=tty,
                stop=self.stop if stop is None else stop,
                signals=signals,
                tree=tree,
                files=files,
                interactive=interactive,
                idle=idle_time(limits),
                keep=keep_tree,
                collect=collect,
                followed=interactive or (step.test is None and self._log.followed),
                turn=begin if turn else None,
                trace=trace,
            ),
            task_status=When(begun),
        )
        outcome = recorder.accounted(ended.outcome)
        if step.stage != "compile":
            outcome = command.language.judged(outcome, recorder.end_of_stderr)
        self.logged += recorder.logged
        self.cpu_time += outcome.cpu_time
        metrics.RAN.labels(step.stage).observe(outcome.wall_time)
        self._log.put(step, _end(step, outcome))
        return Done(
            outcome,
            ended.outcome.stderr.head,
            recorder.end_of_stderr,
            bytes(recorder.stdout),
            ended.tree,
            ended.collected,
            ended.trace,
            recorder.said,
        )

    def repeat(
        self,
        step: Step,
        outcome: Outcome,
        said: Said,
        tree: Packed | None,
        log_max: int | None = None,
    ) -> Done:
        """Tell the log of a step as if it were run, which costs nothing."""
        self._log.put(step, _start(step))
        recorder = Recorder(self._log, step, log_max)
        for stream, piece in said:
            recorder.told(stream)(piece)
        outcome, head = recorder.accounted(outcome), outcome.stderr.head
        self.logged += recorder.logged
        self._log.put(step, _end(step, outcome))
        return Done(outcome, head, recorder.end_of_stderr, b"", tree, Collected())


def _start(step: Step) -> Stage:
    return Stage(step.stage, "start", program=step.program, test=step.test)


def _end(step: Step, outcome: Outcome) -> Stage:
    """The log has the output."""
    return Stage(step.stage, "end", outcome.without_heads(), program=step.program, test=step.test)
