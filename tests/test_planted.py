"""Real daemons with accounts, on good and on bad ways: no secret is in the log, an error or a page."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import pika
import pytest
import redis
import trio
from people import Browser, agree, parameters
from people import accounts as with_people
from planted import Planted, talkative
from processes import descendants
from provider import Provider, providing
from rabbitmq_server import RabbitmqServer
from redis_server import RedisServer, free_port, redis_server
from serving import API, OCCD, PATIENCE_S, Answer, Server, connected, start, wait_open
from streams import SSE, followed
from test_cli import occd
from test_metrics import text_of as metrics_of

FAILS = """# {source}
import os, sys
open('left.txt', 'w').write(sys.stdin.read() + os.environ['WORD'] + sys.argv[1])
print('{output}'[::-1])
raise RuntimeError('{output}'[::-1])
"""
WAITS = (
    "# {source}\nprint('{output}'[::-1], flush=True)\nprint(input()); import time; time.sleep(300)"
)
OWN = ("source", "stdin", "argument", "environment", "output", "file", "typed", "expected")
"""What the owner of a submission may be told."""


@dataclass
class Installation:
    """`submit` and the others may be one process."""

    planted: Planted
    submit: Server
    ws: Server
    execute: Server
    servers: Sequence[Server]
    environment: dict[str, str]
    rabbitmq: RabbitmqServer | None = None
    redis: RedisServer | None = None
    submission: dict[str, Any] = field(default_factory=dict)

    def ask(
        self,
        what: str,
        method: str,
        path: str,
        body: object = b"",
        meant: Collection[str] = (),
        **headers: str,
    ) -> Answer:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.planted.answer(what, self.submit.request(method, path, data, **headers), meant)

    def commands(self, *names: str) -> None:
        """What an operator sees."""
        for command in map(str.split, names):
            done = occd(
                *command,
                f"--data-dir={self.submit.data_dir}",
                cwd=self.submit.data_dir.parent,
                environment=self.environment,
            )
            self.planted.note(f"occd {command[0]}", done.stdout + done.stderr)


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    with providing() as running:
        running.person("ada", name="Ada", groups=["staff"])
        yield running


def accounts(planted: Planted, provider: Provider, folder: Path) -> dict[str, Any]:
    folder.mkdir(exist_ok=True)
    found = with_people(provider, folder, {"class": "visitor"})
    (folder / "client-secret").write_text(planted.plant("client secret"))
    planted.found("key", f"occd_{planted.plant('the end of the key')}")
    digest = sha256(planted.words["key"].encode()).hexdigest()
    few = {"id": "few", "owner": "few", "class": "few"}
    boss = {"id": "boss", "owner": "boss", "class": "service", "scopes": ["admin"]}
    planted.found("admin", f"occd_{planted.plant('the end of the admin')}")
    planted.found("few", f"occd_{planted.plant('the end of few')}")
    keys = [
        {"id": "it", "owner": "it", "class": "service", "sha256": digest},
        few | {"sha256": sha256(planted.words["few"].encode()).hexdigest()},
        boss | {"sha256": sha256(planted.words["admin"].encode()).hexdigest()},
    ]
    return found | {"keys": keys, "classes": found["classes"] | {"few": {"runs_per_minute": 1}}}


@contextmanager
def started(
    stack: ExitStack, folder: Path, program: Path | str, **settings: Any
) -> Iterator[Server]:
    listen = f"--listen=127.0.0.1:{settings.pop('port', '0')}"
    server = start(folder, listen, program=program, grace_s="0.5", **settings)
    try:
        yield server
    finally:
        server.process.kill()
        server.process.wait()


@pytest.fixture(
    params=[
        ("embedded", "as it is"),
        ("apart", "all levels"),
        pytest.param(("embedded", "all levels"), marks=pytest.mark.long),
        pytest.param(("apart", "as it is"), marks=pytest.mark.long),
    ],
    ids="-".join,
)
def installation(
    request: pytest.FixtureRequest, provider: Provider, tmp_path: Path
) -> Iterator[Installation]:
    provider.tell()
    form, levels = request.param
    program = OCCD if levels == "as it is" else talkative(tmp_path, sys.executable)
    planted, port = Planted(), free_port()
    common: dict[str, str] = {
        "accounts": json.dumps(accounts(planted, provider, tmp_path / "secrets")),
        "http__public_url": f"http://127.0.0.1:{port}",
        "languages": '["python"]',
        "metrics__listen": "127.0.0.1:0",
    }
    with ExitStack() as stack:

        def run(name: str, **more: str) -> Server:
            made = started(stack, tmp_path / name, program, roles=name, **common, **more)
            return stack.enter_context(made)

        rabbitmq, there = None, None
        if form == "apart":
            rabbitmq = stack.enter_context(queues(planted, tmp_path / "rabbitmq"))
            there = stack.enter_context(redis_server(f"requirepass {planted.plant('redis')}"))
            common["rabbitmq__url"] = rabbitmq.url
            common["redis__url"] = with_password(there, planted)
            servers = [run("submit", port=str(port)), run("execute"), run("notify"), run("ws")]
        else:
            servers = [run("all", port=str(port))]
        for server in servers:
            wait_open(server)
        by_role = servers if form == "apart" else servers * 4
        environment = {f"OCCD_{name.upper()}": value for name, value in common.items()}
        yield Installation(
            planted, by_role[0], by_role[3], by_role[1], servers, environment, rabbitmq, there
        )


@contextmanager
def queues(planted: Planted, folder: Path) -> Iterator[RabbitmqServer]:
    class Other(RabbitmqServer):
        password = planted.plant("rabbitmq")

    server = Other(folder)
    try:
        server.start()
        yield server
    finally:
        server.close()


def with_password(there: RedisServer, planted: Planted) -> str:
    return there.url.replace("://", f"://:{planted.words['redis']}@")


def test_a_planted_secret_is_in_no_log_no_error_and_no_page(
    installation: Installation, provider: Provider
) -> None:
    it, planted = installation, installation.planted
    source, output = planted.plant("source"), planted.plant("output")[::-1]
    it.submission = {
        "language": "python",
        "source": FAILS.format(source=source, output=output),
        "stdin": planted.plant("stdin"),
        "args": [planted.plant("argument")],
        "env": {"WORD": planted.plant("environment")},
        "files": [{"name": "more.txt", "content": planted.plant("file")}],
        "artifacts": ["left.txt"],
    }
    planted.plant("typed")
    planted.plant("expected")
    run_and_fail(it)
    be_refused(it)
    sign_in(it, provider)
    trio.run(talk, it)
    crash_the_jail(it)
    damage(it)
    it.commands("queues", "nodes", "keys list", "check-config")
    if it.redis and it.rabbitmq:
        lose_the_servers(it, it.redis, it.rabbitmq)
    for server in it.servers:
        planted.note("metrics", metrics_of(server).encode())
    stop_while_it_runs(it)
    planted.logs(*it.servers)
    assert planted.leaks == []
    assert {"output", "stdin", "argument", "environment", "typed", "created key"} <= planted.seen
    assert all(server.process.returncode == 0 for server in it.servers)
    assert len(planted.told) > 80


STARTS = """\
import json, os, sys, tempfile
import occd.app, occd.cli
from occd.broker import amqp, rabbitmq
from occd.state import redis

amqp.START_S = rabbitmq.START_S = redis._START_S = 1.0  # who is not there is not waited for
told = []
for environment, config in json.load(sys.stdin):
    with tempfile.TemporaryFile() as said, open("config/it.yaml", "w") as file:
        file.write(config)
        file.flush()
        if (child := os.fork()) == 0:
            for stream in (1, 2):
                os.dup2(said.fileno(), stream)
            os.environ.update(environment)
            sys.argv = ["occd", "--roles=all", "--data-dir=data", "--listen=127.0.0.1:0"]
            occd.cli.main()
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        said.seek(0)
        told.append((code, said.read().decode()))
print(json.dumps(told))
"""
"""Starts of daemons, each a process of its own. What all of them import is imported once."""

WRONG_URLS = (
    "{scheme}://user:{word}@127.0.0.1:{port}/0",
    "{scheme}://user:{word}@127.0.0.1:port/0",
    "{scheme}://user:{word}@127.0.0.1:99999/0",
    "{scheme}://user:{word}@[::1/0",
    "{scheme}://user:{word}/with@[127.0.0.1/0?{word}=1",
    "{scheme}://user:{word}%zz@/x/y?heartbeat={word}",
    "{scheme}x://user:{word}@127.0.0.1:{port}/0",
    "user:{word}@127.0.0.1",
)


@pytest.mark.parametrize("server", ["redis", "rabbitmq"])
def test_a_password_is_in_no_word_of_a_start_that_fails(server: str, tmp_path: Path) -> None:
    planted, scheme = Planted(), {"redis": "redis", "rabbitmq": "amqp"}[server]
    word = planted.plant("password")
    urls = [url.format(scheme=scheme, word=word, port=free_port()) for url in WRONG_URLS]
    texts = (
        f"{server}: {{url: {word}, colour: {word}}}",
        f"{server}: [{{url: {word}]",
        f"{server}: {{url: {word}}}\n  {word}",
        f"{server}:\n\turl: {word}",
        f"{server}: {word}",
        f"{server}: {{url: [{word}]}}",
        f"accounts: {{anonymous: {word}, keys: [{{id: a, secret: {word}, sha256: {word}}}]}}",
        f"accounts: {{anonymous: refuse, oidc: {{issuer: https://x, client_secret: {word}}}}}",
    )
    good = "languages: [python]"
    cases = [({f"OCCD_{server.upper()}__URL": url}, good) for url in urls]
    cases += [({}, text) for text in texts]
    (tmp_path / "config").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", STARTS],
        input=json.dumps(cases).encode(),
        capture_output=True,
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if name[:5] != "OCCD_"},
        check=True,
    )
    told = json.loads(done.stdout)
    for case, (code, said) in zip(cases, told, strict=True):
        assert code != 0, case
        assert any(each in said.lower() for each in (server, "accounts", "yaml")), (case, said)
        planted.note(repr(case), said.encode())
    assert planted.leaks == []


def bearer(it: Installation, name: str = "key") -> dict[str, str]:
    return {"authorization": f"Bearer {it.planted.words[name]}"}


def accepted(it: Installation, body: dict[str, Any]) -> str:
    """The id. While nothing can be run, it is asked again."""
    deadline = time.monotonic() + PATIENCE_S
    while (
        answer := it.ask("accepted", "POST", f"{API}/submissions", body, OWN, **bearer(it))
    ).status != 202:
        assert answer.status == 503, answer.body
        assert time.monotonic() < deadline, answer.body
        time.sleep(0.2)
    return str(answer.json()["id"])


def run_and_fail(it: Installation) -> None:
    key, path = bearer(it), f"{API}/submissions"
    made = it.ask("accepted", "POST", path, it.submission, OWN, **key, idempotency_key="one")
    id = made.json()["id"]
    seen = it.ask("a result", "GET", f"{path}/{id}?wait=60&transcript=true", meant=OWN, **key)
    assert seen.json()["verdict"] == "runtime_error"
    assert it.planted.words["output"] in seen.body.decode()
    it.ask("a file", "GET", f"{path}/{id}/artifacts/left.txt", meant=OWN, **key)
    judged = it.submission | {
        "tests": [{"stdin": "1", "expected_stdout": it.planted.words["expected"]}]
    }
    del judged["artifacts"]
    it.ask("tests", "POST", f"{path}?wait=60", judged, OWN, **key)
    it.ask("another's", "GET", f"{path}/{id}")
    it.ask("a list", "GET", path, **key)
    it.ask(
        "the same key, another body",
        "POST",
        path,
        {**it.submission, "stdin": ""},
        **key,
        idempotency_key="one",
    )
    it.ask(
        "a batch",
        "POST",
        f"{path}/batch",
        {"submissions": [it.submission, {"language": "x", **it.submission}]},
        **key,
    )
    created = it.ask(
        "a new key",
        "POST",
        f"{API}/keys",
        {"owner": "new", "class": "service"},
        {"created key"},
        **bearer(it, "admin"),
    )
    it.planted.found("created key", created.json()["key"])
    it.ask("who am I", "GET", f"{API}/me", **bearer(it, "created key"))
    it.ask("the keys", "GET", f"{API}/keys", **bearer(it, "admin"))
    it.ask("revoked", "DELETE", f"{API}/keys/{created.json()['id']}", **bearer(it, "admin"))


def be_refused(it: Installation) -> None:
    """A secret lies where it does not belong, or goes with a request that is wrong elsewhere."""
    path, key, words = f"{API}/submissions", bearer(it), it.planted.words
    created = words["created key"]
    assert it.ask("a revoked key", "GET", path, **bearer(it, "created key")).status in (200, 401)
    it.ask("an altered key", "GET", path, authorization=f"Bearer {created[:-1]}")
    for secret in (words["key"], created):
        it.ask(
            "a key as Basic",
            "GET",
            path,
            authorization=f"Basic {b64encode(secret.encode()).decode()}",
        )
        it.ask("two words", "GET", path, authorization=f"Bearer {secret} {secret}")
        it.ask("no scheme", "GET", path, authorization=secret)
        it.ask("a key in the address", "GET", f"{path}?key={secret}")
        it.ask("a key in the path", "GET", f"{path}/{secret}", **key)
        it.ask("a key as a file's name", "GET", f"/static/{secret}")
        it.ask("a key as a host", "GET", path, host=f"{secret}.example.org")
        it.ask("a key as an origin", "POST", path, it.submission, **key, origin=f"https://{secret}")
        it.ask(
            "a key as idempotency key",
            "POST",
            path,
            it.submission,
            OWN,
            **key,
            idempotency_key=f"é{secret}".encode().decode("latin1"),
        )
    text = json.dumps(it.submission).encode()
    for what, body in {
        "half a body": text[:-1],
        "no JSON": text.replace(b":", b";"),
        "not UTF-8": text + b"\xff",
        "twice": text + text,
        "a list": b"[" + text + b"]",
    }.items():
        assert it.ask(what, "POST", path, body, **key).status in (400, 422)
    every = " ".join(words[name] for name in OWN if name in words)
    for name, wrong in {
        "source": [every],
        "files": [
            {"name": f"../{every}", "content": every},
            {"name": "a", "content": every, every: 1},
        ],
        "stdin": {every: every},
        "args": [every, 3],
        "env": {"=": every, "WORD": [every]},
        "limits": {"cpu_time": every},
        "tests": [{"stdin": every, "expected_stdout": [every]}],
        "interactive": every,
        "version": every,
        "language": every,
    }.items():
        answer = it.ask(f"a wrong {name}", "POST", path, it.submission | {name: wrong}, **key)
        assert answer.status in (400, 413, 422), answer.body
    for _ in range(3):
        refused = it.ask("a quota", "POST", path, it.submission, OWN, **bearer(it, "few"))
    assert refused.status == 429
    it.ask("a page", "GET", "/", **key)
    it.ask("ready", "GET", "/readyz", **key)


def sign_in(it: Installation, provider: Provider) -> None:
    browser, planted = Browser(it.submit), it.planted
    asked = browser.set_off()
    planted.found("nonce", parameters(asked)["nonce"])
    planted.found("login", browser.cookies["occd_login"])
    planted.answer(
        "a forged state", browser.get(f"/sign-in/callback?state=x&code={planted.plant('code')}")
    )
    came = parameters(agree(asked, "ada"))
    planted.found("state", came["state"])
    planted.found("a good code", came["code"])
    forged = Browser(it.submit)
    planted.answer(
        "another browser",
        forged.get(f"/sign-in/callback?state={came['state']}&code={came['code']}"),
    )
    browser.sign_in("ada")
    cookie = browser.cookies["occd_session"]
    planted.found("cookie", cookie)
    planted.answer("the page", browser.get("/"))
    planted.answer("who am I", browser.get(f"{API}/me"))
    planted.answer("foreign", browser.submit(Origin="https://evil.example"))
    planted.answer("a cookie in the address", browser.get(f"{API}/me?session={cookie}"))
    planted.answer("accepted", browser.submit())
    for body in ("no json", json.dumps({"error": "invalid_grant", "error_description": cookie})):
        provider.tell(answer={"/oauth2/token": {"body": body, "status": 400}})
        address = agree(browser.set_off(), "ada")
        planted.answer("no token", browser.come_back(address))
    provider.tell(token={"forged": True})
    planted.answer("a forged token", browser.come_back(agree(browser.set_off(), "ada")))
    provider.tell()
    for one in provider.asked():
        for name in ("code_verifier", "code"):
            if len(one.get(name, "")) >= 20:
                planted.found(f"{name} {len(planted.words)}", one[name])
    planted.answer("signed out", browser.request("POST", f"{API}/sign-out"))
    planted.answer("after", browser.submit(Cookie=f"occd_session={cookie}"))


async def talk(it: Installation) -> None:
    """Over the WebSocket."""
    words, planted = it.planted.words, it.planted

    def note(what: str, told: object, meant: Collection[str] = ()) -> None:
        planted.note(what, json.dumps(told).encode(), meant)

    async with connected(it.ws) as client:
        note("a wrong hello", await client.ask("hello", bearer=words["created key"] + "x"))
    async with connected(it.ws) as client:
        await client.ask("hello", bearer=words["key"])
        source = WAITS.format(source=words["source"], output=words["output"][::-1])
        if it.ws is it.submit:
            id = await client.submit(source, interactive=True)
        else:
            answer = await trio.to_thread.run_sync(
                lambda: it.submit.post(
                    {"language": "python", "source": source, "interactive": True}, **bearer(it)
                )
            )
            id = str(answer.json()["id"])
        note("subscribed", await client.ask("subscribe", id=id))
        await client.until_output(id, words["output"])
        note("typed", await client.ask("stdin", id=id, data=words["typed"] + "\n"))
        # What was written before the subscription comes again with it.
        note("its echo", await client.until_output(id, words["typed"]), {"typed", "output"})
        note("a gap", await client.ask("stdin", id=id, data=words["typed"], offset=10**6))
        for kind in ("stdin", "signal", "resize", "subscribe", "submit"):
            wrong = {name: [words["typed"]] for name in ("data", "signal", "rows", "after")}
            note(f"a wrong {kind}", await client.ask(kind, id=id, **wrong))
        note("a signal", await client.ask("signal", id=id, signal=words["typed"]))
        note("cancelled", await client.ask("cancel", id=id))
        for frame in ({"type": words["typed"]}, '{"type": "' + words["typed"]):
            text = frame if isinstance(frame, str) else json.dumps(frame)
            await client.socket.send_message(text)
            while (told := await client.receive())["type"] == "event":
                pass
            note("no frame", told)


def crash_the_jail(it: Installation) -> None:
    """While the program runs, what holds it is killed."""
    key = bearer(it)
    asks = {"source": "import time; time.sleep(300)  # " + it.planted.words["source"]}
    id = accepted(it, it.submission | asks | {"artifacts": [], "limits": {"wall_time": 120}})
    path, deadline = f"{API}/submissions/{id}", time.monotonic() + PATIENCE_S
    while it.submit.get(path, **key).json()["status"] == "queued":
        assert time.monotonic() < deadline
        time.sleep(0.02)
    while "attempt failed" not in it.execute.log.read_text():
        assert time.monotonic() < deadline
        for process in descendants(it.execute.process.pid):
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
        time.sleep(0.2)
    it.ask("cancelled", "DELETE", path, meant=OWN, **key)
    seen = it.ask("after a crash", "GET", f"{path}?wait=60", meant=OWN, **key)
    assert seen.json()["status"] == "finished"


def damage(it: Installation) -> None:
    """Somebody writes over what is stored, and into the queues."""
    key, words = bearer(it), it.planted.words
    id = accepted(it, it.submission)
    it.submit.get(f"{API}/submissions/{id}?wait=60", **key)
    rubbish = json.dumps(
        {"v": 2, "result": {"verdict": words["output"], "run": words["stdin"]}, words["source"]: 1}
    )
    if it.redis and it.rabbitmq:
        with redis.Redis.from_url(it.environment["OCCD_REDIS__URL"]) as client:
            client.hset(f"occd2:{{{id}}}", "body", rubbish)
            client.lset(f"occd2:{{{id}}}:e", -1, rubbish)
        with closing(pika.BlockingConnection(pika.URLParameters(it.rabbitmq.url))) as connection:
            channel = connection.channel()
            for queue in ("submission_queue.0", "submission_queue", "execution_queue"):
                channel.basic_publish("", queue, rubbish.encode())
    else:
        with closing(sqlite3.connect(it.submit.data_dir / "occd.db", timeout=10)) as db, db:
            db.execute(
                "UPDATE submissions SET result = ?, body = ? WHERE id = ?",
                [rubbish.encode(), rubbish.encode(), id],
            )
    damaged = it.ask("damaged", "GET", f"{API}/submissions/{id}", **key)
    assert damaged.status == 500, damaged.body
    it.ask("damaged", "POST", f"{API}/submissions/{id}/rerun", **key)


def lose_the_servers(it: Installation, there: RedisServer, rabbitmq: RabbitmqServer) -> None:
    key, path = bearer(it), f"{API}/submissions"
    for lose, mend, name in (
        (there.kill, there.start, "Redis"),
        (rabbitmq.kill, rabbitmq.start, "RabbitMQ"),
    ):
        lose()
        refused = it.ask(f"no {name}", "POST", path, it.submission, **key)
        assert refused.status == 503, refused.body
        assert it.ask(f"not ready without {name}", "GET", "/readyz").status == 503
        it.ask("a created key", "GET", path, **bearer(it, "created key"))
        it.commands("queues")
        mend()
        accepted(it, it.submission)


def stop_while_it_runs(it: Installation) -> None:
    source = WAITS.format(
        source=it.planted.words["source"], output=it.planted.words["output"][::-1]
    )
    body = {"language": "python", "source": source, "interactive": True, "detached": True}
    id = accepted(it, body)
    with followed(it.ws, id, accept=SSE, **bearer(it)) as stream:
        stream.until_written(it.planted.words["output"])
        for server in it.servers:
            server.signal(signal.SIGTERM)
        rest = list(stream)
    it.planted.note("the end of a stream", repr(rest).encode(), OWN)
    for server in it.servers:
        server.stop()
