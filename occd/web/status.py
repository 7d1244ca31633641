"""What goes on in the server: everybody sees how busy it is, administrators see each node."""

from quart import Blueprint, Response, request

from occd.web import StatusService
from occd.web.access import Access, Call, peer_of


def status_routes(service: StatusService, access: Access) -> Blueprint:
    routes = Blueprint("status", __name__)
    access.guard(routes, {"status.look": Call()})

    @routes.get("/status")
    async def look() -> Response:
        caller = await access.caller(request.headers, peer_of(request.scope), changes=False)
        told = await service.status(whole=caller.may("admin"))
        return Response(told, content_type="application/json")

    return routes
