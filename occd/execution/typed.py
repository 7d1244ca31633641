"""The clients' stdin on its way from state to a program that reads it when it likes."""

from collections import deque

import trio

from occd.state import STDIN_UNREAD_MAX, Controls
from occd.state.control import ControlEntry, End, Stdin


class Typed:
    """Stdin waits here, so that no other control waits behind it. About STDIN_UNREAD_MAX bytes wait at most.
    For a program that runs anew, more comes at once, and is read again when there is room."""

    def __init__(self, subject: str, controls: Controls) -> None:
        self._subject = subject
        self._controls = controls
        self._pieces: deque[bytes] = deque()
        self._number = 0
        """Of a control: all stdin up to it is in `pieces`, or with the program."""
        self._sent = 0
        self._got = 0
        self._took = 0
        """Bytes, from the first: those that clients sent, those that are here or went on from here, and those
        that the program took."""
        self._ended = False
        self._changed = trio.Event()

    @property
    def got(self) -> int:
        return self._got

    def add(self, entry: ControlEntry) -> None:
        """Take a control that follows those that came before."""
        match entry.control:
            case Stdin(offset, data):
                if offset > self._sent == self._took:  # the beginning was lost in an emptied state
                    self._sent = self._got = self._took = offset
                self._sent = max(self._sent, offset + len(data))
                self._keep(entry.number, offset, data)
            case End():
                self._ended = True
        self._wake()

    async def feed(self, send: trio.MemorySendChannel[bytes]) -> None:
        """Send to the program, until the end of stdin."""
        while not (self._ended and self._took == self._sent):
            if self._pieces:
                await send.send(self._pieces[0])
                self._took += len(self._pieces.popleft())
                self._wake()
            elif self._got < self._sent:
                await self._read_again()
            else:
                await self._changed.wait()

    async def tell(self) -> None:
        """Tell state what the program took, for as long as this is not cancelled."""
        told = self._took
        while True:
            while told == self._took:
                await self._changed.wait()
            told = self._took
            await self._controls.took(self._subject, told)

    async def _read_again(self) -> None:
        for entry in await self._controls.watch(self._subject, self._number):
            if isinstance(entry.control, Stdin):
                self._keep(entry.number, entry.control.offset, entry.control.data)
            if self._got < self._sent and not self._room:
                break
            self._number = entry.number

    @property
    def _room(self) -> bool:
        return self._got - self._took < STDIN_UNREAD_MAX

    def _keep(self, number: int, offset: int, data: bytes) -> None:
        new = data[self._got - offset :] if offset <= self._got else b""
        if new and self._room:
            self._pieces.append(new)
            self._got += len(new)
            self._number = number

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()
