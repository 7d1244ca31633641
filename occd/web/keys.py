"""The keys, for administrators: which there are, and how they are made, replaced and revoked."""

from typing import Any

from quart import Blueprint, Response, request

from occd.config import Config
from occd.errors import FieldError, Rejected
from occd.web import KeyService
from occd.web.access import Access, Call
from occd.web.api import in_json, read_body, refuse_body
from occd.web.query import flag_of, seconds_of
from occd.web.schema import configured_key_json, key_json, revoked_json

_FIELDS = {"owner", "class", "scopes", "expires_s"}


def key_routes(service: KeyService, access: Access, config: Config) -> Blueprint:
    keys = Blueprint("keys", __name__)
    calls = {
        "keys.all_keys": Call("admin"),
        "keys.create": Call("admin"),
        "keys.revoke": Call("admin", ("cancel",)),
        "keys.rotate": Call("admin", ("keep_s",)),
    }
    access.guard(keys, calls)

    @keys.get("/keys")
    async def all_keys() -> Response:
        listed = config.accounts.keys if config.accounts else ()
        created = await service.all()
        shown = [*map(configured_key_json, listed), *map(key_json, created)]
        return in_json({"keys": shown})

    @keys.post("/keys")
    async def create() -> Response:
        owner, class_name, scopes, expires_s = _wanted((await read_body())[0])
        issued = await service.create(owner, class_name, scopes, expires_s)
        return in_json({"key": issued.secret} | key_json(issued.key), 201)

    @keys.delete("/keys/<key_id>")
    async def revoke(key_id: str) -> Response:
        revoked = await service.revoke(key_id, cancel=flag_of(request.args, "cancel"))
        return in_json(revoked_json(key_id, revoked))

    @keys.post("/keys/<key_id>/rotate")
    async def rotate(key_id: str) -> Response:
        refuse_body()
        issued = await service.rotate(key_id, seconds_of(request.args, "keep_s"))
        return in_json({"key": issued.secret} | key_json(issued.key), 201)

    return keys


def _wanted(value: Any) -> tuple[str, str, list[str], float | None]:
    """Owner, class, scopes, and the seconds until the key expires. Raises Rejected."""
    if not isinstance(value, dict):
        raise Rejected("invalid", 'a key is {"owner", "class", "scopes", "expires_s"}')
    if unknown := sorted(value.keys() - _FIELDS):
        raise _invalid(unknown[0][:100], "is not a field of a key")
    for name in ("owner", "class"):
        if not isinstance(value.get(name), str):
            raise _invalid(name, "must be text")
    scopes = value.get("scopes", ["run", "read"])
    if not (isinstance(scopes, list) and all(isinstance(each, str) for each in scopes)):
        raise _invalid("scopes", "must be a list of texts")
    expires_s = value.get("expires_s")
    if expires_s is not None and (
        isinstance(expires_s, bool) or not isinstance(expires_s, int | float)
    ):
        raise _invalid("expires_s", "must be a number of seconds")
    return value["owner"], value["class"], scopes, expires_s


def _invalid(field: str, message: str) -> Rejected:
    return Rejected("invalid", f"{field} {message}", [FieldError(field, message)])
