"""How what checkers and programs wrote reaches an author (`occd/execution/checked.py`)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from occd.execution.checked import MESSAGE_BYTES, accepted, excerpt, failed, readable
from occd.judging import TestVerdict as V

EXCERPTS = [
    (b"", 0, '""'),
    (b"abc", 1, '"abc"'),
    (b'say "hi"', 0, r'"say \"hi\""'),
    (b"a\tb\r", 0, r'"a\tb\r"'),
    (b"\x1b[31m\0", 0, r'"\x1b[31m\x00"'),
    (b"\xff", 0, r'"\xff"'),
    (rb"\xff", 0, r'"\\xff"'),
    ("\x85\u202e".encode(), 0, r'"\u0085\u202e"'),
    ("é€😀".encode(), 0, '"é€😀"'),
    (b"x" * 200, 199, f'"{"x" * 200}"'),
    (b"x" * 201, 0, f'"{"x" * 200}"…'),
    (b"x" * 500, 499, f'…"{"x" * 51}"'),
    (b"x" * 500, 300, f'…"{"x" * 200}"…'),
    ("€".encode() * 100, 150, f'…"{"€" * 66}"…'),
    ("€".encode() * 100, 153, f'…"{"€" * 66}"'),
]


@pytest.mark.parametrize(("data", "at", "shown"), EXCERPTS)
def test_an_excerpt_shows_what_stands_around_a_place(data: bytes, at: int, shown: str) -> None:
    assert excerpt(data, at) == shown


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_different_bytes_never_look_the_same(one: bytes, other: bytes) -> None:
    assert (excerpt(one) == excerpt(other)) == (one == other)


MESSAGES = [
    (b"", ""),
    (b"  fine\n\n", "fine"),
    (b"two\r\nlines\n", "two\nlines"),
    (b"a\tb", "a\tb"),
    (b"red \x1b[31m", r"red \x1b[31m"),
    (b"\xff \xc3", r"\xff \xc3"),
    (b"\\n", "\\n"),
    (b"x" * MESSAGE_BYTES, "x" * MESSAGE_BYTES),
    (b"x" * (MESSAGE_BYTES + 1), "x" * (MESSAGE_BYTES - 3) + "…"),
    ("€".encode() * MESSAGE_BYTES, "€" * (MESSAGE_BYTES // 3 - 1) + "…"),
]


@pytest.mark.parametrize(("message", "shown"), MESSAGES)
def test_a_message_is_text_that_shows_every_strange_byte(message: bytes, shown: str) -> None:
    assert readable(message) == shown


@given(st.binary(max_size=3 * MESSAGE_BYTES))
def test_a_message_has_at_most_4_kib(message: bytes) -> None:
    assert len(readable(message).encode()) <= MESSAGE_BYTES
    assert len(failed("The checker failed.", message).message.encode()) <= MESSAGE_BYTES


@given(st.binary(max_size=2000), st.integers(0, 2000))
def test_two_excerpts_fit_into_a_message(data: bytes, at: int) -> None:
    assert 2 * len(excerpt(data, at).encode()) < MESSAGE_BYTES - 200


def test_an_output_that_earns_nothing_is_not_accepted() -> None:
    assert accepted(0.0, "0 points").verdict == V.WRONG_ANSWER
    assert accepted(1e-9).verdict == V.ACCEPTED
