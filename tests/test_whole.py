"""Requests that are read without h11 (`occd/web/whole.py`): which they are, and that a client cannot tell."""

import json
from pathlib import Path
from typing import Any

import pytest
import trio
from in_process import API, edge

from occd.web.direct import Direct
from occd.web.edge import ClientConnection
from occd.web.http11 import EdgeLimits
from occd.web.whole import head_of_answer, read_head

SOON_S = 60.0
HELLO = json.dumps({"language": "python", "source": "print()"}).encode()
START = b"POST /api/v1/submissions?wait=1 HTTP/1.1\r\n"
USUAL = b"Host: localhost:80\r\nContent-Length: 2\r\n"


def test_the_usual_head_is_read_as_h11_reads_it() -> None:
    data = START + USUAL + b"X-One:  a b\t \r\nconnection: Close\r\n\r\n{}"
    head = read_head(data, EdgeLimits())
    assert head
    assert (head.path, head.query, head.closes) == (b"/api/v1/submissions", b"wait=1", True)
    assert head.headers == [
        (b"host", b"localhost:80"),
        (b"content-length", b"2"),
        (b"x-one", b"a b"),
        (b"connection", b"Close"),
    ]
    assert data[head.size :] == b"{}"
    assert head.end == len(data)


@pytest.mark.parametrize(
    "data",
    [
        START + USUAL,  # no end yet
        START + b"\r\n",
        START + USUAL + b"Host: other\r\n\r\n",
        START + b"Content-Length: 2\r\n\r\n",
        START + b"Host: a\r\n\r\n",
        START + USUAL + b"Content-Length: 2\r\n\r\n",
        START + b"Host: a\r\nContent-Length: +2\r\n\r\n",
        START + b"Host: a b\r\nContent-Length: 2\r\n\r\n",
        START + b"Host: .localhost\r\nContent-Length: 2\r\n\r\n",
        START + b"Host: " + 64 * b"a" + b"\r\nContent-Length: 2\r\n\r\n",
        START + USUAL + b"Transfer-Encoding: chunked\r\n\r\n",
        START + USUAL + b"Cookie: a=b\r\n\r\n",
        START + USUAL + b"Expect: 100-continue\r\n\r\n",
        START + USUAL + b"Upgrade: h2c\r\n\r\n",
        START + USUAL + b"Connection: close, x\r\n\r\n",
        START + USUAL + b"Connection: close\r\nConnection: close\r\n\r\n",
        START + USUAL + b"X: \xc3\xa4\r\n\r\n",
        START + USUAL + b"X: a\x00b\r\n\r\n",
        START + USUAL + b"X: a\nY: b\r\n\r\n",
        START + USUAL + b"X : a\r\n\r\n",
        START + USUAL + b"X: a\r\n folded\r\n\r\n",
        START + USUAL + 65 * b"X: a\r\n" + b"\r\n",
        START.replace(b"1.1", b"1.0") + USUAL + b"\r\n",
        START.replace(b"POST", b"PUT") + USUAL + b"\r\n",
        START.replace(b"/api", b"http://localhost/api") + USUAL + b"\r\n",
        START.replace(b"/api", b"/%61pi") + USUAL + b"\r\n",
        START + USUAL + b"X: " + 2**15 * b"a" + b"\r\n\r\n",
    ],
)
def test_what_is_unlike_the_usual_goes_to_h11(data: bytes) -> None:
    assert read_head(data, EdgeLimits()) is None


async def test_a_body_beyond_the_limit_is_refused(tmp_path: Path) -> None:
    async with edge(tmp_path, body_max_bytes=2000) as server:
        for size, status in ((2000, 400), (2001, 413)):
            head = b"Host: localhost\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % size
            answer = await server.exchange(START + head + size * b" ")
            assert answer.startswith(b"HTTP/1.1 %d " % status), answer


@pytest.mark.parametrize("value", ["a\r\nb: c", "a\nb", "\x00", "ä"])
def test_an_answer_has_no_header_that_would_break_it(value: str) -> None:
    with pytest.raises(ValueError, match="header"):
        head_of_answer(200, {"x": value}, chunked=False, closes=False)


@pytest.fixture
def by_h11(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """For each request that Direct answers, whether h11 has read it."""
    found: list[bool] = []
    ways: dict[bool, Any] = {False: ClientConnection._answer, True: Direct.__call__}

    def noting(h11: bool) -> Any:
        async def noted(*given: Any) -> None:
            found.append(h11)
            await ways[h11](*given)

        return noted

    monkeypatch.setattr(ClientConnection, "_answer", noting(False))
    monkeypatch.setattr(Direct, "__call__", noting(True))
    return found


def request(*, close: bool = False) -> bytes:
    connection = b"Connection: close\r\n" if close else b""
    return b"POST %b/submissions HTTP/1.1\r\nHost: localhost\r\n%bContent-Length: %d\r\n\r\n%b" % (
        API,
        connection,
        len(HELLO),
        HELLO,
    )


async def answered(port: int, pieces: list[bytes], answers: int) -> bytes:
    """What comes until so many answers are there, of what is sent piece by piece."""
    said = b""
    with trio.fail_after(SOON_S):
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            for piece in pieces:
                await stream.send_all(piece)
                await trio.sleep(0.05)  # so that the pieces come apart
            while said.count(b'"finished_at":null}') < answers:
                part = await stream.receive_some()
                assert part, said
                said += part
    return said


async def test_a_request_may_come_in_pieces(tmp_path: Path, by_h11: list[bool]) -> None:
    whole = request()
    body = whole.index(b"{")
    async with edge(tmp_path) as server:
        first = await answered(server.port, [whole], 1)
        parted = await answered(server.port, [whole[:body], whole[body:-1], whole[-1:]], 1)
        other = await answered(server.port, [whole[:30], whole[30:]], 1)
    assert by_h11 == [False, False, True]
    names = [
        [line.partition(b":")[0] for line in said.partition(b"\r\n\r\n")[0].split(b"\r\n")]
        for said in (first, parted, other)
    ]
    assert names[0] == names[1] == names[2]


async def test_several_requests_are_answered_in_turn(tmp_path: Path, by_h11: list[bool]) -> None:
    """Those that come together by h11, and those that come one by one without it, on one connection."""
    async with edge(tmp_path) as server:
        said = await answered(server.port, [request(), request(), 2 * request(), request()], 5)
    assert said.count(b"HTTP/1.1 202 \r\n") == 5
    assert by_h11 == [False, False, True, True, False]


async def test_a_client_that_sends_no_more_gets_its_answer(
    tmp_path: Path, by_h11: list[bool]
) -> None:
    """It waits, as long as it is there."""
    wait = request().replace(b"/submissions ", b"/submissions?wait=60 ")
    async with edge(tmp_path) as server:
        with trio.fail_after(SOON_S):
            async with await trio.open_tcp_stream("127.0.0.1", server.port) as stream:
                await stream.send_all(wait)
                await stream.send_eof()
                said = b""
                while b" 100 " not in said:  # a client that is there does not mind
                    said += await stream.receive_some()
                server.ws.stopping.set()
                while b'"finished_at":null}' not in said:
                    said += await stream.receive_some()
    assert said.count(b"HTTP/1.1 202 \r\n") == 1
    assert by_h11 == [False]


async def test_a_request_that_is_cut_off_is_no_request(tmp_path: Path, by_h11: list[bool]) -> None:
    async with edge(tmp_path) as server:
        with trio.fail_after(SOON_S):
            async with await trio.open_tcp_stream("127.0.0.1", server.port) as stream:
                await stream.send_all(request()[:-1])
                await stream.send_eof()
                said = b""
                while part := await stream.receive_some():
                    said += part
    assert b" 202 " not in said
    assert by_h11 == [True]
