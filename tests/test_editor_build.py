"""The built editor that is committed is what its sources make."""

import filecmp
import hashlib
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
WEB = ROOT / "web"
STAMP = WEB / "node_modules" / ".occd-installed"


def npm(*arguments: str) -> None:
    done = subprocess.run(["npm", *arguments], cwd=WEB, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module", autouse=True)
def packages() -> None:
    """Those of package-lock.json. They are installed anew unless they were, here, from this very file."""
    lock = hashlib.sha256((WEB / "package-lock.json").read_bytes()).hexdigest()
    if STAMP.exists() and STAMP.read_text() == lock:
        return
    npm("ci", "--no-audit", "--no-fund")  # takes node_modules away first, and the stamp with it
    STAMP.write_text(lock)


def test_the_units_of_the_editor() -> None:
    npm("test")


def test_the_committed_editor_is_built_from_its_sources(tmp_path: Path) -> None:
    npm("run", "build", "--", "--out", str(tmp_path))
    built = {path.name for path in tmp_path.iterdir()}
    assert built == {path.name for path in (ROOT / "static").iterdir()}
    _, different, failed = filecmp.cmpfiles(ROOT / "static", tmp_path, built, shallow=False)
    assert not different, f"run `make web` and commit: {different}"
    assert not failed
