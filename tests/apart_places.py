"""Tests in places where their whole process lives: a normal user's, and a container without any privilege."""

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import built_images
from engine import Reached, ToolFailed
from places import Outcome, Place
from shared_engine import IMAGE

_CHECKOUT = Path(__file__).resolve().parents[1]
_NOBODY = 65534
_USER = 1000
_SHOWN = (_CHECKOUT, Path(sys.base_prefix).resolve())
"""The checkout, and the Python of its environment."""


def promising() -> list[str]:
    """The files whose tests are promises of every sandbox."""
    tests = sorted((_CHECKOUT / "tests").glob("**/test_*.py"))
    return [str(each) for each in tests if "pytest.mark.promise" in each.read_text()]


def tried(
    place: Place, engine: Reached, folder: Path, *options: str | Path, image: str | None = None
) -> tuple[dict[str, Outcome], str]:
    """How the promises came out in a place, by tests in a process of their own, and what pytest said.
    `folder` is empty. With `image` programs see that image."""
    if image:
        built_images.built(image)  # only root can
    outcomes = folder / "outcomes.json"
    argv = [
        *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=short"),
        *(f"--place={place}", f"--outcomes={outcomes}", f"--basetemp={folder}/tmp"),
        f"--engine={engine.folder}",
        *([f"--image={image}"] if image else []),
        *map(str, options or promising()),
    ]
    run = {"nsjail-user": _as_nobody, "nsjail-container": _in_container}.get(place, _as_we_are)
    said = run(engine, folder, argv)
    assert outcomes.exists(), said[-5000:]
    return json.loads(outcomes.read_text()), said


def _as_we_are(_: Reached, __: Path, argv: Sequence[str]) -> str:
    return subprocess.run(
        argv, cwd=_CHECKOUT, env=_environment(), stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    ).stdout  # fmt: skip


def _as_nobody(engine: Reached, folder: Path, argv: Sequence[str]) -> str:
    """In mounts in which a folder that only root may enter does not hide what the tests need."""
    os.chown(folder, _NOBODY, _NOBODY)
    stash = folder / "stash"
    script = ["mount --make-rprivate /", f"mkdir {stash}"]
    script += [
        f"mkdir {stash}/{at}; mount --rbind {each} {stash}/{at}" for at, each in enumerate(_SHOWN)
    ]
    script += [f"mount -t tmpfs -o mode=755 none {each}" for each in _shut()]
    script += [
        f"mkdir -p {each}; mount --rbind {stash}/{at} {each}" for at, each in enumerate(_SHOWN)
    ]
    nobody = f"exec setpriv --reuid={_NOBODY} --regid={_NOBODY} --clear-groups"
    script += [f"cd {_CHECKOUT}", f"{nobody} {shlex.join(argv)}"]
    return _as_we_are(engine, folder, ["unshare", "--mount", "sh", "-euc", "\n".join(script)])


def _shut() -> set[Path]:
    """The outermost folders above those that the tests need, that only their owners may enter."""
    closed = [
        next((each for each in reversed(shown.parents) if not each.stat().st_mode & 1), None)
        for shown in _SHOWN
    ]
    return {each for each in closed if each}


def _environment() -> dict[str, str]:
    return {"PATH": "/usr/local/bin:/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1", "HOME": "/tmp"}


def _in_container(engine: Reached, folder: Path, argv: Sequence[str]) -> str:
    """With the options that docs/operating.md names for a container without privilege."""
    os.chown(folder, _USER, _USER)
    options = [
        *("--rm", "--network=none", f"--user={_USER}:{_USER}", "--read-only", "--tmpfs=/tmp:exec"),
        *("--cap-drop=ALL", "--security-opt=no-new-privileges"),
        f"--security-opt=seccomp={_CHECKOUT}/packaging/seccomp.json",
        "--security-opt=systempaths=unconfined",
        *(f"--volume={_opened(each, folder)}:{each}:ro" for each in _shut()),
        *(f"--volume={each}:{each}:ro" for each in _SHOWN),
        f"--volume={folder}:{folder}",
        *(f"--env={name}={value}" for name, value in _environment().items()),
        f"--workdir={_CHECKOUT}",
    ]
    if built_images.KEPT.exists():
        options.append(f"--volume={built_images.KEPT}:{built_images.KEPT}:ro")
    try:
        return engine.docker("run", *options, IMAGE, *argv)
    except ToolFailed as failed:
        return str(failed)


def _opened(shut: Path, folder: Path) -> Path:
    """A folder to stand in a shut one's place, with nothing but places for what the tests need."""
    opened = folder / "opened" / shut.name
    for shown in _SHOWN:
        if shown.is_relative_to(shut):
            (opened / shown.relative_to(shut)).mkdir(parents=True)
    return opened
