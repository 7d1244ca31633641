"""A plain client of streams of events, for tests: server-sent events and lines of JSON alike."""

import http.client
import json
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from typing import Any

import trio
from serving import API, PATIENCE_S, Server, connected

SSE, LINES = "text/event-stream", "application/x-ndjson"


@dataclass(frozen=True)
class Told:
    """An event of a stream. `frame` is None for a sign of life; `id` is where a browser would resume."""

    name: str
    frame: Any
    id: int | None = None

    @property
    def written(self) -> str:
        event = self.frame.get("event", {})
        return str(event["data"]) if event.get("name") == "output" else ""


@dataclass
class Stream:
    """An answer that goes on, and the connection that it comes on."""

    connection: http.client.HTTPConnection
    response: http.client.HTTPResponse

    def __iter__(self) -> Iterator[Told]:
        """Until the server ends the answer, which it must do well."""
        sse = self.response.headers["Content-Type"] == SSE
        while (told := self._event() if sse else self._line()) is not None:
            yield told

    def until(self, name: str) -> list[Told]:
        """Up to the first event of this name, without signs of life."""
        found: list[Told] = []
        for told in self:
            if told.frame is not None:
                found.append(told)
            if told.name == name:
                return found
        raise AssertionError(f"no event {name} in {found}")

    def until_written(self, wanted: str) -> list[Told]:
        """Up to where the program has written `wanted`."""
        found = self.until("output")
        while wanted not in "".join(each.written for each in found):
            found += self.until("output")
        return found

    def rest(self) -> list[Told]:
        return [told for told in self if told.frame is not None]

    def _line(self) -> Told | None:
        if not (line := self.response.readline()):
            return None
        frame = json.loads(line)
        match frame["type"]:
            case "event":
                return Told(frame["event"]["name"], frame, frame["seq"])
            case "error" if frame["problem"]["type"] == "events-reset":
                return Told("events-reset", frame, 0)
            case "error":
                return Told("problem", frame)
            case "alive":
                return Told("alive", None)
            case other:
                return Told(other, frame)

    def _event(self) -> Told | None:
        """As the HTML standard reads them: fields up to an empty line."""
        fields: dict[str, str] = {}
        while (line := self.response.readline().decode()) not in ("", "\n"):
            name, _, value = line.removesuffix("\n").partition(":")
            fields[name] = value.removeprefix(" ")
        if not fields:
            return None
        if fields == {"": ""}:
            return Told("alive", None)
        id = fields.pop("id", None)
        told = Told(fields.pop("event"), json.loads(fields.pop("data")), int(id) if id else None)
        assert not fields
        return told


@contextmanager
def streamed(
    server: Server, path: str, body: dict[str, Any] | None = None, **headers: str
) -> Iterator[Stream]:
    """What comes from a path of the API, as the answer to a POST if there is a body."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=2 * PATIENCE_S)
    with closing(connection):
        sent = None if body is None else json.dumps(body)
        connection.request("POST" if sent else "GET", API + path, sent, named)
        response = connection.getresponse()
        assert response.status == 200, response.read()
        yield Stream(connection, response)


def followed(
    server: Server, id: str, query: str = "", **headers: str
) -> AbstractContextManager[Stream]:
    """The stream of a submission's events."""
    return streamed(server, f"/submissions/{id}/events{query}", None, **headers)


def type_in(server: Server, id: str, text: str, *, eof: bool = False) -> None:
    """What is typed comes over a WebSocket."""

    async def send() -> None:
        async with connected(server) as client:
            answer = await client.ask("stdin", id=id, data=text, eof=eof)
            assert answer["type"] == "done", answer

    trio.run(send)
