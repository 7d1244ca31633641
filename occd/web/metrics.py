"""`GET /metrics` at an address of its own, and the count of the requests at the other address."""

from collections.abc import Awaitable, Callable

import trio
from quart import Response, g, request
from quart_trio import QuartTrio

from occd import metrics
from occd.errors import OccdError
from occd.web.host import Hosts
from occd.web.problems import problem_of

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


_TIMEOUT_S = 10.0
"""Prometheus's own, where the header does not tell another."""


def make_metrics_app(
    text: Callable[[float], Awaitable[bytes]], form: str, hosts: Hosts
) -> QuartTrio:
    """`text` is given the seconds that it may take."""
    app = QuartTrio("occd", static_folder=None)

    @app.before_request
    async def check() -> None:
        hosts.check(request.headers, request.scope["path"])

    @app.errorhandler(OccdError)
    async def ours(error: OccdError) -> Response:
        return problem_of(error).response()

    @app.get("/metrics")
    async def metrics_() -> Response:
        told = request.headers.get("X-Prometheus-Scrape-Timeout-Seconds", _TIMEOUT_S, float)
        return Response(await text(max(0.0, min(_TIMEOUT_S, told)) / 2), content_type=form)

    return app


def count_requests(app: QuartTrio) -> None:
    """Register this first: what refuses a request before its route runs is counted, too."""

    @app.before_request
    async def begin() -> None:
        g.began_at = trio.current_time()

    @app.after_request
    async def end(response: Response) -> Response:
        rule = request.url_rule
        route = rule.rule if rule else "none"
        method = request.method if request.method in _METHODS else "other"
        count_request(route, method, response.status_code, g.began_at)
        return response


def count_request(route: str, method: str, status: int, began_at: float) -> None:
    metrics.REQUESTS.labels(route, method, status).inc()
    metrics.REQUEST_TIME.labels(route).observe(trio.current_time() - began_at)
