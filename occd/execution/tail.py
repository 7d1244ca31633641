"""The end of what a step writes to stderr, where compilers and runtimes say what went wrong."""

from collections.abc import Callable

from occd.model import Stream

_END_BYTES = 4096


class Tail:
    """Passes output on, and keeps the last 4 KiB of stderr."""

    def __init__(self, emit: Callable[[Stream, bytes], None]) -> None:
        self._emit = emit
        self._end = b""

    def emit(self, stream: Stream, data: bytes) -> None:
        if stream == "stderr":
            self._end = (self._end + data[-_END_BYTES:])[-_END_BYTES:]
        self._emit(stream, data)

    @property
    def text(self) -> str:
        return self._end.decode(errors="replace")
