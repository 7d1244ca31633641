"""Media types of files."""

import mimetypes

_PICTURES = {
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF87a": "image/gif",
    b"GIF89a": "image/gif",
}
PICTURES = frozenset({*_PICTURES.values(), "image/webp"})
"""What browsers may show. Their types are told from their bytes."""

_ANY = "application/octet-stream"


def media_type(name: str, data: bytes) -> str:
    for start, kind in _PICTURES.items():
        if data.startswith(start):
            return kind
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    # A path, by the slash. Python takes a name that begins with `data:` for an address that has a type.
    guessed, coded = mimetypes.guess_type(f"/{name}")
    return _ANY if guessed is None or coded or guessed in PICTURES else guessed
