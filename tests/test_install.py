"""What people install holds everything: it works far from the checkout, with nothing beside it."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from serving import API, serving

ROOT = Path(__file__).resolve().parent.parent


def quiet(*argv: str | Path, cwd: Path) -> str:
    """What a command prints; it succeeds."""
    clean = {name: value for name, value in os.environ.items() if name[:5] != "OCCD_"}
    done = subprocess.run(
        argv, cwd=cwd, env=clean, text=True, check=False, capture_output=True, timeout=900
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel that was built from it."""
    folder: Path = tmp_path_factory.mktemp("dist")
    quiet(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT, cwd=folder)
    return folder


@pytest.fixture(scope="module")
def installed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `occd` of an empty environment into which the wheel was installed."""
    folder: Path = tmp_path_factory.mktemp("environment")
    quiet(sys.executable, "-m", "venv", folder, cwd=folder)
    (wheel,) = built.glob("*.whl")
    pip = (folder / "bin/pip", "--disable-pip-version-check", "-q")
    locked = ROOT / "packaging/locked/run.txt"
    quiet(*pip, "install", "--require-hashes", "--only-binary", ":all:", "-r", locked, cwd=folder)
    quiet(*pip, "install", "--no-index", wheel, cwd=folder)  # the lock has all that it needs
    quiet(*pip, "check", cwd=folder)
    return folder / "bin/occd"


def tracked(*folders: str) -> set[str]:
    """What the checkout holds of these folders."""
    listed = quiet("git", "ls-files", "-z", *folders, cwd=ROOT)
    return set(filter(None, listed.split("\0")))


def test_the_sdist_holds_what_a_build_needs(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    parts = ("occd", "templates", "static", "sandbox", "web", "packaging", "docs", "tests", "bench")
    missing = tracked(*parts) - held
    assert missing == set()
    assert {"LICENSE", "README.md", "CONTRIBUTING.md", "pyproject.toml", "Makefile"} <= held
    assert not any(name.startswith(("web/node_modules", ".venv", "data/")) for name in held)


def test_the_wheel_holds_the_data_folders_and_the_jails_init(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        held = set(archive.namelist())
    assert tracked("occd") <= held
    data = tracked("templates", "static", "sandbox/languages", "sandbox/policy", "sandbox/shown")
    assert {f"occd/_data/{name}" for name in data} <= held
    compiled = {"bin/occd-init", "shown/live/liblive.a", "shown/live/live.so"}
    assert {f"occd/_data/sandbox/{name}" for name in compiled} <= held
    assert any(name.endswith("python3.11/site-packages/live.pth") for name in held)
    assert not any(name.startswith(("tests/", "web/", "templates/")) for name in held)


def test_docker_builds_the_same_wheel(built: Path, tmp_path: Path) -> None:
    """Of what .dockerignore lets it have, without a network, as packaging/Dockerfile does."""
    listed = (ROOT / ".dockerignore").read_text().splitlines()
    for name in (line[1:] for line in listed if line.startswith("!")):
        for file in tracked(name):
            copy = tmp_path / "src" / file
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / file, copy)
    argv = ("env", "SOURCE_COMMIT=0123456789ab", sys.executable, "-m", "pip", "wheel")
    options = ("--no-index", "--no-deps", "--no-build-isolation")
    quiet(*argv, *options, "--wheel-dir", tmp_path / "dist", tmp_path / "src", cwd=tmp_path)
    held = []
    for folder in (built, tmp_path / "dist"):
        (wheel,) = folder.glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            held.append(set(archive.namelist()))
    assert held[0] == held[1]


def test_it_runs_programs_from_anywhere(installed: Path, tmp_path: Path) -> None:
    assert quiet(installed, "--version", cwd=Path("/")).startswith("occd, version ")
    assert "a trial job ran" in quiet(installed, "doctor", cwd=Path("/"))
    (tmp_path / "hello.py").write_text("print('hello')")
    assert quiet(installed, "run", tmp_path / "hello.py", cwd=Path("/")) == "hello\n"


def test_programs_run_whatever_umask_it_was_installed_with(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "hello.py").write_text("print('hello')")
    quiet("chmod", "-R", "go=", installed.parent.parent / "lib", cwd=tmp_path)
    assert quiet(installed, "run", tmp_path / "hello.py", cwd=Path("/")) == "hello\n"


def test_it_serves_the_page_and_its_files(installed: Path, tmp_path: Path) -> None:
    with serving(tmp_path / "data", program=installed, cwd=Path("/")) as server:
        page = server.get("/")
        assert page.status == 200
        assert b'data-testid="run"' in page.body
        for name in tracked("static"):
            answer = server.get(f"/{name}")
            assert (answer.status, answer.body) == (200, (ROOT / name).read_bytes())
        assert server.get(f"{API}/languages").status == 200
        assert server.run("print(1)")["run"]["stdout"] == "1\n"
