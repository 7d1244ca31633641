"""What clients send to a program that runs: each is a control, with a number of its own."""

from dataclasses import dataclass

from occd.events import Unknown


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
class Cancel:
    """The program is to be ended."""


Control = Stdin | End | Signal | Cancel | Unknown
"""Unknown stands for a control that somebody else wrote."""


@dataclass(frozen=True, slots=True)
class ControlEntry:
    number: int
    control: Control
