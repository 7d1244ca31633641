"""Who the caller is, and what the caller may still use. Nobody gets an answer, too: a page asks before its
user has signed in."""

from quart import Blueprint, Response, request

from occd.config import Config
from occd.principal import KEY, PERSON, Principal
from occd.web import SubmitService
from occd.web.access import Access, Call, peer_of
from occd.web.api import in_json
from occd.web.people import People
from occd.web.quotas import quota_json
from occd.web.schema import ceilings_json


def me_routes(service: SubmitService, access: Access, people: People, config: Config) -> Blueprint:
    me = Blueprint("me", __name__)
    access.guard(me, {"me.me_": Call()})

    @me.get("/me")
    async def me_() -> Response:
        caller = await access.caller(request.headers, peer_of(request.scope), changes=False)
        kind, name = _who(caller)
        quotas = await service.quotas(caller)
        answer = in_json(
            {
                "kind": kind,
                "name": name,
                "class": caller.class_name,
                "scopes": sorted(caller.scopes),
                "quotas": {each.name: quota_json(each) for each in quotas},
                "ceilings": ceilings_json(config, caller.class_name),
            }
        )
        await people.rotate(request.headers, answer)
        return answer

    return me


def _who(caller: Principal) -> tuple[str, str | None]:
    """The kind of a caller, and its name, if it has one."""
    owner = caller.owner
    if owner is None:
        return "nobody", None
    if owner.startswith(PERSON):
        return "person", caller.name
    if owner.startswith(KEY):
        return "key", owner.removeprefix(KEY)
    return "anonymous", None
