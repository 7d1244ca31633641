"""The word of a checker on one output."""

from dataclasses import dataclass

from occd.judging import TestVerdict
from occd.utf8 import cut

MESSAGE_BYTES = 4096

_EXCERPT_BYTES = 200
_BEFORE_BYTES = 50
_MORE = "…"


@dataclass(frozen=True, slots=True)
class Checked:
    """The verdict is `accepted`, `wrong_answer` or `checker_error`. `share` is what the test earns: above 0
    and up to 1 if the output was accepted, else 0. `message` is for the author: at most MESSAGE_BYTES."""

    verdict: TestVerdict
    share: float
    message: str


def accepted(share: float = 1.0, message: str = "") -> Checked:
    """An output that earns nothing is not accepted."""
    if share > 0:
        return Checked(TestVerdict.ACCEPTED, share, message)
    return wrong(message)


def wrong(message: str) -> Checked:
    return Checked(TestVerdict.WRONG_ANSWER, 0.0, message)


def failed(message: str, said: bytes = b"") -> Checked:
    """A fault of the checker's author. `said` is what the checker wrote about it."""
    whole = message.encode() + b"\n" + said
    return Checked(TestVerdict.CHECKER_ERROR, 0.0, readable(whole))


def readable(message: bytes) -> str:
    """A message of several lines. What a terminal or a reader could misread is written as an escape."""
    message = message.strip()
    lines = cut(message, MESSAGE_BYTES).decode(errors=_ESCAPED).split("\n")
    whole = "\n".join(_printable(line.rstrip(), "\t") for line in lines).encode()
    if len(message) <= MESSAGE_BYTES and len(whole) <= MESSAGE_BYTES:
        return whole.decode()
    return cut(whole, MESSAGE_BYTES - len(_MORE.encode())).decode() + _MORE


def excerpt(data: bytes, at: int = 0) -> str:
    """`data` in quotes, or what stands around the place `at` if `data` is long. Different bytes never look
    the same."""
    start = max(0, at - _BEFORE_BYTES) if len(data) > _EXCERPT_BYTES else 0
    while start > at - _BEFORE_BYTES - 3 and start and _continues(data[start]):
        start -= 1
    shown = cut(data[start : start + _EXCERPT_BYTES + 1], _EXCERPT_BYTES)
    text = _printable(shown.replace(b"\\", b"\\\\").decode(errors=_ESCAPED)).replace('"', '\\"')
    before = _MORE if start else ""
    after = _MORE if start + len(shown) < len(data) else ""
    return f'{before}"{text}"{after}'


_ESCAPED = "backslashreplace"


def _continues(byte: int) -> bool:
    """Whether the byte is a later one of a UTF-8 character."""
    return byte & 0xC0 == 0x80


def _printable(text: str, also: str = "") -> str:
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() or each in also else _escape(each) for each in text)


def _escape(character: str) -> str:
    """`\\x85` stands for a byte that is not text, so the character of this number is `\\u0085`."""
    if "\x7f" < character <= "\xff":
        return f"\\u{ord(character):04x}"
    return character.encode("unicode_escape").decode()
