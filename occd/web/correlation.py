"""The names of a request, by which its lines of the log are found: `X-Request-Id`, which is taken or made and
sent back, and W3C's `traceparent`, which is taken."""

import re
from secrets import token_hex

import structlog
from quart import Response, g, request, websocket
from quart_trio import QuartTrio
from structlog.contextvars import bind_contextvars
from werkzeug.datastructures import Headers

from occd.key import without_keys

log = structlog.get_logger()

_REQUEST_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/=+-]{0,127}")
_TRACEPARENT = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
)
_TRACEPARENT_LENGTH = 55
"""A later version of `traceparent` may append more."""


def correlate(app: QuartTrio) -> None:
    """Register this before what refuses requests."""

    @app.before_request
    async def of_request() -> None:
        g.request_id = _bind(request.headers)

    @app.before_websocket
    async def of_websocket() -> None:
        _bind(websocket.headers)

    @app.after_request
    async def answered(response: Response) -> Response:
        response.headers["X-Request-Id"] = g.request_id
        rule = request.url_rule
        log.debug("answered", route=rule.rule if rule else None, status=response.status_code)
        return response


def _bind(headers: Headers) -> str:
    """The id of the request."""
    given = headers.get("X-Request-Id", "")
    taken = _REQUEST_ID.fullmatch(given) and without_keys(given) == given
    id = given if taken else token_hex(16)
    trace = headers.get("Traceparent", "")
    head = trace[:_TRACEPARENT_LENGTH]
    if _TRACEPARENT.fullmatch(head) and (trace == head or trace[:2] != "00"):
        bind_contextvars(traceparent=head)
    bind_contextvars(request_id=id)
    return id
