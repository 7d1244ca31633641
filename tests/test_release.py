"""A release can be built again, byte for byte, and says what is in it."""

import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
from bom import bill_of_materials
from checkouts import ROOT, commit_all, copy_checkout, git
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from locked import locked

WHEN = "1767225600"


def release(clone: Path, umask: int, **environment: str) -> Path:
    """The folder that it fills."""
    known = {name: value for name, value in os.environ.items() if name[:7] != "SOURCE_"}
    done = subprocess.run(
        [sys.executable, clone / "packaging/release/release.py", "--without-binary"],
        cwd="/", env=known | environment, umask=umask, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return clone / "dist"


@pytest.fixture(scope="module")
def clones(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two clones of one commit in different folders, and the files of one are older."""
    folder: Path = tmp_path_factory.mktemp("release")
    first, second = folder / "a", folder / "some/where/else"
    copy_checkout(first)
    commit_all(first, WHEN)
    shutil.copytree(first, second, symlinks=True)
    for path in second.rglob("*.[ch]*"):
        os.utime(path, (1e9, 1e9))
    return first, second


@pytest.fixture(scope="module")
def dist(clones: tuple[Path, Path]) -> Path:
    return release(clones[0], 0o022)


def test_built_twice_it_is_the_same(clones: tuple[Path, Path], dist: Path) -> None:
    again = release(clones[1], 0o077, SOURCE_COMMIT="of-something-else")
    made = {path.name: path.read_bytes() for path in dist.iterdir()}
    assert {path.name: path.read_bytes() for path in again.iterdir()} == made
    kinds = ("py3-none-linux_x86_64.whl", ".tar.gz", "-requirements.txt", ".cdx.json", "SHA256SUMS")
    assert sorted(kind for name in made for kind in kinds if name.endswith(kind)) == sorted(kinds)
    assert len(made) == len(kinds)
    (sdist,) = dist.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        assert {each.mtime for each in archive} == {int(WHEN)}


def test_the_sums_are_those_of_all_files(dist: Path) -> None:
    subprocess.run(["sha256sum", "--strict", "--quiet", "-c", "SHA256SUMS"], cwd=dist, check=True)
    listed = {line.split("  ")[1] for line in (dist / "SHA256SUMS").read_text().splitlines()}
    assert listed == {path.name for path in dist.iterdir()} - {"SHA256SUMS"}


def test_a_changed_clone_is_not_released(clones: tuple[Path, Path]) -> None:
    stray = clones[1] / "occd/stray.py"
    stray.write_text("")
    git("config", "status.showUntrackedFiles", "no", cwd=clones[1])  # whatever git's settings are
    done = subprocess.run(
        [sys.executable, clones[1] / "packaging/release/release.py", "--without-binary"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    stray.unlink()
    git("config", "--unset", "status.showUntrackedFiles", cwd=clones[1])
    assert done.returncode == 1
    assert done.stderr.endswith("these files are not as in the commit:\n?? occd/stray.py\n")


def test_a_file_that_only_this_clone_ignores_is_not_released(clones: tuple[Path, Path]) -> None:
    stray, exclude = clones[1] / "occd/stray.orig", clones[1] / ".git/info/exclude"
    stray.write_text("a secret")
    exclude.write_text("*.orig\n")
    done = subprocess.run(
        [sys.executable, clones[1] / "packaging/release/release.py", "--without-binary"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    stray.unlink()
    exclude.unlink()
    assert done.returncode == 1
    assert done.stderr.endswith("these files are in no commit: occd/stray.orig\n")
    assert not (clones[1] / "dist").exists()


def parts(bill: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """By purl, with those that are part of another."""
    ahead = list(bill["components"])
    found = {}
    while ahead:
        part = ahead.pop()
        found[part["bom-ref"]] = part
        ahead += part.get("components", [])
    return found


def test_the_bill_of_materials_is_valid_and_names_all(dist: Path) -> None:
    (path,) = dist.glob("*.cdx.json")
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(path.read_text()) is None
    bill = json.loads(path.read_text())
    found = parts(bill)
    python = {f"pkg:pypi/{name}@{each.version}" for name, each in locked("run.txt").items()}
    others = ("pkg:pypi/httpx2-jsfetch@", "pkg:pypi/pywin32@")  # for browsers and for Windows alone
    assert python - set(found) == {each for each in python if each.startswith(others)}
    names = {each["name"] for each in found.values()}
    # What no list of packages names: nsjail and its libraries, the init's libc, what wheels carry.
    assert {"nsjail", "protobuf", "libnl3", "glibc", "openssl"} <= names
    listed = json.loads((ROOT / "web/package-lock.json").read_text())["packages"]
    editor = [name for name in names if name.startswith("@codemirror/")]
    assert "@codemirror/view" in editor
    for name in editor:
        version = listed[f"node_modules/{name}"]["version"]
        assert f"pkg:npm/{name.replace('@', '%40')}@{version}" in found
    known = set(found) | {bill["metadata"]["component"]["bom-ref"]}
    for edge in bill["dependencies"]:
        assert {edge["ref"], *edge["dependsOn"]} <= known
    unlicensed = {ref for ref, part in found.items() if ref in python and not part.get("licenses")}
    assert {ref.partition("@")[0] for ref in unlicensed} <= {"pkg:pypi/async-timeout"}


def test_the_binarys_bill_names_the_interpreter_too() -> None:
    bill = bill_of_materials("1.0", "abc", 0, binary=True)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(bill)) is None
    names = {part["name"] for part in parts(bill).values()}
    assert {"cpython", "sqlite", "expat", "zlib", "pyinstaller"} <= names
