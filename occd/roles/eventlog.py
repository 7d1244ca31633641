"""From a running program to its event log: the first line at once, then at most one event each
20 ms or 32 KiB a stream, and never a split UTF-8 sequence.

Nothing here blocks the program: while state is slow or gone its output waits in memory, at most the
output limit of each stage.
"""

import codecs
from collections.abc import Awaitable, Callable, Sequence

import trio

from occd.model import Event, Output, StageName, Stream

_GATHER_S = 0.02
_LINE_S = 0.002
"""What ends in the middle of a line is most often followed at once: an unbuffered print of Python writes
the end of its line by itself."""

_EVENT_BYTES = 32 * 1024


class EventLog:
    """Orders and gathers what one attempt appends. `append` stores events, in order."""

    def __init__(self, append: Callable[[Sequence[Event]], Awaitable[None]]) -> None:
        self._append = append
        self._ready: list[Event] = []
        self._stage: StageName = "run"
        self._output: dict[Stream, bytearray] = {}
        self._more = trio.Event()
        self._hurry = trio.Event()
        self._gathering = False
        self._looking = False
        self._closed = False

    def put(self, stage: StageName, event: Event) -> None:
        """Append an event after all output that came before it. A moment later, if nothing follows: what
        follows the start of a stage most often does so at once."""
        self._take_output(ended=True)
        self._stage = stage
        self._ready.append(event)
        self._more.set()

    def emit(self, stream: Stream, data: bytes) -> None:
        waiting = self._output.setdefault(stream, bytearray())
        waiting += data
        line = not self._gathering and waiting.endswith(b"\n")
        self._wake(hurry=line or len(waiting) >= _EVENT_BYTES)

    def look(self) -> None:
        """Append nothing, which tells what became of the log."""
        self._looking = True
        self._wake(hurry=True)

    def close(self) -> None:
        """Nothing follows: `run` returns when all is appended."""
        self._take_output(ended=True)
        self._closed = True
        self._wake(hurry=True)

    async def run(self) -> None:
        while not (self._closed and not self._ready):
            await self._more.wait()
            await self._hurried(_LINE_S if self._output else _GATHER_S)
            self._more, self._hurry = trio.Event(), trio.Event()
            self._take_output(ended=False)
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

    def _take_output(self, *, ended: bool) -> None:
        for stream in list(self._output):
            waiting = self._output.pop(stream)
            end = len(waiting) if ended else len(waiting) - unfinished(waiting)
            while end:
                size = min(end, _EVENT_BYTES)
                if size < end:
                    size -= unfinished(waiting[:size])
                self._ready.append(Output(self._stage, stream, bytes(waiting[:size])))
                del waiting[:size]
                end -= size
            if waiting:
                self._output[stream] = waiting


def unfinished(data: bytes | bytearray) -> int:
    """How many bytes at the end begin a UTF-8 sequence that a later byte could complete."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    decoder.decode(bytes(data[-4:]))
    return len(decoder.getstate()[0])
