"""Reads long JSON as it arrives, in short steps whatever the JSON holds.

Theory of operation. The reader takes long strings out of the text as they arrive, and checks and decodes them
a slice at a time. It writes `NaN`, which JSON does not have, in their places, and later puts the strings back
in order. The rest of the text is the structure. Its bytes, values and depth are bounded, so that parsing the
structure at the end is one short step.
"""

import json
import re
from binascii import a2b_base64
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from secrets import token_hex
from typing import Any

import trio

from occd.errors import Rejected
from occd.web.json import bad, loads, refuse_constant

SLICE = 2**15
"""The bytes that are read in one step. JSON up to this length is parsed in one step."""

_LONG = 256
_STRUCTURE_MAX = 2**20
"""A thousand tests with short strings take up to that. Arguments may take an eighth of that, and three times
as much with every character escaped."""

_VALUES_MAX = 20_000
_DEPTH_MAX = 200
_KEY_SHOWN = 100
_SPACE = b" \t\r\n"
_CONTROLS = bytes(range(32))
_SHORT = re.compile(rb'"(?:[^"\\]|\\.){0,%d}+"' % _LONG, re.DOTALL)
_INSIDE = re.compile(rb'(?:[^"\\]++|\\.)*+', re.DOTALL)
_UNFINISHED = re.compile(
    rb"(?:\\u[dD][89abAB][0-9a-fA-F]{2})?\\(?:u[0-9a-fA-F]{0,3})?\Z"
    rb"|\\u[dD][89abAB][0-9a-fA-F]{2}\Z|[\xc0-\xff][\x80-\xbf]{0,2}\Z"
)
"""An escape, a pair of surrogates or a character of which more may follow."""

_UNFINISHED_BYTES = 12


@dataclass(slots=True, eq=False)
class LongText:
    """A long string of a document in UTF-8, in which lone surrogates are encoded, too."""

    data: bytearray = field(default_factory=bytearray)
    has_surrogates: bool = False

    def add(self, piece: bytes) -> None:
        """Add a piece of the JSON text, which ends with a whole escape or character."""
        decoded = piece
        if b"\\" in piece or len(piece.translate(None, _CONTROLS)) < len(piece):
            text: str = json.loads(f'"{piece.decode()}"')
            try:
                decoded = text.encode()
            except UnicodeEncodeError:
                self.has_surrogates = True
                decoded = text.encode("utf-8", "surrogatepass")
        elif not piece.isascii():
            piece.decode()
        self.data += decoded

    def slices(self) -> Iterator[str]:
        """The text in parts of about SLICE bytes."""
        at = 0
        while at < len(self.data):
            end = at + SLICE
            while end < len(self.data) and self.data[end] & 0xC0 == 0x80:  # within a character
                end += 1
            yield self.data[at:end].decode(errors="surrogatepass")
            at = end

    def __str__(self) -> str:
        return self.data.decode(errors="surrogatepass")


@dataclass(slots=True, eq=False)
class _Open:
    """A string whose end has not arrived. `raw` has not been decoded yet."""

    raw: bytearray = field(default_factory=bytearray)
    text: LongText | None = None

    def add(self, piece: bytes) -> None:
        self.raw += piece
        if len(self.raw) > _LONG:
            self.text = self.text or LongText()
            cut = _whole(self.raw)
            self.text.add(bytes(self.raw[:cut]))
            del self.raw[:cut]


class Reader:
    """One document. `take`, `feed` and `close` raise Rejected."""

    def __init__(self) -> None:
        self._structure = bytearray()
        self._texts: list[LongText] = []
        self._open: _Open | None = None
        self._closed: LongText | None = None
        """A long string that may be a key: the text after it has not arrived."""
        self._backslash = b""
        self._values = self._depth = 0

    async def take(self, piece: bytes) -> None:
        """Read the next bytes, however many, with a checkpoint after each SLICE."""
        for at in range(0, len(piece), SLICE):
            self.feed(piece[at : at + SLICE])
            await trio.lowlevel.checkpoint()

    def feed(self, data: bytes) -> None:
        """Read the next bytes, at most SLICE of them."""
        data, self._backslash, at = self._backslash + data, b"", 0
        try:
            while at < len(data):
                at = self._outside(data, at) if self._open is None else self._inside(data, at)
        except UnicodeDecodeError as error:
            raise bad("the body is not UTF-8") from error
        except json.JSONDecodeError as error:
            raise bad(f"the body is not JSON: {error.msg}") from error
        if len(self._structure) > _STRUCTURE_MAX or self._values > _VALUES_MAX:
            raise Rejected(
                "too-large",
                f"more than {_VALUES_MAX} values, or more than {_STRUCTURE_MAX} bytes beside strings of "
                f"more than {_LONG} bytes",
            )

    def close(self) -> Any:
        """Return the whole value. A long string is a LongText, a long key is cut."""
        if self._open or self._backslash:
            raise bad("the body is not JSON: it ends within a string")
        self._place(b"")
        texts = iter(self._texts)
        try:
            structure = self._structure.decode()
        except UnicodeDecodeError as error:
            raise bad("the body is not UTF-8") from error
        return loads(
            structure, lambda name: next(texts) if name == "NaN" else refuse_constant(name)
        )

    def _outside(self, data: bytes, at: int) -> int:
        """Read outside of a string; return the position at which to go on."""
        quote = data.find(b'"', at)
        end = len(data) if quote < 0 else quote
        if at < end:
            self._keep(data[at:end])
        if quote < 0:
            return end
        self._place(b'"')
        if short := _SHORT.match(data, quote):
            self._structure += short[0]
            return short.end()
        self._open = _Open()
        return quote + 1

    def _inside(self, data: bytes, at: int) -> int:
        assert self._open is not None
        inside = _INSIDE.match(data, at)
        assert inside is not None
        end = inside.end()
        self._open.add(data[at:end])
        if end < len(data) and data[end] == ord('"'):
            self._end(self._open)
            self._open = None
            return end + 1
        self._backslash = data[end:]
        return len(data)

    def _end(self, string: _Open) -> None:
        if string.text is None:
            self._structure += b'"%b"' % bytes(string.raw)
        else:
            string.text.add(bytes(string.raw))
            self._closed = string.text

    def _keep(self, piece: bytes) -> None:
        """Keep the text between strings."""
        opened = piece.count(b"{") + piece.count(b"[")
        self._depth += opened - piece.count(b"}") - piece.count(b"]")
        self._values += opened + piece.count(b",")
        if self._depth > _DEPTH_MAX:
            raise bad("the body is nested too deeply")
        if b"N" in piece:
            raise bad("the body is not JSON: NaN is no JSON number")
        if following := piece.lstrip(_SPACE)[:1]:
            self._place(following)
        self._structure += piece

    def _place(self, following: bytes) -> None:
        """Put a stand-in for a long string that has ended. The text after the string tells which."""
        if self._closed is None:
            return
        if following == b":":
            shown = self._closed.data[: 4 * _KEY_SHOWN].decode(errors="replace")[:_KEY_SHOWN]
            self._structure += json.dumps(f"{shown}…").encode()
        else:
            self._structure += b"NaN"
            self._texts.append(self._closed)
        self._closed = None


async def digest_of(value: Any) -> str:
    """A digest that recognizes the same value again, also a value that will be refused. The digest is the
    same for a long string that was read in pieces and for one that was not."""
    mark = f"text-{token_hex(16)}"
    texts: list[LongText] = []

    def stand_in(text: LongText) -> str:
        texts.append(text)
        return mark

    # Python's own form: it takes infinite numbers and lone surrogates, too.
    first, *others = json.dumps(value, default=stand_in).split(f'"{mark}"')
    digest = sha256(first.encode())
    for text, other in zip(texts, others, strict=True):
        digest.update(b'"')
        for at in text.slices():
            digest.update(json.dumps(at)[1:-1].encode())
            await trio.lowlevel.checkpoint()
        digest.update(b'"' + other.encode())
    return digest.hexdigest()


async def base64_bytes(text: LongText) -> bytes:
    """Decode base64. Raises ValueError for other text."""
    found = bytearray()
    for at in range(0, len(text.data), SLICE):
        piece = text.data[at : at + SLICE]
        found += a2b_base64(piece, strict_mode=True)
        if at + SLICE < len(text.data) and piece.endswith(b"="):
            raise ValueError("padding before the end")
        await trio.lowlevel.checkpoint()
    return bytes(found)


def _whole(raw: bytearray) -> int:
    """The longest length that does not cut an escape or a character in two."""
    at = max(0, len(raw) - _UNFINISHED_BYTES)
    while found := _UNFINISHED.search(raw, at):
        start = found.start()
        backslashes = start - len(raw[:start].rstrip(b"\\"))
        if backslashes % 2 == 0:
            return start
        at = start + 1  # an escaped backslash
    return len(raw)
