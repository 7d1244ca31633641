"""The benches' client of any HTTP runner (`bench/runners.py`), with a server that speaks like each."""

import json
from collections.abc import Iterator
from contextlib import aclosing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, ClassVar

import pytest
import trio

from bench.measure import rate
from bench.runners import KINDS, OUTPUT, SOURCE, HttpClient, NotRun, others

SOON_S = 30.0
ANSWERS: dict[str, Any] = {
    "occd": {"verdict": "ok", "run": {"stdout": OUTPUT}},
    "go-judge": [{"status": "Accepted", "exitStatus": 0, "files": {"stdout": OUTPUT}}],
    "piston": {"language": "python", "run": {"stdout": OUTPUT, "code": 0}},
    "judge0": {"stdout": OUTPUT, "status": {"id": 3, "description": "Accepted"}},
    "jobe": {"outcome": 15, "stdout": OUTPUT, "stderr": ""},
}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    answer: ClassVar[Any] = None
    chunked: ClassVar[bool] = False
    closes: ClassVar[bool] = False
    asked: ClassVar[list[tuple[str, Any]]] = []
    connections: ClassVar[set[Any]] = set()

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append((self.path, body))
        self.connections.add(self.client_address)
        data = json.dumps(self.answer).encode()
        self.send_response(200)
        if self.closes:
            self.send_header("Connection", "close")
            self.close_connection = True
        if self.chunked:
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for part in (data[:3], data[3:]):
                self.wfile.write(b"%x\r\n%b\r\n" % (len(part), part))
            self.wfile.write(b"0\r\n\r\n")
        else:
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving(**fields: Any) -> Iterator[tuple[str, Any]]:
    kind = type("Kind", (Handler,), {"asked": [], "connections": set()} | fields)
    server = ThreadingHTTPServer(("127.0.0.1", 0), kind)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", kind
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("name", KINDS)
async def test_each_kind_is_asked_in_its_words(name: str, *, chunked: bool) -> None:
    with serving(answer=ANSWERS[name], chunked=chunked) as (url, server):
        with trio.fail_after(SOON_S):
            async with aclosing(HttpClient(f"{url}/below/", kind=KINDS[name])) as client:
                await client.run()
                await client.run()
    path, body = server.asked[1]
    assert path == "/below" + KINDS[name].path
    assert json.dumps(SOURCE) in json.dumps(body)
    assert len(server.connections) == 1


@pytest.mark.parametrize("answer", [{}, [], None, {"run": None}, {"run": {"stdout": "Hello"}}])
async def test_another_answer_is_an_error_and_counted(answer: Any) -> None:
    failed: list[Exception] = []
    with serving(answer=answer) as (url, _):
        with trio.fail_after(SOON_S):
            async with aclosing(HttpClient(url)) as client:
                with pytest.raises(NotRun):
                    await client.run()
                assert await rate(client.run, clients=2, seconds=0.05, failed=failed) == 0
    assert all(isinstance(each, NotRun) for each in failed)
    assert failed


async def test_a_connection_that_is_closed_is_opened_anew() -> None:
    with serving(answer=ANSWERS["jobe"], closes=True) as (url, server):
        with trio.fail_after(SOON_S):
            async with aclosing(HttpClient(url, kind=KINDS["jobe"])) as client:
                await client.run()
                await client.run()
    assert len(server.connections) == 2


def test_others_are_named_by_their_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNNERS", "piston=http://a:2000  jobe=http://b")
    assert list(others()) == ["piston", "jobe"]
    monkeypatch.delenv("RUNNERS")
    assert others() == {}


@pytest.mark.parametrize("named", ["piston", "dmoj=http://a", "piston="])
def test_a_wrong_name_is_told(named: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNNERS", named)
    with pytest.raises(SystemExit, match="NAME=URL"):
        others()
