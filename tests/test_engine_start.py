"""occd does not start with an engine of Docker that it cannot use, and says in one line what to do."""

import gc
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

import pytest
from engine import Reached
from serving import OCCD
from shared_engine import IMAGE

from occd.config import Config, SandboxConfig
from occd.errors import ConfigError
from occd.images import described
from occd.sandbox import open_sandbox

# Docker's SDK forgets the sockets that it could not connect.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")

START_S = 60.0


@pytest.fixture(autouse=True)
def collect() -> Iterator[None]:
    yield
    gc.collect()  # while the mark above holds


@contextmanager
def answering(path: Path, answer: Callable[[socket.socket], None]) -> Iterator[None]:
    """A server at this socket that is no engine of Docker."""

    def serve() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=talk, args=(connection,), daemon=True).start()

    def talk(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            answer(connection)

    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield
        finally:
            server.shutdown(socket.SHUT_RDWR)
    thread.join()


def start(
    folder: Path, host: str | Path, *wrapper: str, command: Sequence[str] = (), **sandbox: str
) -> tuple[int, str]:
    """The exit code, and all that it said."""
    environment = {name: value for name, value in os.environ.items() if name[:5] != "OCCD_"}
    environment |= {"OCCD_SANDBOX__KIND": "docker", "OCCD_METRICS__LISTEN": "null"}
    environment["OCCD_SANDBOX__HOST"] = f"unix://{host}" if isinstance(host, Path) else host
    environment |= {f"OCCD_SANDBOX__{name.upper()}": value for name, value in sandbox.items()}
    serve = ["--roles=all", f"--data-dir={folder / 'data'}", "--listen=127.0.0.1:0"]
    done = subprocess.run(
        [*wrapper, OCCD, *(command or serve)],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=START_S,
    )
    return done.returncode, done.stdout + done.stderr


def refused(folder: Path, host: str | Path, *wrapper: str, **sandbox: str) -> str:
    """The one line that it said."""
    code, said = start(folder, host, *wrapper, **sandbox)
    assert code == 125, said
    lines = [line for line in said.splitlines() if line]
    assert len(lines) == 1, said
    return lines[0]


async def complaint(host: str) -> str:
    """The error with which no sandbox is opened."""
    with pytest.raises(ConfigError) as refusal:
        async with open_sandbox(Config(sandbox=SandboxConfig(kind="docker", host=host))):
            raise AssertionError("it was opened")
    return str(refusal.value)


def test_an_engine_that_is_away(tmp_path: Path) -> None:
    said = refused(tmp_path, tmp_path / "socket")
    assert said == (
        f"occd: sandbox.host: Docker's engine at unix://{tmp_path}/socket cannot be reached: No such file or "
        "directory. Start Docker's engine, or set sandbox.host to its address"
    )


async def test_an_engine_that_has_died(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
    said = await complaint(f"unix://{tmp_path}/socket")
    assert "cannot be reached: Connection refused. Start Docker's engine" in said


def test_a_socket_that_nobody_may_open(tmp_path: Path) -> None:
    no_right = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
    with answering(tmp_path / "socket", lambda connection: None):
        (tmp_path / "socket").chmod(0)
        said = refused(tmp_path, tmp_path / "socket", *no_right)
    assert "cannot be reached: Permission denied. Let occd's user open it" in said


def send(data: bytes) -> Callable[[socket.socket], None]:
    def answer(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(data)

    return answer


@pytest.mark.parametrize(
    "answer",
    [
        b"220 mail.example.org ESMTP\r\n",
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\n\r\nhere?",
        b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]",
        b'HTTP/1.1 200 OK\r\nContent-Length: 16\r\n\r\n{"ApiVersion":1}',
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"",
    ],
)
async def test_what_is_not_an_engine(tmp_path: Path, answer: bytes) -> None:
    with answering(tmp_path / "socket", send(answer)):
        said = await complaint(f"unix://{tmp_path}/socket")
    assert said == (
        f"sandbox.host: what answers at unix://{tmp_path}/socket is not Docker's engine. Set sandbox.host to "
        "the address of Docker's engine"
    )


def trickle(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    while True:
        connection.sendall(b" ")
        time.sleep(0.5)


def test_an_engine_that_is_silent_or_slow_is_not_waited_for(tmp_path: Path) -> None:
    with answering(tmp_path / "socket", trickle):
        said = refused(tmp_path, tmp_path / "socket")
    assert "has not answered for 10 s. It may be overloaded, or stuck" in said


def test_the_doctor_does_not_wait_for_an_engine_that_is_slow(tmp_path: Path) -> None:
    with answering(tmp_path / "socket", trickle):
        code, said = start(tmp_path, tmp_path / "socket", command=["doctor"])
    assert code == 1
    assert "BAD" in said
    assert "has not answered for 10 s. It may be overloaded, or stuck" in said


@pytest.mark.parametrize("answer", [b"[]", b"{}", b'{"Config":null}'])
def test_the_doctor_tells_of_what_is_not_an_engine(tmp_path: Path, answer: bytes) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(answer)
    with answering(tmp_path / "socket", send(head + answer)):
        code, said = start(tmp_path, tmp_path / "socket", command=["doctor"])
    assert code == 1
    assert "BAD" in said
    assert "is not Docker's engine. Set sandbox.host" in said


@pytest.mark.parametrize("answer", [None, trickle, send(b"HTTP/1.1 200 OK\r\n\r\n[1]")])
def test_the_list_of_images_does_not_wait_for_an_engine(
    tmp_path: Path, answer: Callable[[socket.socket], None] | None
) -> None:
    host = f"unix://{tmp_path}/socket"
    with answering(tmp_path / "socket", answer) if answer else nullcontext():
        code, said = start(tmp_path, host, command=["images", "--list"])
    assert code == 0
    assert said == (
        "debian-12         not built\n"
        "debian-12-popular not built\n"
        "debian-13         not built\n"
        f"occd: Docker's engine at {host} does not tell what it has: it is away, or too busy, "
        "or this user may not open it\n"
    )


async def test_an_engine_that_is_too_old(tmp_path: Path) -> None:
    told = b'{"ApiVersion":"1.40","MinAPIVersion":"1.12"}'
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(told)
    with answering(tmp_path / "socket", send(head + told)):
        said = await complaint(f"unix://{tmp_path}/socket")
    assert "is too old: its API is 1.40. Take one with 1.41 (Docker 20.10) or later" in said


@pytest.mark.parametrize("host", ["docker", "ftp://127.0.0.1"])
async def test_an_address_that_is_none(host: str) -> None:
    said = await complaint(host)
    assert said.startswith(f"sandbox.host: {host} is no address of Docker's engine"), said
    assert said.endswith("An address is like unix:///var/run/docker.sock")


def test_a_runtime_that_the_engine_does_not_know(tmp_path: Path, docker_engine: Reached) -> None:
    images = f'["{IMAGE.removeprefix("occd/")}"]'
    said = refused(tmp_path, docker_engine.host, runtime="kata", images=images)
    assert (
        "occd: sandbox.runtime: Docker's engine knows no runtime kata, only io.containerd.runc"
        in said
    )


def test_an_image_that_is_not_there(tmp_path: Path, docker_engine: Reached) -> None:
    said = refused(tmp_path, docker_engine.host, images='["debian-12"]')
    assert said.endswith(
        "Docker has no image occd/debian-12. Build it, as root: occd images debian-12 --docker "
        "(with --no-build, where it was built before)"
    )
    said = refused(tmp_path, docker_engine.host, images='["debian-99"]')
    assert said.endswith(
        f"Docker has no image occd/debian-99. There are {', '.join(described())}: name one of them in "
        "sandbox.images"
    )


def test_all_that_is_wrong_with_runtime_and_images_is_told_at_once(
    tmp_path: Path, docker_engine: Reached
) -> None:
    wrong = {"runtime": "kata", "images": '["debian-98", "debian-99"]'}
    code, said = start(tmp_path, docker_engine.host, **wrong)
    runtime, *images = said.splitlines()
    assert code == 125
    assert runtime.startswith("occd: sandbox.runtime: Docker's engine knows no runtime kata, only ")
    assert runtime.endswith("in the engine's daemon.json, and restart the engine")
    assert len(images) == 2
    for line, name in zip(images, ("debian-98", "debian-99"), strict=True):
        assert line.startswith(f"Docker has no image occd/{name}. There are debian-12, ")
    code, said = start(tmp_path, docker_engine.host, command=["doctor"], **wrong)
    assert code == 1
    assert said.count("BAD  ") == said.count("\n      → ") == 3
    assert "BAD   Docker has no image occd/debian-98\n      → There are debian-12, " in said


def test_the_doctor_tells_what_is_wrong_with_the_engine(tmp_path: Path) -> None:
    code, said = start(tmp_path, tmp_path / "socket", command=["doctor"])
    assert code == 1
    assert "BAD" in said
    assert "cannot be reached: No such file or directory. Start Docker's engine" in said
