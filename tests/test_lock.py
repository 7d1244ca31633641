"""The set-up repeats: what is installed was locked, and the lock is what pyproject.toml asks for."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import pytest
from checkouts import ROOT, copy_checkout
from locked import FOLDER, Locked, locked
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

FILES = sorted(path.name for path in FOLDER.iterdir())
PYTHONS = ("3.11.0", "3.11.15", "3.12.9", "3.13.5")
MACHINES = ("x86_64", "aarch64")


def environment(python: str, machine: str) -> dict[str, str]:
    """The markers' names on a Linux machine."""
    return {
        **{name: str(value) for name, value in default_environment().items()},
        "python_full_version": python,
        "python_version": python.rpartition(".")[0],
        "implementation_version": python,
        "platform_machine": machine,
        "extra": "",
    }


def asked(file: str) -> list[Requirement]:
    """What pyproject.toml asks for in this file of the lock."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted: list[str] = {
        "run": project["project"]["dependencies"],
        "build": project["build-system"]["requires"],
        **project["dependency-groups"],
    }[file.removesuffix(".txt")]
    return [Requirement(text) for text in wanted]


def applies(marker: Any, known: dict[str, str]) -> bool:
    return marker is None or marker.evaluate(known)


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("file", FILES)
def test_the_lock_has_what_pyproject_asks_for(file: str, python: str, machine: str) -> None:
    known = environment(python, machine)
    packages = locked(file)
    for wanted in asked(file):
        if applies(wanted.marker, known):
            found = packages.get(canonicalize_name(wanted.name))
            assert found, f"{wanted} is not in the lock: make lock"
            assert applies(found.marker, known), found
            assert wanted.specifier.contains(found.version, prereleases=True), (
                f"the lock has {found.name} {found.version}, pyproject.toml asks for {wanted}: make lock"
            )


def needed(wanted: Iterable[Requirement], known: dict[str, str]) -> set[str]:
    """The packages that are needed, and those that these need, as far as they are installed here."""
    found: set[tuple[str, str]] = set()
    ahead = [(each, known) for each in wanted]
    while ahead:
        requirement, names = ahead.pop()
        if not applies(requirement.marker, names):
            continue
        name = canonicalize_name(requirement.name)
        needs = [Requirement(text) for text in distribution(name).requires or ()]
        for extra in {"", *requirement.extras}:
            if (name, extra) not in found:
                found.add((name, extra))
                ahead += [(each, known | {"extra": extra}) for each in needs]
    return {name for name, _ in found}


@pytest.mark.parametrize("file", ["run.txt", "build.txt", "dev.txt"])
def test_the_lock_has_what_these_need_in_turn_and_nothing_else(file: str) -> None:
    known = {name: str(value) for name, value in default_environment().items()} | {"extra": ""}
    there = {name for name, each in locked(file).items() if applies(each.marker, known)}
    assert needed(asked(file), known) == there


@pytest.mark.parametrize("file", ["run.txt", "build.txt", "dev.txt", "checkers.txt"])
def test_these_tests_run_with_what_is_locked(file: str) -> None:
    known = environment(".".join(map(str, sys.version_info[:3])), os.uname().machine)
    for name, each in locked(file).items():
        if applies(each.marker, known):
            assert distribution(name).version == each.version, name


def test_a_package_has_one_version_and_its_hashes_are_whole() -> None:
    versions: dict[str, set[str]] = {}
    for file in FILES:
        for each in locked(file).values():
            versions.setdefault(each.name, set()).add(each.version)
            assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", one) for one in each.hashes), each.name
    assert {name: found for name, found in versions.items() if len(found) > 1} == {}


def test_the_lock_names_no_index_and_no_folder() -> None:
    for file in FILES:
        text = (FOLDER / file).read_text()
        assert "://" not in text
        assert not re.search(r"^\s*-(?!-hash=)|[\s=]/\w", text, re.MULTILINE), file


def test_the_editors_packages_have_hashes_and_no_address() -> None:
    packages = json.loads((ROOT / "web/package-lock.json").read_text())["packages"]
    del packages[""]
    assert packages
    for name, package in packages.items():
        assert re.fullmatch(r"sha512-[A-Za-z0-9+/]{86}==", package["integrity"]), name
        assert "resolved" not in package, name


def test_pip_is_asked_for_nothing_unlocked() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "Makefile", ".ci", "packaging", "tests/images", "tests/vm", "*.md"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    ).stdout.split()  # fmt: skip
    makefile = (ROOT / "Makefile").read_text()
    variables = dict(re.findall(r"^(\w+) := (.*)$", makefile, re.MULTILINE))
    asked = []
    for name in listed:
        text = (ROOT / name).read_text(errors="replace").replace("\\\n", " ")
        for command in re.split(r"\n|&&", text):
            for _ in range(3):  # a variable may hold others
                command = re.sub(
                    r"\$\((\w+)\)", lambda found: variables.get(found[1], found[0]), command
                )
            if re.search(r"\bpip\b.* (install|wheel|download) ", command):
                asked.append((name, command))
    assert len(asked) >= 6
    for name, command in asked:
        assert "--require-hashes" in command or "--no-index" in command, (name, command)


# A fresh checkout, from a folder of files instead of an index.


def python_only() -> dict[str, str]:
    """The environment, without what tells pip and uv where to look, and without this test's own make. pip
    compiles nothing, which would take it as long as all else."""
    known = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PIP_", "UV_", "MAKE", "MFLAGS"))
    }
    return known | {
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_NO_COMPILE": "1",
    }


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The locked files that a first start installs here."""
    folder: Path = tmp_path_factory.mktemp("wheels")
    done = subprocess.run(
        [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--require-hashes",
         "--only-binary", ":all:", "-d", folder, "-r", FOLDER / "run.txt", "-r", FOLDER / "build.txt"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def checkout(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "fresh"
    copy_checkout(folder)
    yield folder
    shutil.rmtree(folder)


def set_up(checkout: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", "--no-print-directory", "setup", f"PYTHON={sys.executable}"],
        cwd=checkout, env=python_only() | environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


def installed(checkout: Path) -> dict[str, str]:
    folder = next((checkout / ".venv/lib").glob("python3.*/site-packages"))
    found = (path.name.split("-")[:2] for path in folder.glob("*.dist-info"))
    return {canonicalize_name(name): version.removesuffix(".dist") for name, version in found}


def wheel(folder: Path, name: str, version: str, code: str = "") -> Path:
    """A wheel of one module."""
    about = f"{name}-{version}.dist-info"
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}.py", code)
        archive.writestr(
            f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        )
        archive.writestr(
            f"{about}/WHEEL",
            "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        archive.writestr(f"{about}/RECORD", f"{name}.py,,\n{about}/METADATA,,\n{about}/WHEEL,,\n")
    return path


TAMPERED = "raise SystemExit('tampered')"


def tampered(wheels: Path, folder: Path) -> Locked:
    """In `folder`, a file of the same name and version as a locked one, and of another content."""
    each = locked("run.txt")[canonicalize_name("sniffio")]
    (real,) = wheels.glob("sniffio-*.whl")
    assert wheel(folder, "sniffio", each.version, TAMPERED).name == real.name
    return each


def test_a_tampered_file_is_refused_in_words(checkout: Path, wheels: Path, tmp_path: Path) -> None:
    way = tmp_path / "way"
    shutil.copytree(wheels, way)
    tampered(wheels, way)
    done = set_up(checkout, PIP_NO_INDEX="1", PIP_FIND_LINKS=str(way))
    assert done.returncode != 0
    assert "DO NOT MATCH THE HASHES" in done.stderr
    assert "sniffio" in done.stderr
    assert "trio" not in installed(checkout)  # pip installs all or nothing
    assert set_up(checkout, PIP_NO_INDEX="1", PIP_FIND_LINKS=str(wheels)).returncode == 0


@pytest.mark.parametrize("there", [(), ("pip/__init__.py", "pip/__main__.py", "pip/_internal")])
def test_a_first_start_that_was_cut_off_is_made_good(
    there: tuple[str, ...], checkout: Path, wheels: Path
) -> None:
    """While it made the environment, before pip was there, and when some of pip was."""
    subprocess.run([sys.executable, "-m", "venv", checkout / ".venv"], check=True)
    packages = next((checkout / ".venv/lib").glob("python3.*/site-packages"))
    whole = packages.rename(packages.with_name("whole"))
    packages.mkdir()
    for name in there:
        (packages / name).parent.mkdir(exist_ok=True)
        (whole / name).rename(packages / name)
    shutil.rmtree(whole)
    done = set_up(checkout, PIP_NO_INDEX="1", PIP_FIND_LINKS=str(wheels))
    assert (done.returncode, done.stderr) == (0, "")
    assert "trio" in installed(checkout)


def test_only_what_is_locked_is_installed(checkout: Path, wheels: Path, tmp_path: Path) -> None:
    """With newer releases at hand, and with a tampered file beside an index that has the right one."""
    way = tmp_path / "way"
    way.mkdir()
    tampered(wheels, way)
    for name in ("trio", "sniffio", "hatchling", "editables"):
        wheel(way, name, "9999.0", TAMPERED)
    done = set_up(
        checkout, PIP_INDEX_URL=simple_index(tmp_path / "index", wheels), PIP_FIND_LINKS=str(way)
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout == "occd: setting up in .venv (once) ...\n"
    known = environment(".".join(map(str, sys.version_info[:3])), os.uname().machine)
    expected = {
        name: each.version
        for file in ("run.txt", "build.txt")
        for name, each in locked(file).items()
        if applies(each.marker, known)
    }
    found = installed(checkout)
    assert set(found) - set(expected) - {"pip", "setuptools"} == {"occd"}
    assert {name: found.get(name) for name in expected} == expected
    started = subprocess.run(
        [checkout / ".venv/bin/occd", "--version"],
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    assert started.stdout.startswith("occd, version "), started.stderr


def simple_index(folder: Path, wheels: Path) -> str:
    """An index of these files that tells their hashes, as PyPI does."""
    for path in wheels.iterdir():
        name = canonicalize_name(path.name.split("-")[0])
        (folder / name).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder / name)
    for page in folder.iterdir():
        links = "".join(
            f'<a href="{path.name}#sha256={hashlib.sha256(path.read_bytes()).hexdigest()}">{path.name}</a>'
            for path in page.iterdir()
        )
        (page / "index.html").write_text(f"<!DOCTYPE html><html><body>{links}</body></html>")
    return folder.as_uri()


# Refreshing it.

TREE = """\
[build-system]
requires = ["leaf"]
[project]
name = "tree"
version = "1"
requires-python = ">=3.11"
dependencies = ["leaf>=1", "twig"]
[dependency-groups]
dev = ["leaf"]
binary = ["leaf"]
checkers = ["leaf"]
compose = ["leaf"]
"""


@dataclass(frozen=True, slots=True)
class Project:
    """Its lock is made of `releases` alone."""

    folder: Path
    releases: Path

    @property
    def lock(self) -> Path:
        return self.folder / "packaging/locked"

    def make_lock(self, **settings: str) -> subprocess.CompletedProcess[str]:
        index = simple_index(self.folder / "index", self.releases)
        known = python_only() | {"UV_DEFAULT_INDEX": index, "UV_NO_CACHE": "1"}
        # -o: the Makefile would set the environment up.
        return subprocess.run(
            ["make", "-s", "-f", f"{ROOT}/Makefile", "-o", ".venv/.dev", "lock"],
            cwd=self.folder, env=known | settings, check=False, capture_output=True, text=True,
        )  # fmt: skip

    def refresh(self, **settings: str) -> set[str]:
        """What is locked then."""
        done = self.make_lock(**settings)
        assert done.returncode == 0, done.stderr
        assert sorted(path.name for path in self.lock.iterdir()) == FILES
        return {
            line
            for path in self.lock.iterdir()
            for line in re.findall(r"^\w+==\S+", path.read_text(), re.MULTILINE)
        }


@pytest.fixture
def project(tmp_path: Path) -> Project:
    (tmp_path / "pyproject.toml").write_text(TREE)
    (tmp_path / ".venv").symlink_to(sys.prefix)
    (tmp_path / "packaging").mkdir()
    shutil.copy(ROOT / "packaging/lock.sh", tmp_path / "packaging")
    releases = tmp_path / "releases"
    releases.mkdir()
    wheel(releases, "leaf", "1.0")
    wheel(releases, "twig", "1.0")
    return Project(tmp_path, releases)


def test_a_newer_release_is_taken_when_the_lock_is_refreshed(project: Project) -> None:
    assert project.refresh() == {"leaf==1.0", "twig==1.0"}
    before = {path.name: path.read_bytes() for path in project.lock.iterdir()}
    newer = wheel(project.releases, "leaf", "1.1")
    assert project.refresh(KEEP="1") == {"leaf==1.0", "twig==1.0"}
    assert {path.name: path.read_bytes() for path in project.lock.iterdir()} == before
    assert project.refresh() == {"leaf==1.1", "twig==1.0"}
    (of_leaf,) = re.findall(
        r"^leaf==1\.1 \\\n +--hash=sha256:(\w+)$",
        (project.lock / "run.txt").read_text(),
        re.MULTILINE,
    )
    assert of_leaf == hashlib.sha256(newer.read_bytes()).hexdigest()


def test_one_package_is_refreshed_alone(project: Project) -> None:
    project.refresh()
    wheel(project.releases, "leaf", "1.1")
    wheel(project.releases, "twig", "1.1")
    assert project.refresh(ONLY="twig") == {"leaf==1.0", "twig==1.1"}
    assert project.refresh(ONLY="leaf") == {"leaf==1.1", "twig==1.1"}
    refused = project.make_lock(ONLY="twigs")
    assert refused.returncode != 0
    assert "has no package twigs" in refused.stderr
