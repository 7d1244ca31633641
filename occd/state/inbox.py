"""The inbox of a node: letters from other nodes, each for one seat of this node."""

from dataclasses import dataclass

from occd.errors import Rejected

INBOX_TTL_S = 60.0
"""A letter that nobody handled is dropped this many seconds after it was sent. An inbox whose reader was not
heard for so long is gone, with its letters."""

RENEW_S = INBOX_TTL_S / 3
"""A reader that waits is heard this often."""

LETTERS_MAX = 1000
LETTERS_BYTES_MAX = 2**20
"""Of one inbox. Each letter counts LETTER_BYTES beside its data."""

LETTER_MAX = 2**16
"""Bytes of data in one letter."""

LETTER_BYTES = 64


@dataclass(frozen=True, slots=True)
class Letter:
    """`number` is greater than that of every earlier letter in the inbox."""

    number: int
    seat: int
    data: bytes


def refuse_huge(data: bytes) -> None:
    if len(data) > LETTER_MAX:
        raise Rejected("too-large", f"a node is told at most {LETTER_MAX} bytes at once")
