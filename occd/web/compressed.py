"""Text for browsers, compressed for those that take it.

No answer that holds both a secret and something that a stranger chose may be compressed: its size would
tell of the secret (BREACH). The page holds a nonce, which is new each time, and nothing of the request.
"""

import gzip
from collections.abc import Callable, Mapping
from functools import lru_cache
from types import MappingProxyType

from quart import Response, request


def compress(body: bytes) -> bytes:
    return gzip.compress(body, 6, mtime=0)


compress_once = lru_cache(maxsize=16)(compress)
"""For answers that seldom change."""


def respond(
    body: bytes,
    content_type: str,
    compress: Callable[[bytes], bytes],
    headers: Mapping[str, str] = MappingProxyType({}),
) -> Response:
    found = {**headers, "Vary": "Accept-Encoding"}
    if request.accept_encodings.quality("gzip") > 0:
        found["Content-Encoding"] = "gzip"
        body = compress(body)
    return Response(body, 200, found, content_type=content_type)
