"""The events of a submission over plain HTTP: an EventSource follows them, and so does `curl -N`."""

import trio
from quart import Blueprint, Response, request

from occd.errors import EventsReset, Rejected
from occd.web import FollowService
from occd.web.access import Access, Call, caller
from occd.web.ids import checked_id
from occd.web.query import after_of
from occd.web.stream import FORMS, Form, stream


def event_routes(service: FollowService, access: Access, stopping: trio.Event) -> Blueprint:
    routes = Blueprint("events", __name__)
    access.guard(routes, {"events.follow": Call("read", ("after",))})

    @routes.get("/submissions/<id>/events")
    async def follow(id: str) -> Response:
        after, form = after_of(request.args, request.headers), _form()
        if await _has_all(checked_id(id), after):
            return Response("", 204)  # only by this does a browser know that it need not come again
        ending = access.endings.of(caller())
        return stream(service, id, after, form, stopping, ending, connected=service.connected)

    async def _has_all(id: str, after: int) -> bool:
        """Whether the submission has finished, and `after` is the number of its last event."""
        if await service.status(id) != "finished":
            return False
        try:
            return not await service.entries(id, after)
        except EventsReset:
            return False

    return routes


def _form() -> Form:
    """Raises Rejected when the client accepts none."""
    forms = {form.type: form for form in FORMS.values()}
    accepted = request.accept_mimetypes
    wanted = accepted.best_match(forms) if accepted else FORMS["sse"].type
    if wanted is None:
        raise Rejected("not-acceptable", f"events come as {' or '.join(forms)}")
    return forms[wanted]
