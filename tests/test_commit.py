"""`occd --version` and the metrics tell which commit runs: git knows it in a clone, a build records it."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from checkouts import ROOT, commit_all, copy_checkout, git
from prometheus_client.parser import text_string_to_metric_families
from serving import serving
from test_metrics import ANY_PORT, text_of


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A repository of this checkout's files as they are now, with one commit."""
    folder = tmp_path / "clone"
    copy_checkout(folder, ":!docs", ":!tests", ":!web")
    commit_all(folder)
    return folder


def version(clone: Path, **environment: str) -> str:
    """What `occd --version` of this code prints."""
    start = (
        f"import sys; sys.path.insert(0, {str(clone)!r}); from occd.__main__ import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", start, "--version"],
        cwd="/", env=os.environ | environment, check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert done.stderr == ""
    return done.stdout


def test_a_clone_tells_its_commit_and_whether_it_was_changed(clone: Path) -> None:
    head = git("rev-parse", "HEAD", cwd=clone)[:12]
    clean = re.fullmatch(rf"occd, version (\S+), commit {head}\n", version(clone))
    assert clean
    (clone / "notes.txt").write_text("occd is not made of it")
    elsewhere = {"GIT_DIR": str(ROOT / "nothing"), "GIT_WORK_TREE": "/"}  # as in a hook of git
    assert version(clone, **elsewhere) == clean[0]
    (clone / "occd/new.py").write_text("")
    dirty = f"occd, version {clean[1]}, commit {head}+dirty\n"
    assert version(clone) == dirty
    (clone / "occd/new.py").unlink()
    with (clone / "pyproject.toml").open("a") as file:
        file.write("# changed\n")
    assert version(clone) == dirty
    git("commit", "-qam", "changed", cwd=clone)
    later = git("rev-parse", "HEAD", cwd=clone)[:12]
    assert version(clone) == f"occd, version {clean[1]}, commit {later}\n"


def test_no_setting_of_git_hides_a_change_or_starts_a_program(clone: Path) -> None:
    clean = version(clone).strip()
    program, trace = clone.parent / "monitor", clone.parent / "started"
    program.write_text(f"#!/bin/sh\ntouch {trace}\n")
    program.chmod(0o755)
    git("config", "core.fsmonitor", str(program), cwd=clone)
    git("config", "status.showUntrackedFiles", "no", cwd=clone)
    (clone / "occd/new.py").write_text("")
    assert version(clone) == f"{clean}+dirty\n"
    assert not trace.exists()


def test_where_nothing_tells_no_commit_is_told(clone: Path) -> None:
    git("init", "-q", cwd=clone.parent)
    shutil.rmtree(clone / ".git")  # a repository around it is not its own
    alone = version(clone)
    assert re.fullmatch(r"occd, version [\d.]+\n", alone)
    commit_all(clone)
    assert ", commit " in version(clone)
    assert version(clone, PATH="/nonexistent") == alone  # without git


def build(clone: Path, kind: str, **environment: str) -> Path:
    known = {name: value for name, value in os.environ.items() if name != "SOURCE_COMMIT"}
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", clone / "dist"],
        cwd=clone, env=known | environment, check=True, capture_output=True,
    )  # fmt: skip
    (made,) = (clone / "dist").glob("*.whl" if kind == "wheel" else "*.tar.gz")
    return made


def test_what_is_built_of_a_clone_tells_the_clones_commit(clone: Path, tmp_path: Path) -> None:
    told = version(clone)
    with tarfile.open(build(clone, "sdist")) as archive:
        archive.extractall(tmp_path / "sdist", filter="data")
    (unpacked,) = (tmp_path / "sdist").iterdir()
    assert version(unpacked) == told
    with zipfile.ZipFile(build(unpacked, "wheel")) as wheel:
        wheel.extractall(tmp_path / "of-sdist")
    assert version(tmp_path / "of-sdist") == told
    assert not (clone / "occd/_data").exists()


def test_a_build_without_git_is_told_the_commit(clone: Path, tmp_path: Path) -> None:
    shutil.rmtree(clone / ".git")
    with zipfile.ZipFile(build(clone, "wheel", SOURCE_COMMIT="123456789abc")) as wheel:
        wheel.extractall(tmp_path / "wheel")
    assert version(tmp_path / "wheel").endswith(", commit 123456789abc\n")


def test_the_metrics_tell_the_commit(tmp_path: Path) -> None:
    with serving(tmp_path / "data", metrics__listen=ANY_PORT) as server:
        families = {each.name: each for each in text_string_to_metric_families(text_of(server))}
    (sample,) = families["occd_info"].samples
    assert sample.labels["commit"].partition("+")[0] == git("rev-parse", "HEAD", cwd=ROOT)[:12]
