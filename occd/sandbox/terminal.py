"""Our side of a program's terminal: what is typed, and the size of the window (`init.c` makes the terminal).

The terminal is the kernel's (n_tty(4) in short: `man 3 termios`). It edits lines, echoes, turns Ctrl-C into
SIGINT, and so on, as the program has set it. We only pass bytes on, and never answer what the program asks of
a terminal: that is for the page, or for whoever shows the terminal.
"""

import fcntl
import os
import struct
import termios

import trio

from occd.inputs import Terminal

_WINDOW = struct.Struct("=HHHH")
_CTRL_D = b"\x04"
_LINE_ENDS = b"\r\n\x03\x04\x15\x1a\x1c"
"""After these the line is empty: its end, Ctrl-C, Ctrl-D, Ctrl-U, Ctrl-Z and Ctrl-\\."""


class Window:
    """The size of a terminal's window, whose side `master` is ours."""

    def __init__(self, master: int) -> None:
        self._master = master
        self._wanted = Terminal(1, 1)
        self._changed = trio.Event()
        self._settled = trio.Event()
        self._settled.set()

    def resize(self, window: Terminal) -> None:
        """Have `run` set the size."""
        self._wanted = window
        self._changed.set()
        if self._settled.is_set():
            self._settled = trio.Event()

    async def settled(self) -> None:
        """Wait until the window has the size that is wanted."""
        await self._settled.wait()

    async def run(self) -> None:
        """Set each size that is wanted, until cancelled. In a thread: when a program asks for the size, the
        kernel keeps the terminal's lock until the answer lies in the program's memory, and a program can make
        its memory late by half a second (`madvise(MADV_REMOVE)` of a large range). Cancelling waits for the
        lock, so the program must have been killed."""
        turn = trio.CapacityLimiter(1)  # many programs could keep trio's own threads waiting
        while True:
            await self._changed.wait()
            self._changed = trio.Event()
            await trio.to_thread.run_sync(_set, self._master, self._wanted, limiter=turn)
            if not self._changed.is_set():
                self._settled.set()


class Keyboard(trio.abc.SendStream):
    """Types into a terminal, whose side `master` is ours and does not block. A terminal that has no room for
    more makes the caller wait. The end of the stream is an end of file for a program that reads lines. A key
    after a change of `window` is typed into the changed window."""

    def __init__(self, master: int, window: Window) -> None:
        self._master = master
        self._window = window
        self._at_start = True
        """Of a line."""

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._window.settled()
        with memoryview(data) as untyped:
            while untyped:
                await self.wait_send_all_might_not_block()
                try:
                    typed = os.write(self._master, untyped)
                except BlockingIOError:
                    continue
                except OSError as error:  # nobody has the other side any more
                    raise trio.BrokenResourceError from error
                self._at_start = ends_line(untyped[typed - 1])
                untyped = untyped[typed:]

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.wait_writable(self._master)

    async def aclose(self) -> None:
        await self.send_all(end_of_file(at_start=self._at_start))


def end_of_file(*, at_start: bool) -> bytes:
    """Ctrl-D, as often as it takes. Within a line the first one only gives the program the line as it is.
    Most readers of lines (Python's, Java's, Perl's, Ruby's) take the second one for the line's end, and ask
    again."""
    return _CTRL_D if at_start else 3 * _CTRL_D


def ends_line(typed: int) -> bool:
    """Whether the line is empty after this byte."""
    return typed in _LINE_ENDS


def _set(master: int, window: Terminal) -> None:
    fcntl.ioctl(master, termios.TIOCSWINSZ, _WINDOW.pack(window.rows, window.cols, 0, 0))
