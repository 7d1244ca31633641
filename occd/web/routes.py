"""Every route of the server, on one screen. The role submit serves the API and the pages, ws the
WebSocket and the events; every process tells its health.

POST   /api/v1/submissions              submit           api.py, mostly direct.py
POST   /api/v1/submissions/{id}/rerun   submit again
GET    /api/v1/submissions/{id}         look, or wait
DELETE /api/v1/submissions/{id}         cancel, or erase
GET    /api/v1/submissions/{id}/artifacts/{name}    artifacts.py
GET    /api/v1/submissions/{id}/trace               trace.py
GET    /api/v1/submissions/{id}/events  follow       events.py
GET    /api/v1/languages · /limits
GET    /api/v1/me                       who calls, and what is left   me.py
GET    /api/v1/submissions              one's own, or many by id   many.py
POST   /api/v1/submissions/batch · /cancel
GET    /api/v1/keys                 administer   keys.py
POST   /api/v1/keys · /keys/{id}/rotate
DELETE /api/v1/keys/{id}
GET    /api/v1/queues/kept          dead letters     control.py
POST   /api/v1/queues/kept/{id}/requeue
GET    /api/v1/status               what goes on     status.py
WS     /api/v1/ws                   follow, type     socket.py
POST   /api/v1/sign-out                 people           signin.py
GET    /sign-in  /sign-in/callback
GET    /  /status  /static/{path}   the pages        pages.py
GET    /healthz · /readyz           for supervisors

The control socket of each process serves the routes of administrators, the health, and
DELETE /api/v1/submissions/{id}     cancel           control.py
GET    /api/v1/drain                take no more
POST   /api/v1/drain
DELETE /api/v1/drain
GET    /api/v1/backup               back up
"""

from dataclasses import dataclass
from typing import Any

import structlog
import trio
from quart import Response, has_request_context, request, websocket
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException
from werkzeug.routing.exceptions import WebsocketMismatch

from occd.config import Config
from occd.errors import OccdError
from occd.levels import level
from occd.web import (
    AdminService,
    FollowService,
    Health,
    KeyService,
    StatusService,
    SubmitService,
)
from occd.web.access import Access, refuse_key_in_address
from occd.web.api import api_routes
from occd.web.artifacts import artifact_routes
from occd.web.control import admin_routes, backup_routes, cancel_routes, drain_routes
from occd.web.correlation import correlate
from occd.web.direct import Direct
from occd.web.events import event_routes
from occd.web.host import ALWAYS, Hosts
from occd.web.json import dump
from occd.web.keys import key_routes
from occd.web.many import many_routes
from occd.web.me import me_routes
from occd.web.metrics import count_requests
from occd.web.pages import Pages, page_routes, secure
from occd.web.people import People
from occd.web.problems import Problem, internal_problem, problem_answered
from occd.web.signin import SignInService, sign_in_address, sign_in_routes, sign_out_routes
from occd.web.socket import socket_routes
from occd.web.status import status_routes
from occd.web.trace import trace_routes

_MISMATCH = "/api/v1/ws takes WebSockets only, and no other address takes them"

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Services:
    """The roles that this process serves; None for a role of another process."""

    submit: SubmitService | None
    follow: FollowService | None
    health: Health
    access: Access
    keys: KeyService
    admin: AdminService
    status: StatusService
    people: People
    provider: SignInService | None
    """None: people cannot sign in."""
    stopping: trio.Event
    """Set when nothing more will happen: waiting and streams end, WebSockets are closed with 1001."""


class App(QuartTrio):
    """Lets `direct` answer the requests that it takes."""

    direct: Direct | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and self.direct and self.direct.takes(scope):
            await self.direct(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


def make_app(config: Config, services: Services) -> QuartTrio:
    app = App("occd", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = config.http.body_max_bytes
    app.config["BODY_TIMEOUT"] = app.config["RESPONSE_TIMEOUT"] = None  # server.py's business
    prefix = "/api/v1"
    if services.submit:
        app.direct = Direct(services.submit, services.access, services.stopping, config)
        api = api_routes(services.submit, services.access, services.stopping, config)
        app.register_blueprint(api, url_prefix=prefix)
        app.register_blueprint(artifact_routes(services.submit, services.access), url_prefix=prefix)
        app.register_blueprint(trace_routes(services.submit, services.access), url_prefix=prefix)
        app.register_blueprint(many_routes(services.submit, services.access), url_prefix=prefix)
        me = me_routes(services.submit, services.access, services.people, config)
        app.register_blueprint(me, url_prefix=prefix)
        keys = key_routes(services.keys, services.access, config)
        app.register_blueprint(keys, url_prefix=prefix)
        app.register_blueprint(admin_routes(services.admin, services.access), url_prefix=prefix)
        app.register_blueprint(status_routes(services.status, services.access), url_prefix=prefix)
        app.register_blueprint(sign_out_routes(services.access, services.people), url_prefix=prefix)
        pages, accounts = Pages(), config.accounts is not None
        sign_in = sign_in_address(config) if services.provider else None
        app.register_blueprint(page_routes(pages, sign_in=sign_in, accounts=accounts))
        if services.provider:
            app.register_blueprint(
                sign_in_routes(config, services.provider, services.people, pages)
            )
    if services.follow:
        socket = socket_routes(services.follow, services.access, services.stopping, config.http)
        app.register_blueprint(socket, url_prefix=prefix)
        events = event_routes(services.follow, services.access, services.stopping)
        app.register_blueprint(events, url_prefix=prefix)
    _health_routes(app, services.health)
    correlate(app)
    count_requests(app)
    if config.accounts:
        _key_check(app)
    _host_check(app, Hosts(config))
    _error_handlers(app)
    app.after_request(secure)
    return app


def make_control_app(config: Config, services: Services, access: Access) -> QuartTrio:
    """For the control socket, where `access` takes everybody for an administrator."""
    app = QuartTrio("occd", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = config.http.body_max_bytes
    app.config["BODY_TIMEOUT"] = app.config["RESPONSE_TIMEOUT"] = None
    correlate(app)
    for routes in (
        key_routes(services.keys, access, config),
        admin_routes(services.admin, access),
        cancel_routes(services.admin, access),
        drain_routes(services.admin, access),
        backup_routes(services.admin, access),
    ):
        app.register_blueprint(routes, url_prefix="/api/v1")
    _health_routes(app, services.health)
    _error_handlers(app)
    return app


def _key_check(app: QuartTrio) -> None:
    @app.before_request
    async def of_request() -> None:
        refuse_key_in_address(request.scope)

    @app.before_websocket
    async def of_websocket() -> None:
        refuse_key_in_address(websocket.scope)


def _host_check(app: QuartTrio, hosts: Hosts) -> None:
    @app.before_request
    async def of_request() -> None:
        if request.path not in ALWAYS:
            hosts.check(request.headers, request.scope["path"])

    @app.before_websocket
    async def of_websocket() -> None:
        hosts.check(websocket.headers, websocket.scope["path"])


def _health_routes(app: QuartTrio, health: Health) -> None:
    @app.get("/healthz")
    async def healthz() -> Response:
        return Response('{"status":"ok"}', content_type="application/json")

    @app.get("/readyz")
    async def readyz() -> Response:
        problems = await health.problems()
        if problems:
            title = "Programs cannot be run here now"
            return Problem("not-ready", title, 503, "; ".join(problems), retry_after=5).response()
        answer: dict[str, object] = {"status": "ready"}
        if health.holds is not None:
            answer["sandbox"] = {"level": level(health.holds), "holds": health.holds}
        if warnings := await health.warnings():
            answer["warnings"] = warnings
        return Response(dump(answer), content_type="application/json")


def _error_handlers(app: QuartTrio) -> None:
    @app.errorhandler(OccdError)
    async def ours(error: OccdError) -> Response:
        path = request.path if has_request_context() else websocket.path
        return problem_answered(error, path).response()

    @app.errorhandler(HTTPException)
    async def http(error: HTTPException) -> Response:
        status = error.code or 500
        detail = _MISMATCH if isinstance(error, WebsocketMismatch) else ""
        kinds = {400: "bad-request", 404: "not-found", 405: "method-not-allowed", 413: "too-large"}
        response = Problem(kinds.get(status, "error"), error.name, status, detail).response()
        for name, value in error.get_headers():
            if name.lower() == "allow":
                response.headers[name] = value
        return response

    @app.errorhandler(Exception)
    async def unexpected(error: Exception) -> Response:
        log.error("a request failed", exc_info=error)
        return internal_problem().response()
