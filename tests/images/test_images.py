"""The images are really built, and the whole installation really runs, by an engine of the test's own.

No registry of images is reached: `base.py` makes what ours stand on from Debian's packages.
"""

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from base import BASE, STAND_INS, build, make_base, make_stand_ins
from engine import Engine, ToolFailed, engine, engine_folder
from machine import make_job
from prometheus import Prometheus
from serving import PATIENCE_S, Client, Server, connected, output

from occd.config import ROLES
from occd.languages.installing import in_set
from occd.languages.loading import load_languages

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = (
    "--file",
    ROOT / "packaging/compose.yaml",
    "--file",
    Path(__file__).with_name("compose.override.yaml"),
)
LANGUAGES = {each.id for each in in_set(load_languages().values(), "core")}

pytestmark = pytest.mark.long

_PYTEST = "python3 -m pytest -p no:cacheprovider -c /job/pyproject.toml -q --color=no --tb=short"


@pytest.fixture(scope="module")
def images(request: pytest.FixtureRequest) -> Iterator[Path]:
    """The folder of an engine that has built all of them."""
    capture = request.config.pluginmanager.getplugin("capturemanager")

    def say(line: str) -> None:
        with capture.global_and_fixture_disabled():
            print(f"\noccd: {line}", flush=True)

    with engine_folder() as folder:
        with engine(folder, building=True) as builder:
            say(
                f"no registry of images is asked: {BASE} is made by debootstrap, and Debian's packages stand"
                f" for the official images of {', '.join(STAND_INS)} (tests/images/Dockerfile)"
            )
            make_base(builder)
            for target in ("small", "full"):
                build(builder, ROOT / "packaging/Dockerfile", target, f"occd:{target}", ROOT)
            make_stand_ins(builder)
            say(f"built:\n{builder.docker('images', '--filter', 'dangling=false')}")
        yield folder


@pytest.fixture(scope="module")
def docker(images: Path) -> Iterator[Engine]:
    with engine(images, building=False) as runner:
        yield runner


def compose(docker: Engine, *argv: str | Path) -> str:
    return docker.compose(*COMPOSE, *argv)


def unprivileged(docker: Engine, *argv: str | Path) -> str:
    """What `execute` prints with the rights that compose.yaml gives it."""
    return compose(docker, "run", "--rm", "--no-deps", "--no-TTY", *argv)


def test_programs_run_safely_without_a_privilege(docker: Engine) -> None:
    said = unprivileged(docker, "execute", "doctor")
    print(said)
    assert "namespaces as user 1000" in said
    assert "Programs can be run here safely." in said


def test_the_full_image_has_every_language(docker: Engine) -> None:
    found = unprivileged(docker, "execute", "languages")
    core = [line.split() for line in found.splitlines() if " core " in line]
    assert {words[0] for words in core} == LANGUAGES
    assert "not here" not in found
    assert "formatted by /usr/local/bin/prettier" in found
    assert "to format" not in found


def test_the_small_image_has_no_compiler(docker: Engine) -> None:
    look = "for tool in cc gcc g++ go javac node rustc; do command -v $tool; done; id -u"
    assert docker.docker("run", "--rm", "--entrypoint", "sh", "occd:small", "-c", look) == "1000\n"


@pytest.mark.parametrize(
    ("given", "remedy"),
    [
        ((), "a seccomp profile that allows user namespaces"),
        ((f"--security-opt=seccomp={ROOT}/packaging/seccomp.json",), "systempaths=unconfined"),
    ],
)
def test_with_less_nothing_runs_and_doctor_says_why(
    docker: Engine, given: tuple[str, ...], remedy: str
) -> None:
    with pytest.raises(ToolFailed) as failed:
        docker.docker("run", "--rm", *given, "occd:full", "doctor")
    assert remedy in str(failed.value)
    assert "Programs can NOT be run here." in str(failed.value)


def test_the_sandbox_keeps_its_promises_in_a_container(docker: Engine) -> None:
    """As far as tests/places.toml has them hold there, and those of nsjail without control groups."""
    job = docker.folder / "job"
    job.mkdir()
    make_job(job)
    escape = f"{_PYTEST} /job/tests/escape"
    script = (
        f"unset OCCD_LISTEN OCCD_DATA_DIR; {escape} --place=nsjail-container && "
        f"{escape}/test_escape_weaker.py"
    )
    paths = ":".join(f"/job/{name}" for name in ("packages", ".", "tests", "tests/vm"))
    said = unprivileged(
        docker, "--volume", f"{job}:/job:ro", "--workdir", "/tmp", "--env", f"PYTHONPATH={paths}",
        "--env", "PATH=/job/bin:/usr/bin:/bin", "--entrypoint", "sh", "execute", "-c", script,
    )  # fmt: skip
    print(said)
    shutil.rmtree(job)


def test_all_in_one(docker: Engine) -> None:
    given = json.loads(compose(docker, "config", "--format", "json"))["services"]["execute"]
    rights = [
        f"--security-opt={each}" for each in given["security_opt"] if not each.startswith("seccomp")
    ]
    docker.docker(
        "run", "--detach", "--name", "alone", "--publish", "127.0.0.1:8001:8000",
        "--read-only", "--cap-drop=ALL", "--tmpfs=/tmp", *rights,
        f"--security-opt=seccomp={ROOT}/packaging/seccomp.json", "occd:full",
    )  # fmt: skip
    wait_healthy(docker, "alone")
    result = docker.inside(lambda: at(8001).run("print(6 * 7)"))
    assert (result["verdict"], result["run"]["stdout"]) == ("ok", "42\n")
    compiled = docker.inside(lambda: at(8001).run("int main() { return 3; }", language="c"))
    assert compiled["run"]["exit_code"] == 3
    docker.docker("stop", "--time", "20", "alone")
    assert docker.docker("inspect", "--format", "{{.State.ExitCode}}", "alone") == "0\n"
    docker.docker("rm", "--volumes", "alone")


def test_every_role_in_a_container_of_its_own(docker: Engine) -> None:
    compose(docker, "up", "--no-build", "--detach", "--wait")
    try:
        print(compose(docker, "ps"))
        result = docker.inside(lambda: at(8000).run("print(6 * 7)"))
        assert (result["verdict"], result["run"]["stdout"]) == ("ok", "42\n")
        docker.inside(lambda: trio.run(follow_live, at(8000)))

        compose(
            docker,
            "up",
            "--no-build",
            "--detach",
            "--wait",
            "--no-recreate",
            "--scale",
            "execute=3",
        )
        assert len(docker.inside(lambda: trio.run(nodes_of, at(8000), 12))) == 3

        id = docker.inside(lambda: running(at(8000), "import time; time.sleep(3); print('done')"))
        compose(docker, "stop", "execute")
        drained = docker.inside(lambda: at(8000).result(id))
        assert (drained["verdict"], drained["attempts"]) == ("ok", 1)
    except BaseException:
        print(compose(docker, "logs", "--tail", "50"))
        raise
    finally:
        compose(docker, "down", "--volumes")
    assert docker.docker("ps", "--all", "--quiet") == ""
    assert docker.docker("volume", "ls", "--quiet") == ""
    assert compose(docker, "ps", "--quiet") == ""


def test_prometheus_asks_every_container_of_every_role(docker: Engine) -> None:
    """Without Grafana, whose image cannot be had here and has no package that could stand for it."""
    compose(docker, "up", "--no-build", "--detach", "--wait")
    try:
        compose(docker, "up", "--no-build", "--detach", "--wait", "prometheus")
        assert docker.inside(lambda: processes_scraped(9090, len(ROLES))) == set(ROLES)
    except BaseException:
        print(compose(docker, "logs", "--tail", "50"))
        raise
    finally:
        compose(docker, "--profile", "monitoring", "down", "--volumes")
    assert docker.docker("ps", "--all", "--quiet") == ""


def processes_scraped(port: int, wanted: int) -> set[str]:
    """The roles of all processes that Prometheus gets metrics of, once there are so many processes."""
    deadline = time.monotonic() + PATIENCE_S
    while len(found := Prometheus(port).query("occd_info")) != wanted:
        assert time.monotonic() < deadline, (found, Prometheus(port).ask("targets"))
        time.sleep(1)
    return {labels["roles"] for labels, _ in found}


def test_execute_reaches_only_the_broker_and_the_state(docker: Engine) -> None:
    compose(docker, "up", "--no-build", "--detach", "--wait", "execute")
    try:
        for host, port, reached in (
            ("rabbitmq", 5672, True),
            ("redis", 6379, True),
            ("submit", 8000, False),
        ):
            look = f"import socket; socket.create_connection(('{host}', {port}), 3)"
            if reached:
                compose(docker, "exec", "--no-TTY", "execute", "python", "-c", look)
            else:
                with pytest.raises(ToolFailed):
                    compose(docker, "exec", "--no-TTY", "execute", "python", "-c", look)
    finally:
        compose(docker, "down", "--volumes")


def at(port: int) -> Server:
    """A server that somebody else has started: only its address is known."""
    nowhere = Path("/nonexistent")
    return Server(None, nowhere, nowhere, nowhere, port)  # type: ignore[arg-type]


def wait_healthy(docker: Engine, name: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while docker.docker("inspect", "--format", "{{.State.Health.Status}}", name) != "healthy\n":
        assert time.monotonic() < deadline, docker.docker("logs", name)
        time.sleep(0.5)


async def follow_live(server: Server) -> None:
    """Submitted over HTTP, followed and answered over the WebSocket, through nginx."""
    id = server.submit("print('name?', flush=True); print('hello', input())", interactive=True)
    async with connected(server) as client:
        assert (await client.ask("subscribe", id=id, after=0))["type"] == "done"
        await client.until_output(id, "name?\n")  # while the program waits for us
        answer = await client.ask("stdin", id=id, data="you\n", offset=0, eof=True)
        assert answer["type"] == "done"
        assert output(await client.until(id, "finished")) == "hello you\n"


async def nodes_of(server: Server, number: int) -> set[str]:
    """Where so many programs ran that were there at once."""
    ids = [server.submit("import time; time.sleep(5)", user_id=f"u{i}") for i in range(number)]
    async with connected(server) as client:
        return {await _node(client, id) for id in ids}


async def _node(client: Client, id: str) -> str:
    await client.ask("subscribe", id=id, after=0)
    return str((await client.until(id, "started"))[-1]["event"]["node"])


def running(server: Server, source: str) -> str:
    id = server.submit(source)
    server.wait_running(id)
    return id
