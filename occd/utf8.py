"""Where text may be cut."""

import codecs


def unfinished(data: bytes | bytearray) -> int:
    """How many bytes at the end begin a UTF-8 sequence that a later byte could complete."""
    if not data or data[-1] < 0x80:
        return 0
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    decoder.decode(bytes(data[-4:]))
    return len(decoder.getstate()[0])


def cut(data: bytes, size: int) -> bytes:
    """At most `size` bytes of it, which are text if it is text."""
    if len(data) <= size:
        return data
    kept = data[:size]
    return kept[: size - unfinished(kept)]
