"""A trace in containers, beyond what test_trace.py asks of every sandbox: images of which one cannot trace,
and a file of the trace that a program has got hold of."""

import json
from pathlib import Path

import pytest
from engine import Reached
from sandboxed import LONG, PYTHON, Lab
from serving import API, serving
from shared_engine import IMAGE

from occd.config import Config, ExecuteConfig, SandboxConfig
from occd.sandbox import TRACE_BYTES, open_sandbox

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


def test_image_that_cannot_trace_takes_it_from_its_versions_alone(
    docker_engine: Reached, tmp_path: Path
) -> None:
    with serving(
        tmp_path / "data",
        sandbox__kind="docker",
        sandbox__host=docker_engine.host,
        sandbox__images=json.dumps([TEST, "untraced"]),
    ) as server:
        assert "no trace in untraced: the tracer fails there" in server.output.read_text()
        languages = server.get(f"{API}/languages").json()["languages"]
        assert {each["id"]: each["trace"] for each in languages} == {
            each["id"]: each["id"] != "python" for each in languages
        }
        newest = server.post({"language": "python", "source": "print(1)", "trace": True})
        assert newest.status == 422
        (error,) = newest.json()["errors"]
        assert error["field"] == "trace"
        assert error["message"].startswith(
            "not every node can trace this version of Python; choose 3.11."
        )
        assert server.run("print(1)")["version"] == "3.12.99"
        traced = server.run("print(1)", version="3.11", trace=True)
        assert (traced["verdict"], traced["trace"]["ended"]) == ("ok", "whole")
        calls = server.get(f"{API}/submissions/{traced['id']}/trace").json()["calls"]
        assert len(calls) == traced["trace"]["calls"] > 50
        in_c = '#include <stdio.h>\nint main(void) { puts("x"); }'
        assert server.run(in_c, language="c", trace=True)["trace"]["ended"] == "whole"


async def test_program_that_has_got_the_file_of_the_trace_sends_no_more_than_a_trace(
    docker_engine: Reached,
) -> None:
    config = Config(
        sandbox=SandboxConfig(kind="docker", host=docker_engine.host, images=("taken",)),
        execute=ExecuteConfig(slots=1),
    )
    async with open_sandbox(config, only="python") as sandbox:
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
