"""Fresh copies of this checkout, with what is not committed yet."""

import os
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
AUTHOR = {
    f"GIT_{who}_{what}": "nobody@localhost"
    for who in ("AUTHOR", "COMMITTER")
    for what in ("NAME", "EMAIL")
}


def git(*words: str, cwd: Path, **environment: str) -> str:
    known = {name: value for name, value in os.environ.items() if name[:4] != "GIT_"}
    alone = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    return subprocess.run(
        ["git", *words],
        cwd=cwd,
        env=known | AUTHOR | alone | environment,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()


def commit_all(folder: Path, when: str = "") -> None:
    """Make it a repository with one commit. `when`: in seconds of Unix time, or now."""
    git("init", "-q", cwd=folder)
    git("add", "-A", cwd=folder)
    dates = {"GIT_AUTHOR_DATE": when, "GIT_COMMITTER_DATE": when} if when else {}
    git("commit", "-qm", "all", cwd=folder, **dates)


def copy_checkout(folder: Path, *parts: str) -> None:
    """Make what a clone would hold if everything were committed: these parts, or all, without `.git`."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *parts],
        cwd=ROOT, check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
