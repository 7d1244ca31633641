"""Headers of requests."""

from werkzeug.datastructures import Headers

from occd.errors import FieldError, Rejected


def only(headers: Headers, name: str) -> str | None:
    """The header of this name, if there is one. Raises Rejected when there are several: a proxy in front of
    us may go by another one than we would."""
    found = headers.getlist(name)
    if len(found) > 1:
        message = f"is there {len(found)} times"
        raise Rejected("bad-request", f"the header {name} {message}", [FieldError(name, message)])
    return found[0] if found else None
