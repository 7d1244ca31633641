"""The cookies of people who sign in, or are about to."""

import re

from quart import Response
from werkzeug.datastructures import Headers

from occd.config import HttpConfig

_VALUE = re.compile(r"[A-Za-z0-9._-]{1,1100}")


class Cookies:
    def __init__(self, config: HttpConfig) -> None:
        self._path = config.public_path or "/"
        self._secure = (config.public_url or "").startswith("https:")
        # Of a cookie that begins with __Host- a browser makes sure that no neighbouring host has set it.
        beginning = "__Host-" if self._path == "/" else "__Secure-"
        own = f"{beginning if self._secure else ''}occd_"
        self.session, self.login = f"{own}session", f"{own}login"

    def read(self, headers: Headers, name: str) -> str | None:
        """None when there is none. Empty when it is not one of ours, or there are several of this name: then
        somebody else has set one, and nobody may take its bearer for one without."""
        pairs = (pair.strip() for pair in ";".join(headers.getlist("Cookie")).split(";"))
        found = [pair.removeprefix(f"{name}=") for pair in pairs if pair.startswith(f"{name}=")]
        if not any(found):
            return None
        return found[0] if len(found) == 1 and _VALUE.fullmatch(found[0]) else ""

    def write(self, response: Response, name: str, value: str, age_s: float) -> None:
        response.set_cookie(
            name,
            value,
            max_age=int(age_s),
            path=self._path,
            secure=self._secure,
            httponly=True,
            samesite="Lax",
        )

    def forget(self, response: Response, name: str) -> None:
        self.write(response, name, "", 0)
