"""The checkers that are built in (`occd/execution/compare.py`)."""

import time
from collections.abc import Callable

import pytest
import trio
from comparing import check
from hypothesis import example, given
from hypothesis import strategies as st

from occd.execution.checked import MESSAGE_BYTES, Checked
from occd.execution.compare import compare, comparison
from occd.execution.numbers import number
from occd.judging import FloatChecker, TextChecker
from occd.judging import TestVerdict as V

MIB = 2**20
EXACT, LINES, TOKENS = TextChecker("exact"), TextChecker("lines"), TextChecker("tokens")
NEAR = FloatChecker(1e-6, 1e-6)
ABSOLUTE, RELATIVE = FloatChecker(absolute=0.5), FloatChecker(relative=0.5)


ACCEPTED: list[tuple[TextChecker | FloatChecker, bytes, bytes]] = [
    (EXACT, b"", b""),
    (EXACT, b"a\n", b"a\n"),
    (LINES, b"a\n", b"a\n"),
    (LINES, b"a\n", b"a"),
    (LINES, b"a", b"a\n"),
    (LINES, b"a\nb\n", b"a \t\r\nb\v\f\n\n \n\n"),
    (LINES, b"a\r\nb\r\n", b"a\nb\n"),
    (LINES, b"\n\n", b""),
    (LINES, b"", b" \n\t"),
    (LINES, b" a\n", b" a\n"),
    (LINES, b"\n\na\n", b"  \n\r\na"),
    (LINES, b"\xff\0\n", b"\xff\0 \n"),
    (TOKENS, b"a b\nc", b"\n a\n\nb\tc "),
    (TOKENS, b"", b" \n\r\v\f\t"),
    (TOKENS, b"\xff \0", b"\xff\n\0"),
    (NEAR, b"yes 1.0", b"yes 1"),
    (NEAR, b"1", b"1.000001"),
    (NEAR, b"1e9", b"1000000999.9"),
    (NEAR, b"-0", b"0"),
    (NEAR, b"5", b"+5e0"),
    (NEAR, b".5", b"0.5"),
    (NEAR, b"5.", b"5"),
    (NEAR, b"0", b"0." + b"0" * 1000 + b"1"),
    (NEAR, b"nan inf -inf 0x10 1_000", b"nan inf -inf 0x10 1_000"),
    (NEAR, b"1e999", b"1e999"),
    (NEAR, b"1" * 10_000, b"1" * 10_000),
    (ABSOLUTE, b"1", b"1.5"),
    (RELATIVE, b"-10", b"-15"),
    (FloatChecker(), b"1.50", b"15e-1"),
]

WRONG: list[tuple[TextChecker | FloatChecker, bytes, bytes, str]] = [
    (EXACT, b"a\n", b"a", r'Byte 2, line 1: expected "a\n", found "a".'),
    (EXACT, b"a\nb", b"a\nc", r'Byte 3, line 2: expected "a\nb", found "a\nc".'),
    (EXACT, b"", b"\xff", r'Byte 1, line 1: expected "", found "\xff".'),
    (LINES, b"a\nb\n", b"a\nc\n", 'Line 2, byte 1: expected "b", found "c".'),
    (LINES, b"a\n", b" a\n", 'Line 1, byte 1: expected "a", found " a".'),
    (LINES, b"a b\n", b"a  b\n", 'Line 1, byte 3: expected "a b", found "a  b".'),
    (LINES, b"a\nb\n", b"a\n", 'Line 2, byte 1: expected "b", found the end of the output.'),
    (LINES, b"a\n", b"a\n\n\nb", 'Line 4, byte 1: expected the end of the output, found "b".'),
    (LINES, b"a\nb\n", b"a\n\nb\n", 'Line 2, byte 1: expected "b", found "".'),
    (LINES, b"a", b"A", 'Line 1, byte 1: expected "a", found "A".'),
    (LINES, b"a\nb", b"a\rb", r'Line 1, byte 2: expected "a", found "a\rb".'),
    (LINES, b"a", b"\xe9", r'Line 1, byte 1: expected "a", found "\xe9".'),
    (LINES, b"a", b"a\0", r'Line 1, byte 2: expected "a", found "a\x00".'),
    (TOKENS, b"a b c", b"a\n\n b d", 'Word 3, line 3: expected "c", found "d".'),
    (TOKENS, b"a b", b"a", 'Word 2: expected "b", found the end of the output.'),
    (TOKENS, b"a", b"a\nb", 'Word 2, line 2: expected the end of the output, found "b".'),
    (TOKENS, b"1.0", b"1", 'Word 1, line 1: expected "1.0", found "1".'),
    (NEAR, b"1", b"1.00001", 'Word 1, line 1: expected "1", found "1.00001", which differ by 1e-05.'),
    (NEAR, b"1e9", b"1000002e3", 'Word 1, line 1: expected "1e9", found "1000002e3", which differ by 2e+03.'),
    (NEAR, b"1", b"nan", 'Word 1, line 1: expected "1", found "nan".'),
    (NEAR, b"nan", b"1", 'Word 1, line 1: expected "nan", found "1".'),
    (NEAR, b"nan", b"NaN", 'Word 1, line 1: expected "nan", found "NaN".'),
    (NEAR, b"inf", b"1e999", 'Word 1, line 1: expected "inf", found "1e999".'),
    (NEAR, b"1e999", b"5", 'Word 1, line 1: expected "1e999", found "5".'),
    (NEAR, b"5", b"1e999", 'Word 1, line 1: expected "5", found "1e999".'),
    (NEAR, b"16", b"0x10", 'Word 1, line 1: expected "16", found "0x10".'),
    (NEAR, b"1000", b"1_000", 'Word 1, line 1: expected "1000", found "1_000".'),
    (NEAR, b"1", b"1,", 'Word 1, line 1: expected "1", found "1,".'),
    (NEAR, b"1", "١".encode(), 'Word 1, line 1: expected "1", found "١".'),
    (NEAR, b"1", b"\xff", r'Word 1, line 1: expected "1", found "\xff".'),
    (NEAR, b"1 2", b"1", 'Word 2: expected "2", found the end of the output.'),
    (NEAR, b"a", b"b", 'Word 1, line 1: expected "a", found "b".'),
    (ABSOLUTE, b"1000", b"1001", 'Word 1, line 1: expected "1000", found "1001", which differ by 1.'),
    (RELATIVE, b"1", b"1.6", 'Word 1, line 1: expected "1", found "1.6", which differ by 0.6.'),
    (RELATIVE, b"0", b"1e-9", 'Word 1, line 1: expected "0", found "1e-9", which differ by 1e-09.'),
    (FloatChecker(), b"1", b"1.1", 'Word 1, line 1: expected "1", found "1.1", which differ by 0.1.'),
]  # fmt: skip


@pytest.mark.parametrize(
    ("checker", "expected", "output"), ACCEPTED, ids=map(str, range(len(ACCEPTED)))
)
def test_an_output_is_accepted(
    checker: TextChecker | FloatChecker, expected: bytes, output: bytes
) -> None:
    assert check(checker, expected, output) == Checked(V.ACCEPTED, 1.0, "")


@pytest.mark.parametrize(
    ("checker", "expected", "output", "message"), WRONG, ids=map(str, range(len(WRONG)))
)
def test_a_wrong_output_is_told_by_its_first_difference(
    checker: TextChecker | FloatChecker, expected: bytes, output: bytes, message: str
) -> None:
    assert check(checker, expected, output) == Checked(V.WRONG_ANSWER, 0.0, message)


NUMBERS = [
    (b"12", 12.0),
    (b"-1.5E+3", -1500.0),
    (b"1e308", 1e308),
    (b"1e-400", 0.0),
    (b"1e309", None),
    (b"", None),
    (b".", None),
    (b"e5", None),
    (b"1e", None),
    (b"--1", None),
    (b"1 ", None),
    (b"1\n", None),
    (b"1" * 308, float("1" * 308)),
    (b"0." + b"1" * 4094, float("0." + "1" * 20)),
    (b"0." + b"1" * 4095, None),
]


@pytest.mark.parametrize(("word", "value"), NUMBERS, ids=[str(word[:10]) for word, _ in NUMBERS])
def test_a_number_is_decimal_and_within_the_range_of_doubles(
    word: bytes, value: float | None
) -> None:
    assert number(word) == value


def plain_lines(data: bytes) -> list[bytes]:
    lines = [line.rstrip() for line in data.split(b"\n")]
    while lines and not lines[-1]:
        lines.pop()
    return lines


PIECES = st.lists(
    st.sampled_from([b"a", b"b", b"1", b" ", b"\n", b"\r\n", b"\t", b"x" * 40_000, b" " * 40_000]),
    max_size=12,
).map(b"".join)


@given(PIECES, PIECES)
@example(b"x" * 16384, b"x" * 16384 + b" ")
@example(b"x" * 16383 + b" y", b"x" * 16383 + b"\ny")
def test_blocks_change_nothing(expected: bytes, output: bytes) -> None:
    assert_same(LINES, plain_lines, expected, output)
    assert_same(TOKENS, bytes.split, expected, output)


def assert_same(
    checker: TextChecker, units: Callable[[bytes], list[bytes]], expected: bytes, output: bytes
) -> None:
    these, those = units(expected), units(output)
    checked = check(checker, expected, output)
    assert (checked.verdict == V.ACCEPTED) == (these == those)
    if these != those:
        most = max(len(these), len(those))
        padded = zip(these + [b""] * (most - len(these)), those + [b""] * most, strict=False)
        first = next(at for at, (this, that) in enumerate(padded, 1) if this != that)
        assert checked.message.split()[1].strip(",:") == str(first)


def of(unit: bytes, size: int = 16 * MIB) -> bytes:
    return unit * (size // len(unit))


HARD: list[tuple[str, TextChecker | FloatChecker, bytes, bytes]] = [
    ("equal", EXACT, of(b"12345678\n"), of(b"12345678\n")),
    ("one byte more", EXACT, of(b"12345678\n"), of(b"12345678\n") + b"\n"),
    ("ends of lines", LINES, of(b"1234567\r\n"), of(b"1234567\n")),
    ("empty lines", LINES, of(b"\n"), of(b" \n")),
    ("one line", LINES, of(b"x"), of(b"x") + b"y"),
    ("blanks", LINES, of(b" "), b"x" + of(b" ")),
    ("short words", TOKENS, of(b"1 "), of(b"1\n")),
    ("one word", TOKENS, of(b"x"), of(b"x") + b"y"),
    ("a long word before", TOKENS, b"x" * 50_000 + of(b" 12"), b"x" * 50_000 + of(b"\n12")),
    ("blanks", TOKENS, of(b" ") + b"x", b"x"),
    ("short numbers", NEAR, of(b"1 ", MIB), of(b"1.0 ", 2 * MIB)),
    ("one number", NEAR, of(b"1"), of(b"1") + b"2"),
    ("long numbers", NEAR, of(b"1" * 300 + b" "), of(b"1" * 299 + b"2 ")),
    ("digits that are no number", NEAR, of(b"1"), b"1" * 4095 + b"x"),
    ("numbers that are almost one", NEAR, of(b"1_000 "), of(b"1_001 ")),
    ("exponents", NEAR, of(b"1e-99999999 "), of(b"1e-88888888 ")),
]


@pytest.mark.parametrize(
    ("checker", "expected", "output"),
    [each[1:] for each in HARD],
    ids=[f"{each[0]}, {each[1].kind}" for each in HARD],
)
def test_no_output_holds_the_loop(
    checker: TextChecker | FloatChecker, expected: bytes, output: bytes
) -> None:
    """By the processor time of the thread, so that a busy machine does not count. A step takes 14 ms at most
    on a quiet machine. A quadratic step would take minutes."""
    steps, longest = comparison(checker, expected, output), 0.0
    for _ in range(100_000):
        began = time.thread_time()
        ended = next(steps, True)
        longest = max(longest, time.thread_time() - began)
        if ended:
            break
    else:
        pytest.fail("never ends")
    assert longest < 0.25


def test_other_tasks_run_during_a_comparison() -> None:
    turns = 0

    async def main() -> Checked:
        async def other() -> None:
            nonlocal turns
            while True:
                turns += 1
                await trio.lowlevel.checkpoint()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(other)
            checked = await compare(TOKENS, of(b"1 ", MIB), of(b"1\n", MIB))
            nursery.cancel_scope.cancel()
        return checked

    assert trio.run(main).verdict == V.ACCEPTED
    assert turns > MIB // (64 * 1024)


def test_a_message_shows_where_long_lines_differ() -> None:
    line = b"0123456789" * 100_000
    message = check(LINES, line + b"a" + line, line + b"b" + line).message
    assert message.startswith('Line 1, byte 1000001: expected …"')
    assert "0123456789a0123456789" in message
    assert "0123456789b0123456789" in message
    assert len(message.encode()) < MESSAGE_BYTES
