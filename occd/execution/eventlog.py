"""From running programs to the event log: the first line at once, then what comes within 20 ms together
(100 ms while nobody follows), in the order in which the streams were written, and never a split UTF-8
sequence. Several steps may run at once. Each event names its step.

Nothing here blocks a program: while state is slow or gone its output waits in memory, at most the
output limit of each step.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence

import trio

from occd.events import Event, Output
from occd.model import Step, Stream
from occd.utf8 import unfinished

_GATHER_S = 0.02
_LINE_S = 0.002
"""Output that ends in the middle of a line is most often continued at once: an unbuffered print of Python
writes the end of its line by itself."""

_UNSEEN_S = 0.1
"""While nobody follows. What a short program writes then waits for its end, and is stored with its result. A
follower who comes later sees what came before within this time."""

_EVENT_BYTES = 32 * 1024
_CHANGES_MAX = 4096
"""So often in a step a change of stream begins an event of its own. A program that changes at every byte
would make a million events; from then on what is gathered keeps its order within each stream only."""

_ALL_CHANGES_MAX = 16 * _CHANGES_MAX
"""The same for all steps together: a submission may have a thousand tests, and an event of one byte takes a
hundred bytes of the log."""

_Source = tuple[Step, Stream]


class EventLog:
    """Orders and gathers what one attempt appends."""

    def __init__(self, followed: Callable[[], bool] = lambda: True) -> None:
        """`followed` says whether somebody may wait for events. What nobody waits for gathers for longer."""
        self._followed = followed
        self._ready: list[Event] = []
        self._output: list[tuple[_Source, bytearray]] = []
        """Whole characters only; neighbours are of different sources."""
        self._halves: dict[_Source, bytes] = {}
        """The beginning of a character."""
        self._changes: Counter[Step] = Counter()
        self._all_changes = 0
        self._more = trio.Event()
        self._hurry = trio.Event()
        self._gathering = False
        self._looking = False
        self._closed = False
        self._appending = False
        self._over = trio.Event()

    @property
    def followed(self) -> bool:
        """Whether somebody may wait for events now."""
        return self._followed()

    def put(self, step: Step, event: Event) -> None:
        """Append an event after all output that came before it. No output of the step is under way: the event
        is the start or the end of the step, or comes after the end. The event waits a moment for others,
        because what follows the start of a step most often follows at once."""
        self._end_output(step)
        self._ready.append(event)
        self._more.set()

    def emit(self, step: Step, stream: Stream, data: bytes) -> None:
        source = step, stream
        data = self._halves.pop(source, b"") + data
        if half := unfinished(data):
            data, self._halves[source] = data[:-half], data[-half:]
        if data:
            waiting = self._waiting(source)
            waiting += data
            line = not self._gathering and data.endswith(b"\n") and self._followed()
            self._wake(hurry=line or len(waiting) >= _EVENT_BYTES)

    def _waiting(self, source: _Source) -> bytearray:
        """The piece to which output of `source` is added now."""
        if self._output and self._output[-1][0] == source:
            return self._output[-1][1]
        step, _ = source
        if self._changes[step] >= _CHANGES_MAX or self._all_changes >= _ALL_CHANGES_MAX:
            for other, waiting in reversed(self._output):
                if other == source:
                    return waiting
        self._changes[step] += bool(self._output)
        self._all_changes += bool(self._output)
        waiting = bytearray()
        self._output.append((source, waiting))
        return waiting

    def look(self) -> None:
        """Append nothing, which tells what became of the log."""
        self._looking = True
        self._wake(hurry=True)

    async def close(self) -> None:
        """Nothing follows. Returns when all is appended, and `run` returns then, too."""
        self._close()
        self._wake(hurry=True)
        await self._over.wait()

    async def take_rest(self) -> list[Event]:
        """Nothing follows. Returns what is not appended yet, for the caller to store behind the rest. `run`
        returns then, too, but need not be waited for."""
        self._close()
        rest, self._ready = self._ready, []
        self._looking = False
        self._wake(hurry=True)
        if self._appending:
            await self._over.wait()
        return rest

    def _close(self) -> None:
        for step, _ in list(self._halves):
            self._end_output(step)
        self._take_output()
        self._closed = True

    async def run(self, append: Callable[[Sequence[Event]], Awaitable[None]]) -> None:
        """`append` stores events, in order."""
        while not (self._closed and not self._ready):
            await self._more.wait()
            await self._hurried(self._patience)
            self._more, self._hurry = trio.Event(), trio.Event()
            self._take_output()
            if self._ready or self._looking:
                self._looking = False
                events, self._ready = self._ready, []
                self._gathering = self._appending = True
                await append(events)
                self._appending = False
                await self._hurried(_GATHER_S)
                self._gathering = False
                if self._output and self._followed():
                    self._hurry.set()
        self._over.set()

    @property
    def _patience(self) -> float:
        """How long what has come may wait for more."""
        if not self._followed():
            return _UNSEEN_S
        return _LINE_S if self._output else _GATHER_S

    async def _hurried(self, at_most: float) -> None:
        """Wait a moment for more to come, unless there is a reason not to."""
        if not (self._closed or self._hurry.is_set()):
            with trio.move_on_after(at_most):
                await self._hurry.wait()

    def _wake(self, *, hurry: bool) -> None:
        self._more.set()
        if hurry:
            self._hurry.set()

    def _end_output(self, step: Step) -> None:
        """Nothing follows in this step: what was begun stays half a character."""
        for source in [each for each in self._halves if each[0] == step]:
            self._waiting(source).extend(self._halves.pop(source))
        self._take_output()
        del self._changes[step]

    def _take_output(self) -> None:
        for (step, stream), waiting in self._output:
            data = bytes(waiting)
            start = 0
            while len(data) - start > _EVENT_BYTES:
                end = start + _EVENT_BYTES
                end -= unfinished(data[end - 4 : end])
                self._ready.append(_output(step, stream, data[start:end]))
                start = end
            self._ready.append(_output(step, stream, data[start:]))
        self._output.clear()


def _output(step: Step, stream: Stream, data: bytes) -> Output:
    return Output(step.stage, stream, data, program=step.program, test=step.test)
