"""The checkers that are built in.

They read both outputs in blocks, and `compare` lets other tasks run after each block. A thread would be no
better: it would hold the interpreter's lock for most of its work, and the loop would wait for the lock as
long as for a block.

Measured with 16 MiB: equal outputs take 1 ms. Else lines of 8 bytes take 130 ms, words 80 ms, and numbers
that all differ as text 1 s, or 5 s if they are as short as they can be. A step takes 0.2 ms, up to 5 ms with
the shortest lines and numbers, and 14 ms when the whole output is one line.
"""

import re
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from itertools import islice

import trio

from occd.execution.checked import Checked, accepted, excerpt, wrong
from occd.execution.numbers import number
from occd.judging import FloatChecker, TextChecker

_BLOCK = 16 * 1024
_BLANK = re.compile(rb"[ \t\n\r\v\f]")
_WORD_START = re.compile(rb"(?<![^ \t\n\r\v\f])[^ \t\n\r\v\f]")

_Block = tuple[int, list[bytes]]
"""Some lines or words, and where in the output the first of them may begin."""

Steps = Generator[None, None, Checked]
"""Work in short steps, and what it comes to."""


async def compare(checker: TextChecker | FloatChecker, expected: bytes, output: bytes) -> Checked:
    steps = comparison(checker, expected, output)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: Checked = end.value
            return result
        await trio.lowlevel.checkpoint()


def comparison(checker: TextChecker | FloatChecker, expected: bytes, output: bytes) -> Steps:
    match checker.kind:
        case "exact":
            return _exact(expected, output)
        case "lines":
            return _lines(expected, output)
        case "tokens":
            return _words(expected, output, None)
        case "float":
            return _words(expected, output, checker)


def _exact(expected: bytes, output: bytes) -> Steps:
    yield
    if expected == output:
        return accepted()
    at = _common(expected, output)
    line = output.count(b"\n", 0, at) + 1
    return wrong(f"Byte {at + 1}, line {line}: {_both(expected, output, at)}.")


def _lines(expected: bytes, output: bytes) -> Steps:
    yield
    if expected == output:
        return accepted()
    found = yield from _difference(_Side(_line_blocks(expected)), _Side(_line_blocks(output)))
    if not found:
        return accepted()
    at = _common(found.expected or b"", found.output or b"")
    return wrong(f"Line {found.number}, byte {at + 1}: {_both(found.expected, found.output, at)}.")


def _words(expected: bytes, output: bytes, tolerant: FloatChecker | None) -> Steps:
    yield
    if expected == output:
        return accepted()
    side = _Side(_word_blocks(output))
    found = yield from _difference(_Side(_word_blocks(expected)), side, tolerant)
    if not found:
        return accepted()
    where = f"Word {found.number}"
    if found.output is not None:
        start = next(islice(_WORD_START.finditer(output, side.start), found.index, None)).start()
        line = output.count(b"\n", 0, start) + 1
        where += f", line {line}"
    at = _common(found.expected or b"", found.output or b"")
    return wrong(f"{where}: {_both(found.expected, found.output, at)}{_distance(found, tolerant)}.")


def _line_blocks(data: bytes) -> Iterator[_Block]:
    """Without the blanks at the end of each line. What follows the last line's end is no line."""
    last = len(data) - data.endswith(b"\n")
    start = 0
    while start < len(data):
        end = data.find(b"\n", start + _BLOCK, last)
        end = last if end < 0 else end
        yield start, [line.rstrip() for line in data[start:end].split(b"\n")]
        start = end + 1


def _word_blocks(data: bytes) -> Iterator[_Block]:
    start = end = 0
    while start < len(data):
        end += _BLOCK
        if gap := _BLANK.search(data, end, end + _BLOCK):
            end = gap.start()
        elif end + _BLOCK < len(data):
            yield start, []  # in the middle of a long word
            continue
        else:
            end = len(data)
        yield start, data[start:end].split()
        start = end


class _Side:
    """One of the two outputs. After its end come empty lines, as many as the other one has."""

    def __init__(self, blocks: Iterator[_Block]) -> None:
        self._blocks = blocks
        self._units: list[bytes] = []
        self.start = 0
        """Of the present block."""
        self.taken = 0
        """Of the present block's lines or words."""
        self.ended = False

    def load(self) -> int:
        """Have the next block if the present one is used up. Returns how many lines or words wait."""
        if self.taken == len(self._units):
            block = next(self._blocks, None)
            self.ended = block is None
            self.start, self._units = block or (self.start, [])
            self.taken = 0
        return len(self._units) - self.taken

    def take(self, count: int) -> list[bytes]:
        if self.ended:
            return [b""] * count
        taken = self._units[self.taken : self.taken + count]
        self.taken += count
        return taken


@dataclass(frozen=True, slots=True)
class _Difference:
    """None stands for the end of an output."""

    number: int
    """Of the line or word, from 1."""
    index: int
    """Of the word among those of its block."""
    expected: bytes | None
    output: bytes | None


def _difference(
    expected: _Side, output: _Side, tolerant: FloatChecker | None = None
) -> Generator[None, None, _Difference | None]:
    """The first difference."""
    number = 1
    while True:
        waiting = [expected.load(), output.load()]
        if expected.ended and output.ended:
            return None
        count = max(waiting) if expected.ended or output.ended else min(waiting)
        these, those = expected.take(count), output.take(count)
        if these != those:
            for at, (this, that) in enumerate(zip(these, those, strict=True)):
                if this != that and not (tolerant and _near(tolerant, this, that)):
                    return _Difference(
                        number + at,
                        output.taken - count + at,
                        None if expected.ended else this,
                        None if output.ended else that,
                    )
        number += count
        yield


def _near(checker: FloatChecker, expected: bytes, output: bytes) -> bool:
    one, other = number(expected), number(output)
    if one is None or other is None:
        return False
    error = abs(one - other)
    return error <= checker.absolute or error <= checker.relative * abs(one)


def _common(one: bytes, other: bytes) -> int:
    """How many bytes at the beginning are the same."""
    most = min(len(one), len(other))
    for start in range(0, most, _BLOCK):
        these, those = one[start : start + _BLOCK], other[start : start + _BLOCK]
        if these != those:
            pairs = enumerate(zip(these, those, strict=False), start)
            return next((at for at, (this, that) in pairs if this != that), most)
    return most


def _both(expected: bytes | None, output: bytes | None, at: int) -> str:
    wanted, found = (
        "the end of the output" if each is None else excerpt(each, at)
        for each in (expected, output)
    )
    return f"expected {wanted}, found {found}"


def _distance(found: _Difference, tolerant: FloatChecker | None) -> str:
    """For two numbers."""
    one, other = number(found.expected or b""), number(found.output or b"")
    if tolerant is None or one is None or other is None:
        return ""
    return f", which differ by {abs(one - other):.3g}"
