"""The built editor that is committed is what its sources make."""

import filecmp
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_the_committed_editor_is_built_from_its_sources(tmp_path: Path) -> None:
    ignore = shutil.ignore_patterns("node_modules")
    shutil.copytree(ROOT / "web", tmp_path / "web", ignore=ignore)
    for command in (
        ["npm", "ci", "--no-audit", "--no-fund"],
        ["npm", "test"],
        ["npm", "run", "build"],
    ):
        done = subprocess.run(command, cwd=tmp_path / "web", capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    built = {path.name for path in (tmp_path / "static").iterdir()}
    assert built == {path.name for path in (ROOT / "static").iterdir()}
    _, different, failed = filecmp.cmpfiles(
        ROOT / "static", tmp_path / "static", built, shallow=False
    )
    assert not different, f"run `make web` and commit: {different}"
    assert not failed
