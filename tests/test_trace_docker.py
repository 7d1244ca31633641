"""A trace in containers, beyond what test_trace.py asks of every sandbox: images of which one cannot trace,
and a file of the trace that a program has got hold of."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from engine import Reached
from sandboxed import LONG, PYTHON, Lab, run_in
from shared_engine import IMAGE

from occd.config import Config, ExecuteConfig, SandboxConfig
from occd.errors import SandboxFailed
from occd.languages.loading import load_languages
from occd.model import File
from occd.sandbox import TRACE_BYTES, Sandbox, open_sandbox
from occd.sandbox.relay import Relay

TEST = IMAGE.removeprefix("occd/")
NEWER = f"""\
#!/bin/sh
[ "$1" = --version ] && exec echo Python 3.12.99
exec {PYTHON} "$@"
"""
GIVES_ITS_FILE_AWAY = """\
import ctypes, os, socket, sys, time
program, out, go = map(int, sys.argv[1:4])
os.read(go, 1)
server = socket.socket(socket.AF_UNIX)
server.bind("/tmp/trace")
server.listen()
os.write(go, b".")
client, _ = server.accept()
socket.send_fds(client, [b"."], [out])
time.sleep(60)
"""
"""A tracer that has been taken over."""


@pytest.fixture(scope="module", autouse=True)
def made(docker_engine: Reached, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The image `untraced` has a newer Python, and nothing to trace with. `taken` has a hostile tracer."""
    folder = tmp_path_factory.mktemp("images")
    changes = {
        "untraced": {
            "/usr/bin/python3.12": NEWER,
            "/opt/occd/trace/ptrace/__init__.py": "raise ImportError",
        },
        "taken": {"/opt/occd/trace/tracer.py": GIVES_ITS_FILE_AWAY},
    }
    for name, files in changes.items():
        container = docker_engine.docker("create", IMAGE, "none").strip()
        for path, text in files.items():
            file = folder / Path(path).name
            file.write_text(text)
            file.chmod(0o755)
            docker_engine.docker("cp", file, f"{container}:{path}")
        docker_engine.docker("commit", container, f"occd/{name}")
        docker_engine.docker("rm", container)


async def test_image_that_cannot_trace_is_told_and_others_trace(
    docker_engine: Reached, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = load_languages()
    monkeypatch.setattr("occd.sandbox.docker.load_languages", lambda: {"python": known["python"]})
    async with opened(docker_engine, TEST, "untraced") as sandbox:
        assert sandbox.untraced == {"untraced": "the tracer fails there"}
        newer, older = sandbox.available["python"]
        assert (newer.root, older.root) == ("untraced", TEST)
        for root, ended in ((newer.root, "tracer_died"), (older.root, "whole")):
            files = [File("main.py", b"print(1)")]
            async with sandbox.cell(known["python"], files, LONG, root) as cell:
                ran = await run_in(cell, [PYTHON, "main.py"], LONG, trace=True)
            assert (ran.exit_code, ran.stdout) == (0, b"1\n")
            assert ran.trace
            assert ran.trace.ended == ended


@asynccontextmanager
async def opened(engine: Reached, *images: str, only: str | None = None) -> AsyncIterator[Sandbox]:
    config = Config(
        sandbox=SandboxConfig(kind="docker", host=engine.host, images=images),
        execute=ExecuteConfig(slots=1),
    )
    async with open_sandbox(config, only=only) as sandbox:
        yield sandbox


async def test_program_that_has_got_the_file_of_the_trace_sends_no_more_than_a_trace(
    docker_engine: Reached,
) -> None:
    async with opened(docker_engine, "taken", only="python") as sandbox:
        ran = await Lab(sandbox).python(
            """
            peer = socket.socket(socket.AF_UNIX)
            peer.connect("/tmp/trace")
            _, (out,), _, _ = socket.recv_fds(peer, 1, 1)
            for _ in range(20): os.write(out, b"x" * 2**20)
            os.ftruncate(out, 2**26)
            print("written")
            """,
            LONG,
            trace=True,
        )
        assert (ran.exit_code, ran.stdout) == (0, b"written\n"), ran
        assert ran.trace
        assert ran.trace.lines == b"x" * TRACE_BYTES
        again = await Lab(sandbox).python("print('next')", LONG)
        assert again.stdout == b"next\n"


async def test_program_whose_trace_does_not_come_has_its_end_all_the_same(
    docker_engine: Reached, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To repeat it would give another end, and perhaps no trace either."""
    next_frame = Relay.next_frame

    async def dies_meanwhile(self: Relay) -> tuple[bytes, bytes]:
        kind, body = await next_frame(self)
        if kind == b"t" and not body:
            raise SandboxFailed("a container has ended")
        return kind, body

    monkeypatch.setattr(Relay, "next_frame", dies_meanwhile)
    async with opened(docker_engine, TEST, only="python") as sandbox:
        ran = await Lab(sandbox).python("print('written'); sys.exit(3)", LONG, trace=True)
    assert (ran.exit_code, ran.stdout) == (3, b"written\n"), ran
    assert ran.trace
    assert ran.trace.ended == "tracer_died"
    assert b"written" in ran.trace.lines
