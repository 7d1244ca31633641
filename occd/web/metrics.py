"""`GET /metrics` at an address of its own, and the count of the requests at the other address."""

from collections.abc import Awaitable, Callable

import trio
from quart import Response, g, request
from quart_trio import QuartTrio

from occd import metrics

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


def make_metrics_app(text: Callable[[], Awaitable[bytes]], form: str) -> QuartTrio:
    app = QuartTrio("occd", static_folder=None)

    @app.get("/metrics")
    async def metrics_() -> Response:
        return Response(await text(), content_type=form)

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
        metrics.REQUESTS.labels(route, method, response.status_code).inc()
        metrics.REQUEST_TIME.labels(route).observe(trio.current_time() - g.began_at)
        return response
