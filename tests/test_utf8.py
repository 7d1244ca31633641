"""Where text may be cut (`occd/utf8.py`)."""

import codecs

from hypothesis import given
from hypothesis import strategies as st

from occd.utf8 import cut, unfinished


@given(st.one_of(st.binary(max_size=12), st.text(max_size=4).map(str.encode)), st.integers(0, 3))
def test_unfinished_is_what_an_incremental_decoder_keeps(data: bytes, cut: int) -> None:
    data = data[: len(data) - cut]
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    decoder.decode(data)
    assert unfinished(data) == len(decoder.getstate()[0])


@given(st.text(), st.integers(0, 40))
def test_text_that_is_cut_is_text_and_loses_at_most_one_character_more(
    text: str, size: int
) -> None:
    data = text.encode()
    kept = cut(data, size)
    assert data.startswith(kept)
    assert len(kept) == len(data) or size - 3 <= len(kept) <= size
    assert text.startswith(kept.decode())
