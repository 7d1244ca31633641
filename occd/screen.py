"""The terminal at which somebody sits who runs a program with `occd run`.

The program has a terminal of its own in the jail, and that one edits lines, echoes, and turns Ctrl-C into a
signal. So ours does none of these while the program runs.
"""

import os
import termios
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from occd.inputs import Terminal
from occd.rules import TERMINAL_MAX

_USUAL = Terminal(24, 80)
_STREAMS = (0, 1, 2)
_KEYS = 0
_SHOWS = 1

_INPUT = (
    termios.IGNBRK
    | termios.BRKINT
    | termios.PARMRK
    | termios.ISTRIP
    | termios.INLCR
    | termios.IGNCR
    | termios.ICRNL
    | termios.IXON
)
_LOCAL = termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN


class Screen:
    """Keys and output have their modes apart: the keys belong to the program from its start to its end, and
    the output is the program's until all of it is shown."""

    def __init__(self) -> None:
        self._modes = termios.tcgetattr(_KEYS)
        self._keys_as_they_are = self._output_as_it_is = False

    @property
    def window(self) -> Terminal:
        """A terminal that does not know its size is of the usual one."""
        size = os.get_terminal_size(_SHOWS)
        if not (size.lines and size.columns):
            return _USUAL
        return Terminal(min(size.lines, TERMINAL_MAX), min(size.columns, TERMINAL_MAX))

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Afterwards the terminal is as it was."""
        try:
            yield
        finally:
            self._output_as_it_is = False
            self.take_keys()

    def give_keys(self) -> None:
        """Every key is a byte for the program."""
        self._keys_as_they_are = True
        self._set()

    def take_keys(self) -> None:
        """Ctrl-C and the like are signals for us again."""
        self._keys_as_they_are = False
        self._set()

    def show_as_it_is(self) -> None:
        """A line of the program's terminal ends with CR LF already."""
        if not self._output_as_it_is:
            self._output_as_it_is = True
            self._set()

    def _set(self) -> None:
        iflag, oflag, cflag, lflag, ispeed, ospeed, special = self._modes
        if self._keys_as_they_are:
            iflag, lflag = iflag & ~_INPUT, lflag & ~_LOCAL
            special = [*special]
            special[termios.VMIN], special[termios.VTIME] = 1, 0
        if self._output_as_it_is:
            oflag &= ~termios.OPOST
        with suppress(termios.error):  # the terminal has gone
            termios.tcsetattr(
                _KEYS, termios.TCSANOW, [iflag, oflag, cflag, lflag, ispeed, ospeed, special]
            )


def open_screen() -> Screen | None:
    """None when a pipe or a file takes the place of stdin, stdout or stderr."""
    return Screen() if all(map(os.isatty, _STREAMS)) else None
