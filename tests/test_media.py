"""The types of files that strangers' programs named (`occd/media.py`)."""

import pytest

from occd.media import media_type


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("a.png", b"\x89PNG\r\n\x1a\n", "image/png"),
        ("a.html", b"GIF89a<script>", "image/gif"),
        ("a.png", b"<script>", "application/octet-stream"),
        ("out/a.html", b"", "text/html"),
        ("a.svg.gz", b"", "application/octet-stream"),
        ("data:text/html,a.png", b"", "application/octet-stream"),
        ("data:x/<b>;y,a", b"", "application/octet-stream"),
        ("data:a,b.html", b"", "text/html"),
        ("http://a/b.html", b"", "text/html"),
    ],
)
def test_a_type_is_one_of_the_bytes_or_of_the_suffix(name: str, data: bytes, expected: str) -> None:
    """A program chooses the name of its file, and must not choose any text as its type."""
    assert media_type(name, data) == expected
