"""Asks a running daemon of this machine, over its control socket."""

import http.client
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from socket import socket
from typing import Any
from urllib.parse import quote

from occd.config import Config
from occd.errors import OccdError
from occd.fileowner import as_owner
from occd.unixsocket import connect

_PIECE = 2**18


class Control:
    def __init__(self, connected: socket, path: Path) -> None:
        self._connection = http.client.HTTPConnection("localhost")
        self._connection.sock = connected
        self._path = path

    def read(self, *path: str) -> Iterator[bytes]:
        """The pieces of a long answer. Raises OccdError, also when the answer is cut off."""
        with self._answering():
            answer = self._sent("GET", path, "", None)
            if answer.status >= 400:
                raise OccdError(_words(json.loads(answer.read())))
        while True:
            with self._answering():
                piece = answer.read(_PIECE)
            if not piece:
                return
            yield piece

    def ask(
        self,
        method: str,
        *path: str,
        query: str = "",
        body: object = None,
        unknown: OccdError | None = None,
    ) -> Any:
        """The JSON of the answer. `path` is below /api/v1. Raises `unknown` for a 404, and OccdError with the
        words of the daemon."""
        with self._answering():
            answer = self._sent(method, path, query, body)
            said = json.loads(answer.read())
        if answer.status == 404 and unknown:
            raise unknown
        if answer.status >= 400:
            raise OccdError(_words(said))
        return said

    def _sent(
        self, method: str, path: Sequence[str], query: str, body: object
    ) -> http.client.HTTPResponse:
        target = "/".join(["/api/v1", *(quote(part, safe="") for part in path)]) + query
        self._connection.request(method, target, None if body is None else json.dumps(body))
        return self._connection.getresponse()

    @contextmanager
    def _answering(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise OccdError(
                f"the daemon at {self._path} gave no answer ({error or type(error).__name__})"
                f"{as_owner(self._path)}"
            ) from error


def _words(problem: dict[str, Any]) -> str:
    return str(problem.get("detail") or problem["title"])


@contextmanager
def reach(config: Config) -> Iterator[Control | None]:
    """None when no daemon listens at the control socket of this configuration. Raises OccdError when it is
    somebody else's."""
    path = config.control_socket
    try:
        found = connect(path)
    except OSError as error:
        raise OccdError(
            f"the control socket {path} cannot be used: {error.strerror}{as_owner(path)}"
        ) from error
    if found is None:
        yield None
        return
    with found:
        yield Control(found, path)
