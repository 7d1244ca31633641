"""From a running program to its event log: the first line at once, then what comes within 20 ms together,
in the order in which the two streams were written, and never a split UTF-8 sequence.

Nothing here blocks the program: while state is slow or gone its output waits in memory, at most the
output limit of each stage.
"""

from collections.abc import Awaitable, Callable, Sequence

import trio

from occd.model import Event, Output, StageName, Stream
from occd.utf8 import unfinished

_GATHER_S = 0.02
_LINE_S = 0.002
"""Output that ends in the middle of a line is most often continued at once: an unbuffered print of Python
writes the end of its line by itself."""

_EVENT_BYTES = 32 * 1024
_CHANGES_MAX = 4096
"""So often in a stage a change of stream begins an event of its own. A program that changes at every byte
would make a million events; from then on what is gathered keeps its order within each stream only."""


class EventLog:
    """Orders and gathers what one attempt appends. `append` stores events, in order."""

    def __init__(self, append: Callable[[Sequence[Event]], Awaitable[None]]) -> None:
        self._append = append
        self._ready: list[Event] = []
        self._stage: StageName = "run"
        self._output: list[tuple[Stream, bytearray]] = []
        """Whole characters only; neighbours are of different streams."""
        self._halves: dict[Stream, bytes] = {}
        """The beginning of a character, by stream."""
        self._changes = 0
        self._more = trio.Event()
        self._hurry = trio.Event()
        self._gathering = False
        self._looking = False
        self._closed = False

    def put(self, stage: StageName, event: Event) -> None:
        """Append an event after all output that came before it. A moment later, if nothing follows: what
        follows the start of a stage most often does so at once."""
        self._end_output()
        self._stage = stage
        self._changes = 0
        self._ready.append(event)
        self._more.set()

    def emit(self, stream: Stream, data: bytes) -> None:
        data = self._halves.pop(stream, b"") + data
        if half := unfinished(data):
            data, self._halves[stream] = data[:-half], data[-half:]
        if data:
            waiting = self._waiting(stream)
            waiting += data
            line = not self._gathering and data.endswith(b"\n")
            self._wake(hurry=line or len(waiting) >= _EVENT_BYTES)

    def _waiting(self, stream: Stream) -> bytearray:
        """The piece to which output of `stream` is added now."""
        if self._output and self._output[-1][0] == stream:
            return self._output[-1][1]
        if self._changes >= _CHANGES_MAX:
            for other, waiting in reversed(self._output):
                if other == stream:
                    return waiting
        self._changes += bool(self._output)
        waiting = bytearray()
        self._output.append((stream, waiting))
        return waiting

    def look(self) -> None:
        """Append nothing, which tells what became of the log."""
        self._looking = True
        self._wake(hurry=True)

    def close(self) -> None:
        """Nothing follows: `run` returns when all is appended."""
        self._end_output()
        self._closed = True
        self._wake(hurry=True)

    async def run(self) -> None:
        while not (self._closed and not self._ready):
            await self._more.wait()
            await self._hurried(_LINE_S if self._output else _GATHER_S)
            self._more, self._hurry = trio.Event(), trio.Event()
            self._take_output()
            if self._ready or self._looking:
                self._looking = False
                events, self._ready = self._ready, []
                self._gathering = True
                await self._append(events)
                await self._hurried(_GATHER_S)
                self._gathering = False
                if self._output:
                    self._hurry.set()

    async def _hurried(self, at_most: float) -> None:
        """Wait a moment for more to come, unless there is a reason not to."""
        if not self._closed:
            with trio.move_on_after(at_most):
                await self._hurry.wait()

    def _wake(self, *, hurry: bool) -> None:
        self._more.set()
        if hurry:
            self._hurry.set()

    def _end_output(self) -> None:
        """Nothing follows in this stage: what was begun stays half a character."""
        for stream, half in self._halves.items():
            self._waiting(stream).extend(half)
        self._halves.clear()
        self._take_output()

    def _take_output(self) -> None:
        for stream, waiting in self._output:
            data = bytes(waiting)
            start = 0
            while len(data) - start > _EVENT_BYTES:
                end = start + _EVENT_BYTES
                end -= unfinished(data[end - 4 : end])
                self._ready.append(Output(self._stage, stream, data[start:end]))
                start = end
            self._ready.append(Output(self._stage, stream, data[start:]))
        self._output.clear()
