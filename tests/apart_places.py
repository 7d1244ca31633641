"""Tests in places where their whole process lives: a normal user's, and a container without any privilege."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from engine import Reached, ToolFailed
from places import Outcome, Place
from shared_engine import IMAGE

_CHECKOUT = Path(__file__).resolve().parents[1]
_NOBODY = 65534
_USER = 1000


def tried_apart(
    place: Place, engine: Reached, folder: Path, *options: str | Path
) -> tuple[dict[str, Outcome], str]:
    """How the promises came out there, and what pytest said. `folder` is empty."""
    outcomes = folder / "outcomes.json"
    argv = [
        *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=short"),
        *(f"--place={place}", f"--outcomes={outcomes}", f"--basetemp={folder}/tmp"),
        *map(str, options),
    ]
    if place == "nsjail-container":
        os.chown(folder, _USER, _USER)
        said = _in_container(engine, folder, argv)
    else:
        user = _NOBODY if place == "nsjail-user" else 0
        os.chown(folder, user, user)
        ids = [f"--reuid={user}", f"--regid={user}", "--clear-groups"]
        said = subprocess.run(
            ["setpriv", *ids, *argv],
            cwd=_CHECKOUT, env=_environment(), stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        ).stdout  # fmt: skip
    assert outcomes.exists(), said[-5000:]
    return json.loads(outcomes.read_text()), said


def _environment() -> dict[str, str]:
    return {"PATH": "/usr/local/bin:/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1", "HOME": "/tmp"}


def _in_container(engine: Reached, folder: Path, argv: Sequence[str]) -> str:
    """docs/security.md names these options for a container without privilege."""
    shown = {_CHECKOUT, Path(sys.base_prefix).resolve()}
    options = [
        *("--rm", "--network=none", f"--user={_USER}:{_USER}", "--read-only", "--tmpfs=/tmp:exec"),
        *("--cap-drop=ALL", "--security-opt=no-new-privileges"),
        f"--security-opt=seccomp={_CHECKOUT}/packaging/seccomp.json",
        "--security-opt=systempaths=unconfined",
        *(f"--volume={each}:{each}:ro" for each in shown),
        f"--volume={folder}:{folder}",
        *(f"--env={name}={value}" for name, value in _environment().items()),
        f"--workdir={_CHECKOUT}",
    ]
    try:
        return engine.docker("run", *options, IMAGE, *argv)
    except ToolFailed as failed:
        return str(failed)
