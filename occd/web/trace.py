"""The list of the system calls that a program made. A stranger's program had a hand in its text."""

import hashlib
import zlib

import trio
from quart import Blueprint, Response

from occd.errors import UnknownArtifact, Unreadable
from occd.trace import BYTES_MAX
from occd.web import SubmitService
from occd.web.access import Access, Call
from occd.web.api import held
from occd.web.ids import checked_id


def trace_routes(service: SubmitService, access: Access) -> Blueprint:
    routes = Blueprint("trace", __name__)
    access.guard(routes, {"trace.calls": Call("read")})

    @routes.get("/submissions/<id>/trace")
    async def calls(id: str) -> Response:
        result = (await service.get(checked_id(id))).result
        trace = result.trace if result else None
        if trace is None or trace.sha256 is None:
            raise UnknownArtifact("trace")
        held().hold_for_request(trace.size + trace.stored)
        stored = await service.blob(id, trace.sha256)
        if stored is None:
            raise UnknownArtifact("trace")
        text = await trio.to_thread.run_sync(_unpacked, stored, trace.sha256)
        return Response(text, 200, content_type="application/json")

    return routes


def _unpacked(stored: bytes, sha256: str) -> bytes:
    """Raises Unreadable for what is not what the result names: others may write to state."""
    if hashlib.sha256(stored).hexdigest() == sha256:
        unpacking = zlib.decompressobj()
        try:
            text = unpacking.decompress(stored, BYTES_MAX)
        except zlib.error:
            pass
        else:
            if unpacking.eof:
                return text
    raise Unreadable("a trace that was damaged")
