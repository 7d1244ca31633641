"""What clients send to a program that runs: each is a control, with a number of its own."""

import re
from dataclasses import dataclass

from occd.events import Unknown
from occd.inputs import Terminal
from occd.rules import Broken

_WINDOW = re.compile(rb"([0-9]{1,4}) ([0-9]{1,4})")


@dataclass(frozen=True, slots=True)
class Stdin:
    """Input for the program. `offset` counts the bytes that were sent before."""

    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class End:
    """The end of stdin."""


@dataclass(frozen=True, slots=True)
class Signal:
    name: str


@dataclass(frozen=True, slots=True)
class Resize:
    """The terminal's window has another size from now on."""

    window: Terminal


@dataclass(frozen=True, slots=True)
class Cancel:
    """The program is to be ended."""


Control = Stdin | End | Signal | Resize | Cancel | Unknown
"""Unknown stands for a control that somebody else wrote."""


@dataclass(frozen=True, slots=True)
class ControlEntry:
    number: int
    control: Control


def store_window(window: Terminal) -> bytes:
    return b"%d %d" % (window.rows, window.cols)


def load_window(stored: bytes) -> Terminal | None:
    """None for what no terminal can have: somebody else wrote it."""
    if not (found := _WINDOW.fullmatch(stored)):
        return None
    try:
        return Terminal(int(found[1]), int(found[2]))
    except Broken:
        return None
