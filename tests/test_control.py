"""Administration from the command line: beside a running daemon, over its control socket, and without one."""

import http.client
import json
import os
import pwd
import re
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
from redis_server import redis_server
from serving import API, PATIENCE_S, Server, serving, start, wait_open
from test_cli import Done, assert_refused, keep_dead_letters, occd

from occd.administration import list_keys
from occd.config import Config
from occd.errors import OccdError
from occd.key import SECRET
from occd.model import File, Submission, new_id

ACCOUNTS = json.dumps(
    {
        "anonymous": {"class": "visitor"},
        "default_class": "visitor",
        "classes": {"visitor": {}, "service": {}},
    }
)
ENVIRONMENT = {"OCCD_ACCOUNTS": ACCOUNTS}

SLEEPS = "import time; time.sleep(600)"
LONG = {"limits": {"wall_time": 300}}
"""Commands take longer on a busy machine than the usual 10 s."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("control")
    with serving(folder / "data", execute__slots="1", accounts=ACCOUNTS) as server:
        yield server


def command(folder: Path, *args: str, **more: str) -> Done:
    return occd("--data-dir=data", *args, cwd=folder, environment=ENVIRONMENT | more)


def created(folder: Path, *args: str, **more: str) -> tuple[str, str]:
    """The secret of a new key, and its id."""
    done = command(folder, "keys", "create", "--owner=moodle", "--class=service", *args, **more)
    assert done.returncode == 0, done.stderr
    secret, said = done.stdout.decode(), done.stderr.decode()
    assert re.fullmatch(rf"{SECRET.pattern}\n", secret)
    assert "once" in said
    assert secret.strip() not in said
    found = re.search(r"the key ([0-9a-f]{12}) of moodle", said)
    assert found
    return secret.strip(), found[1]


def listed(folder: Path, **more: str) -> dict[str, list[str]]:
    """By id: the columns."""
    done = command(folder, "keys", "list", **more)
    assert done.returncode == 0, done.stderr
    head, *rows = (re.split(r"  +", row) for row in done.stdout.decode().splitlines())
    times = ["created (UTC)", "used (UTC)", "expires (UTC)"]
    assert head == ["id", "owner", "class", "scopes", *times, "from"]
    return {row[0]: row for row in rows}


def status(server: Server, secret: str) -> int:
    return server.get(f"{API}/submissions", authorization=f"Bearer {secret}").status


def ask(server: Server, method: str, path: str) -> tuple[int, Any]:
    """A call at the control socket, as any client would make it."""
    connection = http.client.HTTPConnection("localhost")
    with socket.socket(socket.AF_UNIX) as connection.sock:
        connection.sock.settimeout(PATIENCE_S)
        connection.sock.connect(str(server.data_dir / "control.sock"))
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())


# occd keys


def test_the_first_key_is_made_without_a_daemon(folder: Path) -> None:
    secret, id = created(folder, "--expires=90d", "--scope=run,read,admin")
    assert secret not in command(folder, "keys", "list").stdout.decode()
    row = listed(folder)[id]
    assert (row[1:4], row[5], row[7]) == (
        ["moodle", "service", "run,read,admin"],
        "never",
        "created",
    )
    assert row[6] != "never"
    with serving(folder / "data", accounts=ACCOUNTS) as server:
        assert status(server, secret) == 200
        assert listed(folder)[id][5] != "never"


def test_the_life_of_a_key_beside_a_daemon(server: Server) -> None:
    folder = server.data_dir.parent
    secret, id = created(folder)
    assert status(server, secret) == 200
    done = command(folder, "keys", "rotate", id, "--keep=1h")
    new = done.stdout.decode().strip()
    assert SECRET.fullmatch(new)
    assert status(server, new) == status(server, secret) == 200
    done = command(folder, "keys", "revoke", id)
    assert (done.returncode, done.stdout) == (0, b"")
    assert b"revoked" in done.stderr
    assert (status(server, secret), status(server, new)) == (401, 200)
    assert id not in listed(folder)
    for words in (["revoke", id], ["rotate", id]):
        assert_refused(command(folder, "keys", *words), id, "occd keys list")
    done = command(folder, "keys", "revoke", new)
    assert_refused(done, "its id")
    assert new not in done.stderr.decode() + server.log.read_text()


def test_revoking_cancels_where_no_other_key_of_the_owner_holds(server: Server) -> None:
    folder = server.data_dir.parent
    for key in listed(folder):
        command(folder, "keys", "revoke", key)
    (secret, first), (_, second) = created(folder), created(folder)
    sent = json.dumps({"language": "python", "source": SLEEPS} | LONG).encode()
    id = server.post(sent, authorization=f"Bearer {secret}").json()["id"]
    said = command(folder, "keys", "revoke", first, "--cancel").stderr.decode()
    assert "cancelled nothing" in said
    assert second in said
    assert "cancelled 1" in command(folder, "keys", "revoke", second, "--cancel").stderr.decode()
    secret, _ = created(folder)
    path = f"{API}/submissions/{id}?wait={PATIENCE_S}"
    assert server.get(path, authorization=f"Bearer {secret}").json()["verdict"] == "cancelled"


@pytest.mark.parametrize(
    ("args", "word"),
    [
        (["--owner=a b", "--class=service"], "owner"),
        (["--owner=a", "--class=unknown"], "visitor, service"),
        (["--owner=a", "--class=service", "--scope=root"], "scopes"),
        (["--owner=a", "--class=service", "--expires=3"], "90d"),
        (["--owner=a", "--class=service", "--expires=0s"], "expires_s"),
    ],
)
@pytest.mark.parametrize("beside", [False, True])
def test_a_wrong_key_is_refused_in_a_line(
    folder: Path, server: Server, args: list[str], word: str, beside: bool
) -> None:
    done = command(server.data_dir.parent if beside else folder, "keys", "create", *args)
    assert done.stdout == b""
    said = done.stderr.decode()
    assert done.returncode != 0
    assert word in said
    assert "Traceback" not in said


def test_without_accounts_no_key_is_made(folder: Path) -> None:
    done = occd("keys", "create", "--owner=a", "--class=b", cwd=folder)
    assert_refused(done, "no accounts")


def test_a_look_at_keys_makes_no_data_folder(folder: Path) -> None:
    assert_refused(command(folder, "keys", "list"), "no data folder data")
    assert os.listdir(folder) == []


def test_the_first_key_names_the_folder_that_it_made(folder: Path) -> None:
    for new in (True, False):
        done = command(folder, "keys", "create", "--owner=moodle", "--class=service")
        assert (b"the data folder data is new" in done.stderr) == new


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files of others")
def test_root_does_not_make_the_first_file_of_anothers_folder(folder: Path) -> None:
    (folder / "data").mkdir()
    os.chown(folder / "data", 65534, 65534)
    done = command(folder, "keys", "create", "--owner=moodle", "--class=service")
    assert_refused(done, f"sudo -u {pwd.getpwuid(65534).pw_name}")
    assert os.listdir(folder / "data") == []


def test_a_daemon_without_accounts_tells_of_keys_that_are_there(folder: Path) -> None:
    with serving(folder / "data", accounts=ACCOUNTS) as server:
        created(folder)
        assert "keys and no accounts" not in server.log.read_text()
    with serving(folder / "data") as server:
        while "there are keys and no accounts" not in server.log.read_text():
            time.sleep(0.02)


def test_with_redis_keys_are_made_in_redis(folder: Path) -> None:
    with (
        redis_server() as redis,
        serving(folder / "data", redis__url=redis.url, accounts=ACCOUNTS) as server,
    ):
        secret, id = created(folder, OCCD_REDIS__URL=redis.url)
        assert status(server, secret) == 200
        command(folder, "keys", "revoke", id, OCCD_REDIS__URL=redis.url)
        deadline = time.monotonic() + PATIENCE_S
        while status(server, secret) != 401:
            assert time.monotonic() < deadline, "the key still holds"
            time.sleep(0.1)


# occd cancel, occd queues requeue


def test_cancel_reaches_a_submission_of_anybody(server: Server) -> None:
    folder = server.data_dir.parent
    id = server.submit(SLEEPS, **LONG)
    assert command(folder, "cancel", id).returncode == 0
    assert server.result(id)["verdict"] == "cancelled"
    done = command(folder, "cancel", id)
    assert (done.returncode, b"had finished" in done.stderr) == (0, True)
    for strange in ("unknown", "../keys", "a b", "é"):
        assert_refused(command(folder, "cancel", strange), strange)


def test_cancel_works_without_a_daemon(folder: Path) -> None:
    server = start(folder / "data", execute__slots="1", accounts=ACCOUNTS)
    wait_open(server)
    server.submit(SLEEPS)
    id = server.submit("print(1)")
    server.process.kill()
    server.process.wait()
    done = command(folder, "cancel", id)
    assert done.returncode == 0, done.stderr
    with serving(folder / "data", accounts=ACCOUNTS) as server:
        assert server.result(id)["verdict"] == "cancelled"


def test_no_new_id_looks_like_an_option_of_a_command() -> None:
    assert not [id for id in (new_id() for _ in range(2000)) if id.startswith("-")]


def test_a_dead_letter_runs_again_beside_a_daemon(folder: Path) -> None:
    submission = Submission("old", "bash", None, "main.sh", (File("main.sh", b"echo hi"),))
    trio.run(keep_dead_letters, folder / "data", submission)
    with serving(folder / "data") as server:
        requeue = ("--data-dir=data", "queues", "requeue")
        new = occd(*requeue, "old", cwd=folder).stdout.decode().strip()
        result = server.result(new)
        assert (result["verdict"], result["retry_of"]) == ("ok", "old")
        assert_refused(occd(*requeue, "old", cwd=folder), "old", "occd queues")
        assert_refused(occd(*requeue, "bad", cwd=folder), "not a message")


# the socket


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_whoever_may_not_use_the_socket_reads_who_may(server: Server) -> None:
    config = Config(data_dir=server.data_dir)
    os.seteuid(65534)
    try:
        with pytest.raises(OccdError, match=r"control\.sock cannot be used: .* as root"):
            list_keys(config)
    finally:
        os.seteuid(0)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root meets a daemon that cannot tell root")
def test_root_reads_as_whom_to_ask_a_daemon_that_cannot_tell_root(folder: Path) -> None:
    """Such a daemon closes the connection."""
    with socket.socket(socket.AF_UNIX) as daemon:
        daemon.bind(str(folder / "control.sock"))
        os.chown(folder / "control.sock", 65534, 65534)
        daemon.listen()
        closing = threading.Thread(target=lambda: daemon.accept()[0].close())
        closing.start()
        with pytest.raises(OccdError, match=rf"gave no answer .* as {pwd.getpwuid(65534).pw_name}"):
            list_keys(Config(data_dir=folder))
        closing.join()


def test_only_its_own_user_reaches_the_socket(server: Server) -> None:
    found = (server.data_dir / "control.sock").stat()
    assert stat.S_ISSOCK(found.st_mode)
    assert stat.S_IMODE(found.st_mode) == 0o600
    assert found.st_uid == os.geteuid()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_another_user_is_turned_away_also_where_the_file_lets_it_in(server: Server) -> None:
    path = server.data_dir / "control.sock"
    program = (
        "import os, socket, sys; folder = os.open(sys.argv[1], os.O_PATH); os.setuid(65534); "
        "s = socket.socket(socket.AF_UNIX); s.settimeout(60); "
        "s.connect(f'/proc/self/fd/{folder}/control.sock'); "
        "s.sendall(b'GET /api/v1/keys HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n'); print(s.recv(9))"
    )
    say = [sys.executable, "-c", program, str(path.parent)]
    mode = stat.S_IMODE(path.parent.stat().st_mode)
    refused = subprocess.run(say, capture_output=True, text=True, check=False)
    assert "PermissionError" in refused.stderr
    try:
        path.parent.chmod(0o755)
        path.chmod(0o666)
        turned_away = subprocess.run(say, capture_output=True, text=True, check=False)
    finally:
        path.chmod(0o600)
        path.parent.chmod(mode)
    closed = ("ConnectionResetError", "BrokenPipeError")  # before or after it had sent its request
    assert turned_away.stdout == "b''\n" or any(error in turned_away.stderr for error in closed)


def test_the_socket_serves_the_calls_of_administrators_alone(server: Server) -> None:
    assert ask(server, "GET", "/api/v1/keys")[0] == 200
    assert ask(server, "GET", "/readyz")[0] == 200
    id = server.submit("print(1)")
    for method, path in (
        ("GET", "/"),
        ("GET", "/static/app.js"),
        ("GET", f"/api/v1/submissions/{id}"),
        ("POST", "/api/v1/submissions"),
        ("GET", "/api/v1/ws"),
    ):
        assert ask(server, method, path)[0] in (404, 405), path


def test_the_socket_goes_with_its_daemon_and_one_that_was_left_is_replaced(folder: Path) -> None:
    with serving(folder / "data", accounts=ACCOUNTS):
        created(folder)
    assert not (folder / "data" / "control.sock").exists()
    server = start(folder / "data", accounts=ACCOUNTS)
    wait_open(server)
    server.process.kill()
    server.process.wait()
    assert (folder / "data" / "control.sock").is_socket()
    created(folder)  # without a daemon again
    with serving(folder / "data", accounts=ACCOUNTS):
        assert len(listed(folder)) == 2


def test_a_long_path_is_as_good_as_any(folder: Path) -> None:
    deep = folder.joinpath(*["a-folder-with-a-long-name" * 4] * 3)
    deep.mkdir(parents=True)
    with serving(deep / "data", accounts=ACCOUNTS) as server:
        secret, _ = created(deep)
        assert status(server, secret) == 200


def test_a_place_that_cannot_be_is_told_where_it_was_asked_for(folder: Path) -> None:
    (folder / "file").write_text("mine")
    for place in ("file", "file/x.sock", f"{'x' * 300}.sock"):
        server = start(folder / "data", control__socket=place)
        assert server.process.wait(PATIENCE_S) == 125
        said = server.log.read_text()
        assert "control.socket" in said
        assert "Traceback" not in said
        server.log.unlink()
    assert (folder / "file").read_text() == "mine"
    with serving(folder / "one", control__socket=str(folder / "its.sock")):
        server = start(folder / "two", control__socket=str(folder / "its.sock"))
        assert server.process.wait(PATIENCE_S) == 125
        assert "another occd listens" in server.log.read_text()


def test_without_a_socket_a_daemon_serves_all_the_same(folder: Path) -> None:
    (folder / "data").mkdir()
    (folder / "data" / "control.sock").write_text("mine")
    with serving(folder / "data", accounts=ACCOUNTS) as server:
        assert server.run("print(1)")["verdict"] == "ok"
        assert "there is no control socket" in server.log.read_text()
        assert_refused(command(folder, "keys", "list"), "in use by another occd")
