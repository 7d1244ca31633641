"""What a compiler made of a program, as it is kept: how it ended, what it said, and the tree.

It begins with a checksum of the rest: a disk may lie, and a power cut may leave half a file.
"""

import hashlib
import json
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass

from occd.execution.recorder import Said
from occd.model import HEAD_BYTES, Account, Outcome, Stream, Written, account_of
from occd.sandbox import Packed

ERROR_S = 600.0
"""A fault that a compiler found is believed for so long: its reason may have been a machine that was full."""

LONG = 2**18
"""More bytes are dealt with in a thread."""

_FORM = 1
_LENGTH = struct.Struct("<Q")
_SUM_BYTES = hashlib.sha256().digest_size


class Damaged(Exception):
    """These bytes are no entry of ours."""


@dataclass(frozen=True, slots=True)
class Entry:
    exit_code: int
    said: Said
    tree: Packed | None
    """None when the compiler found a fault."""
    made_at: float

    @property
    def is_old(self) -> bool:
        return self.exit_code != 0 and not 0 <= time.time() - self.made_at <= ERROR_S

    @property
    def is_long(self) -> bool:
        return self.tree is not None and len(self.tree.data) > LONG

    @property
    def outcome(self) -> Outcome:
        """Of the compile stage that it saves, which takes nothing."""
        stdout, stderr = self._written("stdout"), self._written("stderr")
        return Outcome(self.exit_code, None, None, stdout, stderr, 0.0, 0.0, 0, cached=True)

    def _written(self, account: Account) -> Written:
        data = b"".join(piece for stream, piece in self.said if account_of(stream) == account)
        whole = Written.of(data)
        return Written(whole.size, whole.utf8, head=data[:HEAD_BYTES])

    def encode(self) -> bytes:
        told = {
            "form": _FORM,
            "exit_code": self.exit_code,
            "made_at": self.made_at,
            "said": [[stream, len(piece)] for stream, piece in self.said],
            "tree": self.tree is not None,
        }
        head = json.dumps(told).encode()
        pieces = [piece for _, piece in self.said]
        body = [_LENGTH.pack(len(head)), head, *pieces, self.tree.data if self.tree else b""]
        summed = hashlib.sha256()
        for part in body:
            summed.update(part)
        return b"".join([summed.digest(), *body])


def decode(data: bytes) -> Entry:
    """Raises Damaged."""
    if hashlib.sha256(memoryview(data)[_SUM_BYTES:]).digest() != data[:_SUM_BYTES]:
        raise Damaged("its checksum is wrong")
    start = _SUM_BYTES + _LENGTH.size
    (length,) = _LENGTH.unpack_from(data, _SUM_BYTES)
    told = json.loads(data[start : start + length])
    if told["form"] != _FORM:
        raise Damaged("another version of occd wrote it")
    at = start + length

    def pieces() -> Iterator[tuple[Stream, bytes]]:
        nonlocal at
        for stream, size in told["said"]:
            yield stream, data[at : at + size]
            at += size

    said = tuple(pieces())
    tree = Packed(data[at:]) if told["tree"] else None
    return Entry(told["exit_code"], said, tree, told["made_at"])
