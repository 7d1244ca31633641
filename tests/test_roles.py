"""Roles in processes of their own, over a real RabbitMQ and a real Redis, behind a real nginx."""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pika
import pytest
import trio
from packaged import PACKAGING
from pydantic import SecretStr
from rabbitmq_server import shared as shared_rabbitmq
from redis_server import free_port, shared_redis
from serving import API, OCCD, PATIENCE_S, Server, connected, output, serving, start, without_output
from streams import Stream, Told, followed, type_in
from trio_websocket import ConnectionClosed

from occd.broker import open_broker
from occd.broker.topology import Topology
from occd.config import Config, RabbitmqConfig

HELLO = 'print("Hello, world!")'
ECHO = "import sys\nfor line in sys.stdin: print('got', line.strip(), flush=True)"
SERVED = {
    "submit": ("/", f"{API}/languages"),
    "execute": (),
    "notify": (),
    "ws": (),
}


@dataclass(frozen=True)
class Installation:
    settings: dict[str, Any]
    submits: list[Server]
    executes: list[Server]
    notifies: list[Server]
    sockets: list[Server]
    folder: Path

    @contextmanager
    def another(self, name: str, roles: str, **settings: str) -> Iterator[Server]:
        with serving(self.folder / name, roles=roles, **self.settings | settings) as server:
            yield server


@pytest.fixture(scope="module")
def meeting() -> Iterator[dict[str, Any]]:
    """Settings with which roles meet."""
    rabbitmq = shared_rabbitmq()
    url = rabbitmq.add_vhost()
    yield {
        "rabbitmq__url": url,
        "redis__url": shared_redis().url,
        "redis__prefix": f"roles-{os.getpid()}",
        "languages": '["python"]',
    }
    rabbitmq.delete_vhost(url)


@pytest.fixture(scope="module")
def installation(
    meeting: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Installation]:
    folder = tmp_path_factory.mktemp("installation")
    with ExitStack() as stack:

        def role(name: str, number: int) -> Server:
            at = folder / f"{name}{number}"
            return stack.enter_context(serving(at, roles=name, **meeting))

        notifies = [role("notify", 1)]
        executes = [role("execute", number) for number in (1, 2)]
        submits = [role("submit", number) for number in (1, 2)]
        sockets = [role("ws", number) for number in (1, 2)]
        yield Installation(meeting, submits, executes, notifies, sockets, folder)


@pytest.fixture(scope="module")
def front(installation: Installation) -> Iterator[Server]:
    """nginx before all of them, without sticky sessions; as a server to be asked."""
    with nginx(installation) as port:
        yield replace(installation.submits[0], port=port)


@contextmanager
def nginx(installation: Installation) -> Iterator[int]:
    """With the configuration of packaging/compose; only where things are differs."""
    program = shutil.which("nginx", path=os.environ["PATH"] + ":/usr/sbin")
    assert program, "nginx is missing; to have it: apt-get install nginx-light"
    folder, port = installation.folder / "nginx", free_port()
    folder.mkdir()
    submits = "".join(f"server 127.0.0.1:{each.port};" for each in installation.submits)
    sockets = "".join(f"server 127.0.0.1:{each.port};" for each in installation.sockets)
    text = (PACKAGING / "compose/nginx.conf").read_text()
    changes = {
        "pid /tmp/nginx.pid;": f"daemon off; pid {folder}/pid;",
        "error_log stderr": f"error_log {folder}/error.log",
        "_temp_path /tmp/": f"_temp_path {folder}/",
        "    server {": f"upstream submit {{ {submits} }} upstream ws {{ {sockets} }} server {{",
        "listen 8000;": f"listen 127.0.0.1:{port};",
        "submit:8000": "submit",
        "ws:8000": "ws",
    }
    for theirs, ours in changes.items():
        assert theirs in text
        text = text.replace(theirs, ours)
    (folder / "nginx.conf").write_text(text)
    process = subprocess.Popen([program, "-c", str(folder / "nginx.conf"), "-p", str(folder)])
    try:
        deadline = time.monotonic() + PATIENCE_S
        while not (folder / "pid").exists():
            assert process.poll() is None, (folder / "error.log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield port
    finally:
        process.terminate()
        process.wait()


def test_a_submission_goes_through_all_roles(front: Server) -> None:
    for _ in range(4):  # so that each submit node has one
        result = front.run(HELLO)
        assert result["verdict"] == "ok"
        assert result["run"]["stdout"] == "Hello, world!\n"


def test_every_node_answers_for_every_submission(installation: Installation) -> None:
    one, two = installation.submits
    id = one.submit(HELLO)
    assert two.result(id) == one.result(id)


def test_an_idempotency_key_holds_on_every_node(installation: Installation) -> None:
    one, two = installation.submits
    body = {"language": "python", "source": HELLO}
    first, again = (each.post(body, idempotency_key="a-key") for each in (one, two))
    assert first.json()["id"] == again.json()["id"]
    other = two.post(body | {"source": "print(2)"}, idempotency_key="a-key")
    assert other.status == 409


def test_each_role_tells_its_health_and_serves_nothing_else(installation: Installation) -> None:
    groups = {
        "submit": installation.submits,
        "execute": installation.executes,
        "notify": installation.notifies,
        "ws": installation.sockets,
    }
    for name, servers in groups.items():
        for server in servers:
            assert server.get("/healthz").status == 200
            assert server.get("/readyz").status == 200, server.get("/readyz").body
            for path in ("/", f"{API}/languages"):
                assert server.get(path).status == (200 if path in SERVED[name] else 404)


def test_events_are_served_where_the_websocket_is(installation: Installation) -> None:
    for server, kind in (
        (installation.sockets[0], "unknown-submission"),
        (installation.submits[0], "not-found"),
        (installation.executes[0], "not-found"),
    ):
        answer = server.get(f"{API}/submissions/nobody/events")
        assert (answer.status, answer.json()["type"]) == (404, kind)


async def test_a_client_that_moves_to_another_ws_node_misses_nothing(
    installation: Installation,
) -> None:
    one, two = installation.sockets
    source = "import time\nfor n in range(20): print(n, flush=True); time.sleep(0.05)"
    async with connected(one) as client:
        id = await client.submit(source)
        seen = await client.until(id, "output")
    async with connected(two) as client:
        await client.ask("subscribe", id=id, after=seen[-1]["seq"])
        seen += await client.until(id, "finished")
    assert [frame["seq"] for frame in seen] == list(range(1, len(seen) + 1))
    printed = "".join(f["event"]["data"] for f in seen if f["event"]["name"] == "output")
    assert printed == "".join(f"{n}\n" for n in range(20))


def test_a_stream_goes_on_at_another_ws_node(installation: Installation) -> None:
    """Also when its node stops. Nothing is missed, and nothing comes twice."""
    one, two = installation.sockets
    id = installation.submits[0].submit(ECHO, interactive=True)
    seen: list[Told] = []

    def follow(node: Server, word: str) -> Stream:
        headers = {"last_event_id": str(seen[-1].id)} if seen else {}
        stream = stack.enter_context(followed(node, id, **headers))
        if word:
            type_in(two, id, f"{word}\n", eof=word == "end")
            seen.extend(stream.until_written(f"got {word}\n"))
        return stream

    with ExitStack() as stack:
        for word, node in (("a", one), ("b", two), ("c", one)):
            follow(node, word)
        with installation.another("stopping", "ws") as three:
            stream = follow(three, "d")
            three.signal(signal.SIGTERM)
            (said,) = stream.rest()
            assert said.frame["problem"]["type"] == "shutting-down"
        seen += follow(two, "end").rest()
    assert [each.id for each in seen] == list(range(1, len(seen) + 1))
    assert "".join(each.written for each in seen) == "".join(
        f"got {word}\n" for word in ("a", "b", "c", "d", "end")
    )
    assert seen[-1].name == "finished"


def printed(line: bytes) -> str:
    """What the program wrote, of a line of either form."""
    assert line, "the stream has ended"
    frame = line.removeprefix(b"data: ")
    event = json.loads(frame).get("event", {}) if frame.startswith(b"{") else {}
    return str(event["data"]) if event.get("name") == "output" else ""


@pytest.mark.parametrize("form", ["events", "stream=ndjson"])
def test_curl_follows_a_program_live_through_nginx(front: Server, form: str) -> None:
    """Each line is typed when the answer to the line before has come."""
    submission = {"language": "python", "source": ECHO, "interactive": True}
    at = f"http://127.0.0.1:{front.port}{API}/submissions"
    if form == "events":
        id = front.post(submission).json()["id"]
        arguments = [f"{at}/{id}/events"]
    else:
        arguments = [f"{at}?{form}", "-d", json.dumps(submission)]
    with subprocess.Popen(["curl", "-sN", *arguments], stdout=subprocess.PIPE) as curl:
        assert curl.stdout
        if form != "events":
            id = json.loads(curl.stdout.readline())["id"]
        for number in range(5):
            type_in(front, id, f"{number}\n", eof=number == 4)
            said = ""
            while f"got {number}\n" not in said:
                said += printed(curl.stdout.readline())
        assert b"finished" in curl.stdout.read()
    assert curl.returncode == 0


def test_curl_resumes_by_the_last_id_on_another_ws_node(installation: Installation) -> None:
    one, two = installation.sockets
    id = installation.submits[0].submit(ECHO, interactive=True)
    ids: list[int] = []
    written = ""
    for number, node in enumerate((one, two, one)):
        at = f"http://127.0.0.1:{node.port}{API}/submissions/{id}/events"
        resume = ["-H", f"Last-Event-ID: {ids[-1]}"] if ids else []
        with subprocess.Popen(["curl", "-sN", *resume, at], stdout=subprocess.PIPE) as curl:
            assert curl.stdout
            type_in(node, id, f"{number}\n")
            while f"got {number}\n" not in written:
                line = curl.stdout.readline()
                written += printed(line)
                if line.startswith(b"id: "):
                    ids.append(int(line[4:]))
            curl.kill()
    type_in(two, id, "", eof=True)
    assert ids == list(range(1, len(ids) + 1))
    assert written == "got 0\ngot 1\ngot 2\n"


@pytest.mark.alone
async def test_stdin_from_any_ws_node_reaches_the_program_soon(installation: Installation) -> None:
    one, two = installation.sockets
    async with connected(one) as client, connected(two) as other:
        id = await client.submit(ECHO, interactive=True)
        await client.until(id, "stage")
        await other.ask("subscribe", id=id, after=0)
        took = []
        for number in range(20):
            began = trio.current_time()
            await other.ask("stdin", id=id, data=f"{number}\n")
            await client.until_output(id, f"got {number}\n")
            took.append(trio.current_time() - began)
        await other.ask("stdin", id=id, data="", eof=True)
        assert (await client.until(id, "finished"))[-1]["event"]["result"]["verdict"] == "ok"
    assert sorted(took)[10] < 0.1  # 10 ms is promised, on a machine with nothing else to do


async def test_a_signal_from_any_ws_node_reaches_the_program(installation: Installation) -> None:
    one, two = installation.sockets
    source = "import signal\nprint('on', flush=True)\nsignal.pause()"
    async with connected(one) as client, connected(two) as other:
        id = await client.submit(source)
        await client.until_output(id, "on")
        assert (await other.ask("signal", id=id, signal="SIGINT"))["type"] == "done"
        assert "KeyboardInterrupt" in output(await client.until(id, "finished"), "stderr")


async def test_a_terminal_outlives_the_ws_node_of_its_client(installation: Installation) -> None:
    """Nothing that it showed is missed, and no key that was typed comes twice."""
    source = 'import os\nfor n in range(2): print(input("? "), *os.get_terminal_size())'
    asked: dict[str, Any] = {"tty": {"rows": 24, "cols": 80}, "limits": {"wall_time": 120}}
    with installation.another("dying", "ws") as three:
        async with connected(three) as client:
            id = await client.submit(source, **asked)
            seen: list[dict[str, Any]] = []
            while "a 80 24" not in output(seen, "tty"):
                seen.append(await client.next_event(id))
                if output(seen, "tty") == "? ":
                    await client.ask("stdin", id=id, data="a\n", offset=0)
            three.signal(signal.SIGTERM)
            with suppress(ConnectionClosed):
                while True:
                    seen.append(await client.receive())
    async with connected(installation.sockets[0]) as client:
        await client.ask("subscribe", id=id, after=seen[-1]["seq"])
        assert (await client.ask("resize", id=id, rows=50, cols=132))["type"] == "done"
        await client.ask("stdin", id=id, data="a\nb\n", offset=0)  # not sure whether all came
        seen += await client.until(id, "finished")
    assert [frame["seq"] for frame in seen] == list(range(1, len(seen) + 1))
    assert output(seen, "tty") == "? a\r\na 80 24\r\n? b\r\nb 132 50\r\n"


async def test_a_cancel_from_any_node_ends_the_program(installation: Installation) -> None:
    one, two = installation.sockets
    async with connected(one) as client, connected(two) as other:
        source = "import time; print('on', flush=True); time.sleep(100)"
        id = await client.submit(source, limits={"wall_time": 60})
        await client.until_output(id, "on")
        began = trio.current_time()
        assert (await other.ask("cancel", id=id))["type"] == "done"
        result = (await client.until(id, "finished"))[-1]["event"]["result"]
    assert trio.current_time() - began < 30  # a tenth of a second on a quiet machine
    seen = await trio.to_thread.run_sync(installation.submits[0].look, id)
    assert (seen["verdict"], seen["run"]["stdout"]) == ("cancelled", "on\n")
    assert result == without_output(seen)


async def test_a_websocket_through_nginx_follows_and_types(front: Server) -> None:
    """A browser's, which says where its page is from."""
    origin = f"http://127.0.0.1:{front.port}"
    hello = {"language": "python", "source": HELLO}
    assert front.post(hello, origin=origin).status == 202
    assert front.post(hello, origin="http://evil.example").status == 403
    assert front.get(f"{API}/limits", host="evil.example").status == 421
    async with connected(front, Origin=origin) as client:
        id = await client.submit(ECHO, interactive=True)
        await client.ask("stdin", id=id, data="a\n", eof=True)
        assert "got a\n" in await client.until_output(id, "got a\n")


def test_a_promised_language_is_taken_while_no_execute_node_is_up(
    meeting: dict[str, Any], tmp_path: Path
) -> None:
    settings = meeting | {"redis__prefix": f"{meeting['redis__prefix']}-alone"}
    url = shared_rabbitmq().add_vhost()
    settings["rabbitmq__url"] = url
    with serving(tmp_path / "submit", roles="submit", **settings) as submit:
        id = submit.submit(HELLO)
        assert submit.post({"language": "c", "source": "int main;"}).status == 422
        names = [each["id"] for each in submit.get(f"{API}/languages").json()["languages"]]
        assert names == ["python"]
        with (
            serving(tmp_path / "execute", roles="execute", **settings),
            serving(tmp_path / "notify", roles="notify", **settings),
        ):
            assert submit.result(id)["verdict"] == "ok"
    shared_rabbitmq().delete_vhost(url)


def lanes_in_use(url: str) -> list[str]:
    connection = pika.BlockingConnection(pika.URLParameters(url))
    channel = connection.channel()
    lanes = Topology(RabbitmqConfig(url=SecretStr(url)), 1).lanes("submission_queue")
    waiting = {
        lane: channel.queue_declare(lane, passive=True).method.message_count for lane in lanes
    }
    connection.close()
    return [lane for lane, count in waiting.items() if count]


async def bury(settings: dict[str, Any]) -> None:
    """Take the next submission and give it up."""
    rabbitmq = RabbitmqConfig(url=SecretStr(settings["rabbitmq__url"]))
    async with (
        open_broker(Config(rabbitmq=rabbitmq), None) as broker,
        broker.consume("submission_queue", 1) as deliveries,
    ):
        with trio.fail_after(PATIENCE_S):
            await (await deliveries.receive()).reject("it was too hard for the test")


def test_a_dead_letter_is_listed_and_run_again_as_a_new_submission(
    meeting: dict[str, Any], tmp_path: Path
) -> None:
    url = shared_rabbitmq().add_vhost()
    settings = meeting | {"redis__prefix": f"dead-{os.getpid()}", "rabbitmq__url": url}

    def queues(*args: str) -> str:
        environment = {f"OCCD_{name.upper()}": value for name, value in settings.items()}
        command = [OCCD, "--data-dir", str(tmp_path / "none"), "queues", *args]
        return subprocess.run(
            command, env=os.environ | environment, check=True, capture_output=True, text=True
        ).stdout

    with (
        serving(tmp_path / "submit", roles="submit", **settings) as submit,
        serving(tmp_path / "notify", roles="notify", **settings),
    ):
        body = {"language": "python", "source": HELLO, "user_id": "somebody"}
        id = submit.post(body, authorization="Bearer nobody-else-knows-this-one").json()["id"]
        turn = lanes_in_use(url)
        trio.run(bury, settings)
        result = submit.result(id)
        assert (result["verdict"], result["attempts"]) == ("internal_error", 0)
        listed = queues()
        assert id in listed
        assert "too hard for the test" in listed
        again = queues("requeue", id).strip()
        assert lanes_in_use(url) == turn == ["submission_queue.4"]
        assert id not in queues()
        with serving(tmp_path / "execute", roles="execute", **settings):
            retried = submit.result(again)
        assert (retried["verdict"], retried["retry_of"]) == ("ok", id)
        assert submit.look(id)["verdict"] == "internal_error"
    shared_rabbitmq().delete_vhost(url)


def test_an_execute_node_that_lacks_a_promised_language_takes_nothing(
    meeting: dict[str, Any], tmp_path: Path
) -> None:
    for name in ("upper", "work"):
        (tmp_path / name).mkdir()
    layers = f"lowerdir=/usr,upperdir={tmp_path}/upper,workdir={tmp_path}/work"
    hidden = f"mount -t overlay -o {layers} none /usr && rm /usr/bin/lua*"
    without_lua = tmp_path / "occd"
    without_lua.write_text(
        f'#!/bin/sh\nexec unshare --mount sh -c \'{hidden} && exec "$@"\' - {OCCD} "$@"\n'
    )
    without_lua.chmod(0o755)
    url = shared_rabbitmq().add_vhost()
    settings = {"languages": '["python", "lua"]', "redis__prefix": "lacking", "rabbitmq__url": url}
    with (
        serving(tmp_path / "submit", roles="submit", **meeting | settings) as submit,
        serving(
            tmp_path / "x", roles="execute", program=without_lua, **meeting | settings
        ) as execute,
    ):
        answer = execute.get("/readyz")
        assert answer.status == 503
        assert "occd languages install lua" in answer.json()["detail"]
        assert execute.get("/healthz").status == 200
        id = submit.submit(HELLO)
        time.sleep(1)  # for what must not happen
        assert submit.look(id)["status"] == "queued"
    shared_rabbitmq().delete_vhost(url)


def test_a_promise_of_no_language_is_refused(meeting: dict[str, Any], tmp_path: Path) -> None:
    server = start(tmp_path / "execute", roles="execute", **meeting | {"languages": '["klingon"]'})
    assert server.process.wait(PATIENCE_S) == 125
    assert "languages: klingon" in server.log.read_text()


@pytest.mark.parametrize("role", ["submit", "execute", "notify", "ws"])
def test_a_role_that_is_told_to_stop_ends_well(
    installation: Installation, role: str, tmp_path: Path
) -> None:
    with installation.another(f"more-{role}", role) as server:
        assert server.stop() == 0
