"""Which pages may use the server: its own, and those that are listed. A program (no Origin) may."""

from werkzeug.datastructures import Headers

from occd.config import HttpConfig
from occd.errors import Rejected
from occd.web.headers import only


def check_origin(headers: Headers, config: HttpConfig) -> None:
    """Raises Rejected when a browser sent this from a foreign page."""
    origin = only(headers, "Origin")
    if origin is None or origin == config.public_origin or origin in config.origins:
        return
    if origin.partition("://")[2] != headers.get("Host"):
        raise Rejected(
            "forbidden-origin", "Pages of another origin may not use this server: see http.origins"
        )
