"""Long JSON is read in short steps, and as the standard library reads it."""

import json
import random
from base64 import b64encode
from collections.abc import Callable
from functools import partial
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from occd.errors import Rejected
from occd.web.json import parse
from occd.web.longjson import SLICE, LongText, Reader, base64_bytes, digest_of

PIECES = [
    *(
        '"',
        "\\",
        "\\\\",
        '\\"',
        "\\n",
        "\\u0000",
        "\\ud83d",
        "\\ude00",
        "\\u00e9",
        "\\ud83d\\ude00",
    ),
    *(
        "é",
        "€",
        "😀",
        "x",
        "x" * 300,
        "NaN",
        "\x01",
        "\\q",
        "\\u12",
        "[",
        "]",
        "{",
        "}",
        ",",
        ":",
        " ",
    ),
]


def plain(value: Any) -> Any:
    """With the strings that were long as strings."""
    match value:
        case LongText():
            return bytes(value.data).decode("utf-8", "surrogatepass")
        case list():
            return [plain(each) for each in value]
        case dict():
            return {name: plain(each) for name, each in value.items()}
    return value


def read_in(data: bytes, sizes: list[int]) -> Any:
    """By pieces of these sizes, over and over."""
    reader, at, turn = Reader(), 0, 0
    while at < len(data):
        size = sizes[turn % len(sizes)]
        reader.feed(data[at : at + size])
        at, turn = at + size, turn + 1
    return reader.close()


def both(data: bytes, sizes: list[int]) -> tuple[Any, Any]:
    """What is found whole and in pieces; the kind of the refusal where it is refused."""
    return (
        value_or_kind(partial(parse, data)),
        value_or_kind(lambda: plain(read_in(data, sizes))),
    )


def value_or_kind(read: Callable[[], Any]) -> Any:
    try:
        return read()
    except Rejected as error:
        return error.kind


@settings(max_examples=300, derandomize=True)
@given(
    some.lists(some.sampled_from(PIECES), max_size=40),
    some.sampled_from(["[%s]", '["%s"]', '{"a":"%s","b":["%s"]}', "%s"]),
    some.lists(some.integers(1, 40), min_size=1, max_size=5),
)
def test_pieces_are_read_as_the_whole(pieces: list[str], frame: str, sizes: list[int]) -> None:
    text = "".join(pieces)
    whole, parts = both(frame.replace("%s", text).encode(), sizes)
    assert parts == whole


@settings(max_examples=200, derandomize=True)
@given(some.text(max_size=2000), some.booleans(), some.integers(1, 700))
def test_every_text_survives(text: str, escaped: bool, size: int) -> None:
    value = {"source": text + "x" * 300, "args": [text, text * 3]}
    data = json.dumps(value, ensure_ascii=escaped).encode("utf-8", "surrogatepass")
    whole, parts = both(data, [size])
    assert parts == whole


def test_bytes_that_are_no_utf8_are_refused_wherever_they_are_cut() -> None:
    rng = random.Random(20261125)
    for _ in range(300):
        text = bytearray(("é€😀x" * 200).encode())
        text[rng.randrange(len(text))] = rng.choice(b"\xff\xc0\x80\xed")
        data = b'["%b"]' % bytes(text)
        whole, parts = both(data, [rng.randrange(1, 500)])
        assert parts == whole == "bad-json" or whole == parts


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"[" * 300, "bad-json"),
        (b'{"a":' * 300, "bad-json"),
        (b"[" + b"0," * 30_000, "too-large"),
        (b"[" + b"[]," * 30_000, "too-large"),
        (b'["' + b'","' * 300_000, "too-large"),
        (b'{"x":0' + b',"x":0' * 30_000, "too-large"),
        (b"[" + b" " * 2**20, "too-large"),
        (b"9" * (2**20 + 1), "too-large"),
        (b'["' + b"x" * 2**20, "bad-json"),
        (b'["' + b"x" * 2**20 + b"\\", "bad-json"),
        (b'["%b"' % (b"x" * 1000), "bad-json"),
        (b'["%b" "%b"]' % (b"x" * 1000, b"y" * 1000), "bad-json"),
        (b'{"%b"}' % (b"x" * 1000), "bad-json"),
        (b"[NaN]", "bad-json"),
        (b'["%b",NaN]' % (b"x" * 1000), "bad-json"),
        (b"[-Infinity]", "bad-json"),
        (b"\xef\xbb\xbf[]", "bad-json"),
    ],
    ids=lambda each: each[:12] if isinstance(each, bytes) else each,
)
def test_what_is_too_much_or_no_json_is_refused_once(data: bytes, kind: str) -> None:
    with pytest.raises(Rejected) as refused:
        read_in(data, [SLICE])
    assert refused.value.kind == kind
    assert len(str(refused.value)) < 300


def test_long_keys_are_cut_and_short_ones_are_not() -> None:
    keys = {"k" * 10_000: 1, "short": "y" * 1000, "z" * 10_000: 2}
    value = read_in(json.dumps(keys).encode(), [77])
    assert plain(value) == {"k" * 100 + "…": 1, "short": "y" * 1000, "z" * 100 + "…": 2}


async def test_the_digest_tells_values_apart_and_not_how_they_were_written() -> None:
    async def of(text: str) -> str:
        reader = Reader()
        await reader.take(text.encode())
        return await digest_of(reader.close())

    long = "é" * 10_000
    same = {await of(json.dumps([long])), await of(json.dumps([long], ensure_ascii=False))}
    assert len(same | {await of(json.dumps([long + "x"]))}) == 2


@pytest.mark.parametrize(
    "text",
    ["short", "\n" * 200, "\x00" * 60, "é" * 200, "😀€x" * SLICE, "\udc00" * SLICE, '"\\' * SLICE],
    ids=lambda text: f"{text[:2]!a} {len(text)}",
)
async def test_the_digest_does_not_depend_on_how_the_value_came(text: str) -> None:
    """Escapes make a text long that is short when it is read whole. The digest of short values is the one of
    earlier versions: a repetition after an upgrade is known again."""
    value = {"source": text, "list": [text, 1.5, None], "mark": "text-"}
    data = json.dumps(value).encode()
    expected = sha256(data).hexdigest()
    assert await digest_of(value) == expected
    for sizes in ([SLICE], [1000], [7, 300], [1] if len(data) < 5000 else [61]):
        assert await digest_of(read_in(data, sizes)) == expected


@pytest.mark.parametrize("size", [0, 1, 1000, SLICE, 3 * SLICE, 10**6 + 1])
async def test_long_base64_is_decoded(size: int) -> None:
    data = random.Random(size).randbytes(size)
    text = LongText(bytearray(b64encode(data)))
    assert await base64_bytes(text) == data


@pytest.mark.parametrize("at", [0, 5, SLICE - 1, SLICE, 3 * SLICE])
async def test_long_base64_that_is_wrong_anywhere_is_refused(at: int) -> None:
    for wrong in (b"=", b"!", b"\n", b"\xc3\xa9"):
        text = LongText(bytearray(b64encode(bytes(4 * SLICE))))
        text.data[at : at + len(wrong)] = wrong
        with pytest.raises(ValueError, match=r"."):
            await base64_bytes(text)
