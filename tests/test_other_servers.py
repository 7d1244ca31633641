"""What holds over this machine's RabbitMQ and Redis holds over newer ones, and over Valkey: see `servers.py`.
Chaos over them is in `chaos/test_chaos.py`."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from rabbitmq_server import rabbitmq
from redis_server import redis_server
from servers import SETS

pytestmark = pytest.mark.long

HERE = Path(__file__).parent
OVER_RABBITMQ = ("contract/test_broker.py", "test_rabbitmq.py")
OVER_REDIS = (
    "contract/test_created_keys.py",
    "contract/test_flow.py",
    "contract/test_quotas.py",
    "contract/test_sessions.py",
    "contract/test_state.py",
    "test_redis_connect.py",
    "test_redis_daemon.py",
    "test_redis_state.py",
)
VERSIONS = {
    "debian-13": (r"4\.0\.\d+", r"redis_version:8\.0\.\d+"),
    "debian-13-valkey": (r"4\.0\.\d+", r"valkey_version:8\.1\.\d+"),
}


@pytest.mark.parametrize("name", SETS)
def test_the_servers_are_the_versions_that_are_promised(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SERVERS", name)
    with rabbitmq(tmp_path) as queues, redis_server() as state:
        told = (queues.evaluate("rabbit_misc:version()"), state.command("INFO", "server"))
    found = [re.search(version, text) for version, text in zip(VERSIONS[name], told, strict=True)]
    assert all(found), told
    with capsys.disabled():
        print(f"\n{name}: RabbitMQ {found[0] and found[0][0]}, {found[1] and found[1][0]}")


@pytest.mark.parametrize(
    ("name", "files"),
    [("debian-13", (*OVER_RABBITMQ, *OVER_REDIS)), ("debian-13-valkey", OVER_REDIS)],
    ids=["rabbitmq-and-redis", "valkey"],
)
def test_the_same_tests_pass(
    name: str, files: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    # This test holds the machine as others do, so one that wants it alone would wait for ever.
    wanted = ("-m", "not long and not alone", "-k", "rabbitmq or redis")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "--color=no",
            "-p",
            "no:cacheprovider",
            *wanted,
            *files,
        ],
        env=os.environ | {"SERVERS": name},
        cwd=HERE,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:]
    with capsys.disabled():
        print(f"\n{name}: {done.stdout.splitlines()[-1]}")
