"""What docs/accounts.md shows of a key works, from a shell and from Python, also when a quota is used up."""

import json
import os
import re
import stat
import subprocess
import sys
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest
from serving import PATIENCE_S, Server, serving

PAGE = (Path(__file__).parents[1] / "docs" / "accounts.md").read_text()
KEY = "occd_a-key-of-the-configuration"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    key = {"id": "k", "owner": "o", "class": "c", "sha256": sha256(KEY.encode()).hexdigest()}
    accounts = {
        "anonymous": "refuse",
        "default_class": "c",
        # One more frees each second.
        "classes": {"c": {"runs_per_minute": 60}},
        "keys": [key],
    }
    folder = tmp_path_factory.mktemp("examples")
    with serving(folder / "data", accounts=json.dumps(accounts)) as server:
        yield server


def example(language: str, server: Server) -> str:
    part = PAGE.partition("### With a key")[2]
    found = re.search(rf"```{language}\n(.*?)```", part, re.S)
    assert found
    return found[1].replace("https://code.example.org", f"http://127.0.0.1:{server.port}")


def test_from_a_shell(server: Server, tmp_path: Path) -> None:
    (tmp_path / "moodle.key").write_text(f"{KEY}\n")
    command = ["sh", "-c", example("sh", server)]
    said = subprocess.run(command, cwd=tmp_path, capture_output=True, check=True).stdout
    assert json.loads(said)["run"]["stdout"] == "42\n"
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600


def test_from_python_also_when_the_quota_is_used_up(server: Server) -> None:
    bearer = {"Authorization": f"Bearer {KEY}"}
    body = {"language": "python", "source": "pass", "limits": {"cpu_time": 1}}
    while server.post(body, **bearer).status == 202:
        pass
    said = subprocess.run(
        [sys.executable, "-c", example("python", server)],
        env=os.environ | {"CODE_KEY": KEY},
        capture_output=True,
        check=True,
        timeout=PATIENCE_S,
    ).stdout
    assert said == b"ok 42\n\n"


def test_from_python_a_refusal_for_good_is_told(server: Server) -> None:
    done = subprocess.run(
        [sys.executable, "-c", example("python", server)],
        env=os.environ | {"CODE_KEY": f"{KEY}x"},
        capture_output=True,
        check=False,
        timeout=PATIENCE_S,
    )
    assert b"this key is unknown" in done.stderr
