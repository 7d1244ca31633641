"""The names of a request, by which its lines of the log are found: `X-Request-Id`, which is taken or made and
sent back, and W3C's `traceparent`, which is taken."""

from secrets import token_hex

import structlog
from quart import Response, g, request, websocket
from quart_trio import QuartTrio
from structlog.contextvars import bind_contextvars
from werkzeug.datastructures import Headers

from occd.origin import well_formed

log = structlog.get_logger()

_TRACEPARENT_LENGTH = 55


def correlate(app: QuartTrio) -> None:
    """Register this before what refuses requests."""

    @app.before_request
    async def of_request() -> None:
        g.request_id = bind(request.headers)

    @app.before_websocket
    async def of_websocket() -> None:
        bind(websocket.headers)

    @app.after_request
    async def answered(response: Response) -> Response:
        response.headers["X-Request-Id"] = g.request_id
        rule = request.url_rule
        log.debug("answered", route=rule.rule if rule else None, status=response.status_code)
        return response


def bind(headers: Headers) -> str:
    """Bind the names of a request to this task. Returns its id."""
    names = well_formed(
        {
            "request_id": headers.get("X-Request-Id"),
            "traceparent": _known(headers.get("Traceparent", "")),
        }
    )
    id = names.setdefault("request_id", token_hex(16))
    bind_contextvars(**names)
    return id


def _known(trace: str) -> str:
    """Without what a later version appends after one more hyphen."""
    head, rest = trace[:_TRACEPARENT_LENGTH], trace[_TRACEPARENT_LENGTH:]
    return head if rest.startswith("-") and not head.startswith("00") else trace
