"""The calls of administrators beside the keys: list the dead letters, try one again and, at the control
socket, cancel, drain and back up.

Whoever reaches the control socket may do everything: the socket takes its own user and root alone.
"""

import socket
from collections.abc import AsyncIterator

import trio
from quart import Blueprint, Response
from quart.wrappers.response import ResponseBody
from werkzeug.datastructures import Headers

from occd.principal import Principal
from occd.unixsocket import is_ours
from occd.web import AdminService
from occd.web.access import Access, Call
from occd.web.api import in_json, refuse_body
from occd.web.ids import checked_id
from occd.web.schema import letter_json

_ADMINISTRATOR = Principal(scopes=frozenset({"admin"}))


class Administrators:
    """Everybody is one."""

    async def caller(self, headers: Headers, peer: str, *, changes: bool) -> Principal:
        return _ADMINISTRATOR

    async def bearer(self, secret: object, headers: Headers, peer: str) -> Principal:
        return _ADMINISTRATOR

    async def is_still(self, principal: Principal) -> bool:
        return True


class ControlListener:
    """Closes the connections of other users."""

    def __init__(self, listening: socket.socket) -> None:
        self._listener = trio.SocketListener(trio.socket.from_stdlib_socket(listening))

    async def accept(self) -> trio.SocketStream:
        while True:
            stream = await self._listener.accept()
            if is_ours(stream.socket):
                return stream
            stream.socket.close()

    async def aclose(self) -> None:
        await self._listener.aclose()


def admin_routes(service: AdminService, access: Access) -> Blueprint:
    admin = Blueprint("admin", __name__)
    access.guard(admin, {"admin.letters": Call("admin"), "admin.requeue": Call("admin")})

    @admin.get("/queues/kept")
    async def letters() -> Response:
        return in_json({"letters": [letter_json(each) for each in await service.letters()]})

    @admin.post("/queues/kept/<letter_id>/requeue")
    async def requeue(letter_id: str) -> Response:
        refuse_body()
        return in_json({"id": await service.requeue(letter_id)}, 201)

    return admin


def cancel_routes(service: AdminService, access: Access) -> Blueprint:
    """For processes that serve no submissions, too."""
    cancelling = Blueprint("cancelling", __name__)
    access.guard(cancelling, {"cancelling.cancel": Call("run")})

    @cancelling.delete("/submissions/<id>")
    async def cancel(id: str) -> Response:
        record, cancelled = await service.cancel(checked_id(id))
        return in_json({"id": id, "status": record.status, "cancelled": cancelled})

    return cancelling


class _Pieces(ResponseBody):
    """A body that is made while it is sent."""

    def __init__(self, pieces: AsyncIterator[bytes]) -> None:
        self._pieces = pieces

    async def __aenter__(self) -> AsyncIterator[bytes]:
        return self._pieces

    async def __aexit__(self, *_: object) -> None:
        pass


def backup_routes(service: AdminService, access: Access) -> Blueprint:
    backing = Blueprint("backing", __name__)
    access.guard(backing, {"backing.backup": Call("admin")})

    @backing.get("/backup")
    async def backup() -> Response:
        return Response(_Pieces(await service.backup()), content_type="application/x-tar")

    return backing


def drain_routes(service: AdminService, access: Access) -> Blueprint:
    """For the process that answers, whatever its roles."""
    draining = Blueprint("draining", __name__)
    access.guard(
        draining, {f"draining.{name}": Call("admin") for name in ("look", "begin", "undo")}
    )

    def told() -> Response:
        draining = service.draining
        return in_json({"draining": draining.on, "held": draining.held, "done": draining.done})

    @draining.get("/drain")
    async def look() -> Response:
        return told()

    @draining.post("/drain")
    async def begin() -> Response:
        refuse_body()
        service.draining.tell(on=True)
        return told()

    @draining.delete("/drain")
    async def undo() -> Response:
        service.draining.tell(on=False)
        return told()

    return draining
