"""The end of what a step writes to stderr, or shows on its terminal: there compilers and runtimes say what
went wrong."""

from occd.model import Stream

_END_BYTES = 16 * 1024
"""The report of a Go program that ran out of memory opens with its cause, and has 7 KiB in Go 1.27."""


class Tail:
    """Keeps the last 16 KiB."""

    def __init__(self) -> None:
        self._end = b""

    def add(self, stream: Stream, data: bytes) -> None:
        if stream != "stdout":
            self._end = (self._end + data[-_END_BYTES:])[-_END_BYTES:]

    @property
    def text(self) -> str:
        return self._end.decode(errors="replace")
