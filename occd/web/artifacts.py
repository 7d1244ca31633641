"""The files that programs left. A stranger's program wrote them, and a browser may open them on our origin: a
picture is shown, anything else is saved, and neither may run anything."""

from urllib.parse import quote

from quart import Blueprint, Response

from occd.errors import UnknownArtifact
from occd.media import PICTURES
from occd.web import SubmitService
from occd.web.access import Access, Call
from occd.web.api import held
from occd.web.ids import checked_id

_POLICY = "default-src 'none'; sandbox; frame-ancestors 'none'"


def artifact_routes(service: SubmitService, access: Access) -> Blueprint:
    routes = Blueprint("artifacts", __name__)
    access.guard(routes, {"artifacts.artifact": Call("read")})

    @routes.get("/submissions/<id>/artifacts/<path:name>")
    async def artifact(id: str, name: str) -> Response:
        result = (await service.get(checked_id(id))).result
        kept = result.artifacts.kept if result and result.artifacts else ()
        found = next((each for each in kept if each.name == name), None)
        if found is None:
            raise UnknownArtifact(name)
        held().hold_for_request(found.size)
        data = await service.blob(id, found.sha256)
        if data is None:
            raise UnknownArtifact(name)
        shown = found.type in PICTURES
        disposition = "inline" if shown else "attachment"
        headers = {
            "Content-Disposition": f"{disposition}; filename*=UTF-8''{quote(name.split('/')[-1], safe='')}",
            "Content-Security-Policy": _POLICY,
        }
        kind = found.type if shown else "application/octet-stream"
        return Response(data, 200, headers, content_type=kind)

    return routes
