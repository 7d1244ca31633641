"""The inboxes of the one process: in memory, because their readers and senders end with it."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count

import trio

from occd.errors import InboxFull, NodeGone, Stale
from occd.state import WATCH_BYTES
from occd.state.inbox import (
    INBOX_TTL_S,
    LETTER_BYTES,
    LETTERS_BYTES_MAX,
    LETTERS_MAX,
    RENEW_S,
    Letter,
    refuse_huge,
)
from occd.state.wakeups import Wakeups


@dataclass(slots=True)
class _Inbox:
    reader: int
    until: float
    letters: deque[tuple[float, Letter]] = field(default_factory=deque)
    """Each with the time at which it is too old."""
    size: int = 0

    def put(self, letter: Letter, until: float) -> None:
        self.letters.append((until, letter))
        self.size += _size(letter)

    def drop(self, number: int) -> None:
        """All letters up to a number."""
        now = trio.current_time()
        while self.letters and (self.letters[0][1].number <= number or self.letters[0][0] <= now):
            self.size -= _size(self.letters.popleft()[1])


class EmbeddedInboxes:
    def __init__(self) -> None:
        self._inboxes: dict[str, _Inbox] = {}
        self._numbers = count(1)
        """Of letters and of readers."""
        self._told = Wakeups()

    async def open(self, node: str) -> int:
        reader = next(self._numbers)
        self._of(node, reader)
        self._told.send(node)  # an earlier reader
        return reader

    async def send(self, node: str, seat: int, data: bytes) -> None:
        refuse_huge(data)
        now, letter = trio.current_time(), Letter(next(self._numbers), seat, data)
        inbox = self._inboxes.get(node)
        if inbox is None or inbox.until <= now:
            raise NodeGone(node)
        if len(inbox.letters) >= LETTERS_MAX or inbox.size + _size(letter) > LETTERS_BYTES_MAX:
            raise InboxFull(node)
        inbox.put(letter, now + INBOX_TTL_S)
        self._told.send(node)

    async def watch(self, node: str, reader: int, after: int) -> Sequence[Letter]:
        while True:
            with self._told.expected(node) as told:
                inbox = self._of(node, reader)
                inbox.drop(0)
                if found := _beyond(inbox, after):
                    return found
                with trio.move_on_after(RENEW_S):
                    await told.wait()

    async def handled(self, node: str, reader: int, number: int) -> None:
        self._of(node, reader).drop(number)

    async def close(self, node: str, reader: int) -> None:
        self._of(node, reader)
        del self._inboxes[node]

    def _of(self, node: str, reader: int) -> _Inbox:
        """The inbox, of which this reader is heard now. Raises Stale."""
        now = trio.current_time()
        self._inboxes = {name: each for name, each in self._inboxes.items() if each.until > now}
        inbox = self._inboxes.setdefault(node, _Inbox(reader, now))
        if inbox.reader > reader:
            raise Stale(node)
        inbox.reader, inbox.until = reader, now + INBOX_TTL_S
        return inbox


def _size(letter: Letter) -> int:
    return len(letter.data) + LETTER_BYTES


def _beyond(inbox: _Inbox, after: int) -> list[Letter]:
    found, size = [], 0
    for _, letter in inbox.letters:
        if letter.number > after:
            found.append(letter)
            size += _size(letter)
        if size > WATCH_BYTES:
            break
    return found
