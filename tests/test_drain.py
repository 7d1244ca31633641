"""`occd drain`: a node takes no more, what runs there goes on, and nothing is lost."""

import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from in_process import API as EDGE_API
from in_process import edge
from load import load
from meeting import meeting
from serving import API, OCCD, PATIENCE_S, Server, connected, serving
from test_cli import assert_refused, occd
from test_overview import told

from occd.model import Accepted
from occd.roles.submit import Submit

HELD = "print(input(), flush=True)"
"""Runs until its client lets it go."""


@contextmanager
def draining(server: Server, *args: str) -> Iterator[subprocess.Popen[str]]:
    """The command, as somebody types it. It waits for what runs."""
    clean = {name: value for name, value in os.environ.items() if name[:5] != "OCCD_"}
    command = [OCCD, f"--data-dir={server.data_dir}", "drain", *args]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env=clean, cwd=server.data_dir.parent
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def drain(server: Server, *args: str) -> tuple[int, str]:
    done = occd(f"--data-dir={server.data_dir}", "drain", *args, cwd=server.data_dir.parent)
    return done.returncode, done.stderr.decode()


def status_of(server: Server, id: str) -> str:
    return str(server.look(id)["status"])


def node_of(server: Server, id: str) -> str:
    """Where it ran."""
    answer = server.get(f"{API}/submissions/{id}/events", Accept="application/x-ndjson")
    (started,) = (line for line in answer.body.decode().splitlines() if '"started"' in line)
    return started.partition('"node":"')[2].partition('"')[0]


async def test_what_runs_goes_on_and_what_comes_is_told_to_come_again(tmp_path: Path) -> None:
    with serving(tmp_path / "data", execute__slots="1", execute__interactive="1") as server:
        async with connected(server) as client:
            id = await client.submit(HELD, interactive=True)
            await client.ask("subscribe", id=id)
            await client.until(id, "stage")
            with load(server) as clients, draining(server) as process:
                assert process.stderr
                said = await trio.to_thread.run_sync(process.stderr.readline)
                assert "under way" in said
                ready = server.get("/readyz")
                assert ready.status == 503
                assert "occd drain --undo" in ready.json()["detail"]
                late = await client.ask("submit", submission={"language": "python", "source": "1"})
                assert late["problem"]["type"] == "shutting-down"
                assert process.poll() is None
                await client.ask("stdin", id=id, data="still here\n")
                assert await client.until_output(id, "still here")
                rest = await trio.to_thread.run_sync(process.stderr.read)
                assert rest.endswith("occd: drained\n")
                assert await trio.to_thread.run_sync(process.wait) == 0
                waits = [each for each in clients.accepted if status_of(server, each) == "queued"]
                refused = clients.problems["shutting-down"]
                while clients.problems["shutting-down"] < refused + 6:  # noqa: ASYNC110
                    await trio.sleep(0.02)
                assert [each for each in waits if status_of(server, each) != "queued"] == []
                assert drain(server, "--undo") == (0, "")
                await trio.to_thread.run_sync(clients.until, 5)
                assert server.get("/readyz").status == 200
            clients.check()
            assert set(clients.problems) <= {"shutting-down", "no-nodes"}


def test_what_waits_in_the_queue_waits_until_the_drain_is_undone(tmp_path: Path) -> None:
    with serving(tmp_path / "data", execute__slots="1", execute__interactive="3") as server:
        runs = server.submit("import time; time.sleep(600)")
        server.wait_running(runs)
        waits = server.submit("print(1)")
        code, said = drain(server, "--timeout=0s")
        assert (code, "one submission is under way here" in said) == (124, True)
        load = told(server, lambda each: each["load"]["seats"] == 0)[
            "load"
        ]  # what is free counts no more
        assert load | {"nodes": 1, "slots": 1, "slots_used": 1, "running": {"python": 1}} == load
        server.request("DELETE", f"{API}/submissions/{runs}")
        code, said = drain(server)
        assert (code, said.splitlines()[-1]) == (0, "occd: drained")
        assert status_of(server, waits) == "queued"
        assert drain(server, "--undo") == (0, "")
        assert server.result(waits)["attempts"] == 1


def test_what_is_drained_takes_again_after_a_start(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as server:
        assert drain(server) == (0, "occd: drained\n")
        assert told(server, lambda each: each["load"]["nodes"] == 0)["ready"] is False
        answer = server.post({"language": "python", "source": "1"})
        assert (answer.status, answer.json()["type"]) == (503, "shutting-down")
    with serving(tmp_path / "data") as server:
        assert server.run("print(1)")["verdict"] == "ok"


@pytest.mark.long
def test_an_interactive_program_does_not_give_way_in_a_drain(tmp_path: Path) -> None:
    with serving(
        tmp_path / "data",
        execute__slots="1",
        execute__interactive="0",
        ceilings__wall_time="10",
    ) as server:
        runs = server.submit(HELD, interactive=True)
        server.wait_running(runs)
        waits = server.submit("print(1)")
        assert drain(server, "--timeout=20s")[0] == 124  # it would have to go after 10 to 15
        assert (status_of(server, runs), status_of(server, waits)) == ("running", "queued")
        drain(server, "--undo")
        assert server.result(waits)["verdict"] == "ok"
        assert server.result(runs)["verdict"] == "cancelled"


async def test_a_batch_that_was_let_in_is_in_hand_until_its_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node that said 0 between two of a batch was stopped there."""
    held: list[int] = []
    accept = Submit.accept

    async def watched(self: Submit, *args: Any, **named: Any) -> Accepted:
        self._draining.tell(on=True)
        held.append(self._draining.held)
        return await accept(self, *args, **named)

    monkeypatch.setattr(Submit, "accept", watched)
    async with edge(tmp_path) as found:
        body = json.dumps({"submissions": [{"language": "python", "source": "1"}] * 3}).encode()
        path = b"POST %b/submissions/batch?all_or_nothing=true HTTP/1.1" % EDGE_API
        status, said = await found.ask(path, body)
        assert (status, [each["status"] for each in said["submissions"]]) == (202, ["queued"] * 3)
        assert held == [1, 1, 1]
        assert found.submit._draining.held == 0
        status, said = await found.ask(path, body)
        assert (status, said["type"]) == (503, "shutting-down")


def test_without_a_daemon_there_is_nothing_to_drain(tmp_path: Path) -> None:
    for args in ((), ("--undo",)):
        assert_refused(occd("drain", *args, cwd=tmp_path), "no daemon", "--data-dir")


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[dict[str, Server]]:
    """Over RabbitMQ and Redis."""
    with meeting() as settings, ExitStack() as stack:
        settings |= {"languages": '["python"]'}
        yield {
            name: stack.enter_context(
                serving(tmp_path / name, roles=roles, node=name, execute__slots="2", **settings)
            )
            for name, roles in {
                "front": "submit,notify,ws",
                "one": "execute",
                "other": "execute",
            }.items()
        }


def test_a_node_of_several_is_drained_under_load(installation: dict[str, Server]) -> None:
    front, one, other = installation.values()
    assert drain(front)[0] == 0
    wait_nodes(front, "front: draining,notify,submit,ws;")
    assert drain(front, "--undo") == (0, "")
    wait_nodes(front, "front: notify,submit,ws;")
    with load(front) as clients:
        clients.until(5)
        assert drain(one)[0] == 0
        before = set(clients.accepted)
        wait_nodes(front, "one: draining;", "other: execute;")
        clients.until(10)
        meanwhile = sorted(set(clients.accepted) - before)[:5]
        for each in meanwhile:
            front.result(each)
        assert drain(one, "--undo") == (0, "")
        wait_nodes(front, "one: execute;", "other: execute;")
        assert drain(other)[0] == 0
        assert other.stop() == 0
        before = set(clients.accepted)
        clients.until(10)
    clients.check()
    assert not clients.problems
    assert {node_of(front, each) for each in meanwhile} == {"other"}
    assert {node_of(front, each) for each in set(clients.accepted) - before} == {"one"}


def wait_nodes(server: Server, *wanted: str) -> None:
    """Until the nodes announce this."""
    settings = Path(f"/proc/{server.process.pid}/environ").read_text().split("\0")
    environment = dict(each.split("=", 1) for each in settings if each.startswith("OCCD_REDIS"))
    deadline = time.monotonic() + PATIENCE_S
    while True:
        said = occd("nodes", cwd=server.data_dir.parent, environment=environment).stdout.decode()
        if all(each in said for each in wanted):
            return
        assert time.monotonic() < deadline, said
        time.sleep(0.1)
