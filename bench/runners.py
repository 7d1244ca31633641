"""Servers that run programs over HTTP: what each is asked, and how its answer is read.

`RUNNERS="piston=http://127.0.0.1:2000 judge0=https://judge.example"` names others to be measured beside occd:
`make bench PARTS=hello RUNNERS=…`. Their requests are made by their public documents. Only occd has been
measured by us: none of the others was at hand.
"""

import json
import os
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import trio

SOURCE = 'print("Hello, world!")\n'
OUTPUT = "Hello, world!\n"


class NotRun(Exception):
    """A server answered something else than the output of its program."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of server. `asks` makes the request of a Python program, and `said` finds in the answer what the
    program wrote."""

    path: str
    asks: Callable[[str], Any]
    said: Callable[[Any], object]


def _go_judge(source: str) -> Any:
    command = {
        "args": ["/usr/bin/python3", "main.py"],
        "env": ["PATH=/usr/bin:/bin"],
        "files": [
            {"content": ""},
            {"name": "stdout", "max": 10_240},
            {"name": "stderr", "max": 10_240},
        ],
        "cpuLimit": 5_000_000_000,
        "clockLimit": 10_000_000_000,
        "memoryLimit": 256 * 2**20,
        "procLimit": 64,
        "copyIn": {"main.py": {"content": source}},
    }
    return {"cmd": [command]}


KINDS = {
    "occd": Kind(
        "/api/v1/submissions?wait=60",
        lambda source: {"language": "python", "source": source},
        lambda answer: answer["run"]["stdout"],
    ),
    "go-judge": Kind("/run", _go_judge, lambda answer: answer[0]["files"]["stdout"]),
    "piston": Kind(
        "/api/v2/execute",
        lambda source: {
            "language": "python",
            "version": "*",
            "files": [{"name": "main.py", "content": source}],
        },
        lambda answer: answer["run"]["stdout"],
    ),
    "judge0": Kind(
        "/submissions?base64_encoded=false&wait=true",
        lambda source: {"language_id": 71, "source_code": source},  # 71: Python 3
        lambda answer: answer["stdout"],
    ),
    "jobe": Kind(
        "/jobe/index.php/restapi/runs",
        lambda source: {
            "run_spec": {
                "language_id": "python3",
                "sourcefilename": "main.py",
                "sourcecode": source,
                "input": "",
            }
        },
        lambda answer: answer["stdout"],
    ),
}


class HttpClient:
    """Connections kept open, and no more of HTTP than this needs: its work is on the same cores."""

    def __init__(
        self,
        at: int | str,
        bearer: str | None = None,
        kind: Kind = KINDS["occd"],
        source: str = SOURCE,
        output: str | None = OUTPUT,
    ) -> None:
        """`at` is the port of a daemon on this machine, or an address such as http://runner:2358. Without
        `output` a program may write anything."""
        url = urlsplit(at if isinstance(at, str) else f"http://127.0.0.1:{at}")
        assert url.hostname, f"{at} is no address such as http://runner:2358"
        self._tls = ssl.create_default_context() if url.scheme == "https" else None
        self._host, self._port = url.hostname, url.port or (443 if self._tls else 80)
        self._kind, self._output = kind, output
        self._idle: list[trio.abc.Stream] = []
        body = json.dumps(kind.asks(source))
        headers = {
            "Host": url.netloc,
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            **({"Authorization": f"Bearer {bearer}"} if bearer else {}),
        }
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        path = url.path.rstrip("/") + kind.path
        self._request = f"POST {path} HTTP/1.1\r\n{lines}\r\n{body}".encode()

    async def run(self) -> None:
        """Raises NotRun, or what the network raises."""
        stream = self._idle.pop() if self._idle else await self._connect()
        try:
            await stream.send_all(self._request)
            status, body, stays = await _answer(stream)
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise
        if stays:
            self._idle.append(stream)
        else:
            await stream.aclose()
        try:
            said = self._kind.said(json.loads(body))
        except (ValueError, LookupError, TypeError) as error:
            raise NotRun(f"{status} {body[:500]!r}") from error
        if self._output is not None and said != self._output:
            raise NotRun(f"{status} {body[:500]!r}")

    async def aclose(self) -> None:
        while self._idle:
            await self._idle.pop().aclose()

    async def _connect(self) -> trio.abc.Stream:
        stream = await trio.open_tcp_stream(self._host, self._port)
        if self._tls is None:
            return stream
        return trio.SSLStream(stream, self._tls, server_hostname=self._host, https_compatible=True)


async def _answer(stream: trio.abc.Stream) -> tuple[int, bytes, bool]:
    """The status, the body, and whether the connection stays."""
    came = bytearray()

    async def more() -> None:
        part = await stream.receive_some(65_536)
        if not part:
            raise NotRun(f"the connection was closed after {bytes(came[:500])!r}")
        came.extend(part)

    async def line() -> bytes:
        while (end := came.find(b"\r\n")) < 0:
            await more()
        found = bytes(came[:end])
        del came[: end + 2]
        return found

    async def exactly(size: int) -> bytes:
        while len(came) < size:
            await more()
        found = bytes(came[:size])
        del came[:size]
        return found

    status = int((await line()).split()[1])
    headers = {}
    while text := await line():
        name, _, value = text.decode("latin-1").partition(":")
        headers[name.lower()] = value.strip().lower()
    stays = headers.get("connection") != "close"
    if headers.get("transfer-encoding") != "chunked":
        return status, await exactly(int(headers["content-length"])), stays
    body = b""
    while size := int((await line()).partition(b";")[0], 16):
        body += await exactly(size)
        await line()
    while await line():
        pass
    return status, body, stays


def others() -> dict[str, HttpClient]:
    """Clients of the servers that `RUNNERS` names."""
    found = {}
    for each in os.environ.get("RUNNERS", "").split():
        name, _, address = each.partition("=")
        if name not in KINDS or not address:
            raise SystemExit(f"RUNNERS: {each!r} is not NAME=URL with one of {', '.join(KINDS)}")
        found[name] = HttpClient(address, kind=KINDS[name])
    return found
