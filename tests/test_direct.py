"""`POST /api/v1/submissions` is answered with Quart and without it (`occd/web/direct.py`), and nobody can
tell the two apart."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio
from in_process import API, Edge, edge, unchunked

from occd.events import Output
from occd.model import Outcome, Result, Verdict, Written
from occd.web.direct import Direct

SOON_S = 60.0
OTHER_WAY = b"Cookie: a=b\r\n"
HELLO = {"language": "python", "source": "print()"}
KEY = "occd_" + 43 * "k"
ACCOUNTS: dict[str, Any] = {
    "classes": {"free": {"runs_per_minute": 1000, "unfinished": 1000}},
    "default_class": "free",
    "anonymous": {"class": "free"},
}


@pytest.fixture(params=[None, ACCOUNTS], ids=["without accounts", "with accounts"])
async def server(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Edge]:
    async with edge(tmp_path, request.param) as found:
        yield found


Answer = tuple[int, dict[str, str], Any]


async def ask(
    server: Edge, head: bytes, body: bytes, query: bytes = b"", *, length: bool = True
) -> Answer:
    start = b"POST %b/submissions%b HTTP/1.1\r\nConnection: close\r\n" % (API, query)
    if length:
        head += b"Content-Length: %d\r\n" % len(body)
    said = await server.exchange(start + head + b"\r\n" + body)
    top, _, rest = said.partition(b"\r\n\r\n")
    status, *lines = top.decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    if "transfer-encoding" in headers:
        rest = unchunked(rest)
    return int(status.split()[1]), headers, json.loads(rest)


def alike(answer: Answer, other: Answer) -> bool:
    """But for what differs between two submissions, and two requests."""
    return _plain(answer) == _plain(other)


def _plain(answer: Answer) -> Answer:
    status, headers, value = answer
    id = value.get("id", "-")
    headers = {
        name: text.replace(id.lower(), "ID")
        for name, text in headers.items()
        if name not in ("date", "x-request-id", "ratelimit")
    }
    times = ("id", "created_at", "started_at", "finished_at")
    return status, headers, {name: each for name, each in value.items() if name not in times}


@pytest.fixture
def ways(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """For each request, whether it was answered without Quart."""
    found: list[bool] = []
    takes = Direct.takes

    def noting(self: Direct, scope: Any) -> bool:
        found.append(takes(self, scope))
        return found[-1]

    monkeypatch.setattr(Direct, "takes", noting)
    return found


LOCAL = b"Host: localhost\r\n"


@pytest.mark.parametrize(
    ("head", "body", "query", "status"),
    [
        (LOCAL, HELLO, b"", 202),
        (LOCAL, HELLO, b"?wait=0", 202),
        (LOCAL, HELLO, b"?wait=0.01", 202),
        (LOCAL + b"Origin: http://localhost\r\n", HELLO, b"", 202),
        (LOCAL + b"Authorization: Bearer " + 30 * b"s" + b"\r\n", HELLO, b"", 202),
        (LOCAL + b"Idempotency-Key: one\r\n", HELLO, b"", 202),
        (LOCAL + b"Content-Type: text/plain\r\n", HELLO, b"", 202),
        (LOCAL, b"{", b"", 400),
        (LOCAL, b"", b"", 400),
        (LOCAL, b"\xff", b"", 400),
        (LOCAL, [], b"", 422),
        (LOCAL, {**HELLO, "sauce": 1}, b"", 422),
        (LOCAL, {"language": "klingon", "source": ""}, b"", 422),
        (LOCAL, {"language": "rust", "source": ""}, b"", 422),
        (LOCAL, {**HELLO, "limits": {"memory": 2**60}}, b"", 422),
        (b"Host: evil.example\r\n", HELLO, b"", 421),
        (LOCAL + b"Origin: http://evil.example\r\n", HELLO, b"", 403),
        (LOCAL + 2 * b"Authorization: Bearer x\r\n", HELLO, b"", 400),
        (LOCAL + b"Authorization: Bearer short\r\n", HELLO, b"", 401),
        (LOCAL + b"Authorization: Bearer " + KEY.encode() + b"\r\n", HELLO, b"", 401),
        (LOCAL + b"Idempotency-Key: \xc3\xa4\r\n", HELLO, b"", 400),
    ],
)
async def test_both_ways_give_the_same_answer(
    server: Edge, ways: list[bool], head: bytes, body: Any, query: bytes, status: int
) -> None:
    sent = body if isinstance(body, bytes) else json.dumps(body).encode()
    direct = await ask(server, head, sent, query)
    anew = head.replace(b"Key: one", b"Key: two")  # else it would be the same submission
    other = await ask(server, anew + OTHER_WAY, sent, query)
    assert ways == [True, False]
    assert alike(direct, other), (direct, other)
    assert direct[0] == status, direct


@pytest.mark.parametrize(
    ("head", "query", "length"),
    [
        (b"", b"?stream=sse&stream=sse", True),
        (b"", b"?wait=nan", True),
        (b"", b"?wait=1&wait=1", True),
        (b"", b"?wait=-1", True),
        (b"", b"?wiat=1", True),
        (b"Cookie: a=b\r\n", b"", True),
        (b"Transfer-Encoding: chunked\r\n", b"", False),
        (b"Content-Length: 99999999\r\n", b"", False),
    ],
)
async def test_what_is_unusual_is_answered_with_quart(
    tmp_path: Path, ways: list[bool], head: bytes, query: bytes, *, length: bool
) -> None:
    async with edge(tmp_path) as server:
        body = b"1\r\n{\r\n0\r\n\r\n" if b"chunked" in head else json.dumps(HELLO).encode()
        await ask(server, LOCAL + head, body, query, length=length)
    assert not any(ways)


@pytest.mark.parametrize("size", [5, 2**16])
async def test_both_ways_wait_for_the_same_result(
    server: Edge, ways: list[bool], size: int
) -> None:
    """The longer output is read from the log while it is sent."""
    answers: list[Answer] = []
    body = json.dumps(HELLO).encode()

    async def wait(head: bytes) -> None:
        answers.append(await ask(server, LOCAL + head, body, b"?wait=60"))

    submissions = server.state.submissions
    for head in (b"", OTHER_WAY):
        with trio.fail_after(SOON_S):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(wait, head)
                while not server.submit._following.count:  # noqa: ASYNC110
                    await trio.sleep(0.01)
                (id,) = server.submit._following._here
                number = await submissions.begin(await submissions.submission(id), "3", "node")
                data = b"x" * size
                await server.state.log.append(id, number, [Output("run", "stdout", data)])
                written = replace(Written.of(data), head=b"")
                outcome = Outcome(0, None, None, written, Written(), 1.0, 1.0, 1)
                result = Result(
                    Verdict.OK, run=outcome, attempts=1, started_at=1.0, finished_at=2e9
                )
                await submissions.finish(id, number, result)
    assert ways == [True, False]
    assert alike(*answers), answers
    status, _, value = answers[0]
    assert (status, value["verdict"], value["run"]["stdout"]) == (200, "ok", size * "x")


async def test_a_client_that_leaves_is_waited_for_no_longer(
    tmp_path: Path, ways: list[bool]
) -> None:
    async with edge(tmp_path) as server:
        body = json.dumps(HELLO).encode()
        stream = await trio.open_tcp_stream("127.0.0.1", server.port)
        await stream.send_all(
            b"POST %b/submissions?wait=60 HTTP/1.1\r\n%bContent-Length: %d\r\n\r\n%b"
            % (API, LOCAL, len(body), body)
        )
        with trio.fail_after(SOON_S):
            while not server.submit._following.count:  # noqa: ASYNC110
                await trio.sleep(0.01)
            stream.socket.setsockopt(1, 13, b"\1\0\0\0\0\0\0\0")  # SO_LINGER: a reset
            await stream.aclose()
            while server.submit._following.count:  # noqa: ASYNC110
                await trio.sleep(0.01)
    assert ways == [True]


async def test_a_stop_ends_the_waiting(tmp_path: Path, ways: list[bool]) -> None:
    async with edge(tmp_path) as server:
        answers: list[Answer] = []

        async def wait() -> None:
            body = json.dumps(HELLO).encode()
            answers.append(await ask(server, LOCAL, body, b"?wait=60"))

        with trio.fail_after(SOON_S):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(wait)
                while not server.submit._following.count:  # noqa: ASYNC110
                    await trio.sleep(0.01)
                server.ws.stopping.set()
    ((status, _, value),) = answers
    assert (status, value["status"], ways) == (202, "queued", [True])
