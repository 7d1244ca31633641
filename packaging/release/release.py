"""Makes a release in dist/: `make release`.

Wheel, sdist and the binary, the lock as requirements.txt, the bill of materials, and SHA256SUMS of them
all. The time in them is the commit's, so that whoever builds the commit with the same compiler gets the
same files.
"""

import argparse
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

from bom import bill_of_materials
from locked import FOLDER

_ROOT = Path(__file__).resolve().parent.parent.parent
_DIST = _ROOT / "dist"


def release(*, binary: bool) -> None:
    if changed := _git("status", "--porcelain", "--untracked-files=normal"):
        raise SystemExit(f"occd: cannot release: these files are not as in the commit:\n{changed}")
    commit, made_at = _git("log", "-1", "--format=%H %ct").split()
    # PyInstaller's archives follow the order of sets. A SOURCE_COMMIT of the caller's would be believed.
    same = {
        "SOURCE_DATE_EPOCH": made_at,
        "PYTHONHASHSEED": "0",
        "SOURCE_COMMIT": commit[:12],
    }
    shutil.rmtree(_DIST, ignore_errors=True)
    _call(sys.executable, "-m", "build", "--no-isolation", "--outdir", _DIST, _ROOT, **same)
    _refuse_strays()
    (wheel,) = _DIST.glob("*.whl")
    version = wheel.name.split("-")[1]
    if binary:
        name = f"occd-{version}-linux-{platform.machine()}"
        _call("make", "--no-print-directory", "binary", f"BINARY=dist/{name}", **same)
    shutil.copy(FOLDER / "run.txt", _DIST / f"occd-{version}-requirements.txt")
    bill = bill_of_materials(version, commit, int(made_at), binary=binary)
    (_DIST / f"occd-{version}.cdx.json").write_text(json.dumps(bill, indent=1) + "\n")
    made = sorted(_DIST.iterdir())
    sums = "".join(
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in made
    )
    (_DIST / "SHA256SUMS").write_text(sums)
    print(sums, end="")


def _refuse_strays() -> None:
    """The build does not know of all that git ignores: of the user's own list, and of .git/info/exclude."""
    (sdist,) = _DIST.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        held = {each.name.partition("/")[2] for each in archive if not each.isdir()}
    known = {*_git("ls-files", "-z").split("\0"), "PKG-INFO", "occd/_data/commit"}
    if strays := sorted(held - known):
        shutil.rmtree(_DIST)
        raise SystemExit(f"occd: cannot release: these files are in no commit: {', '.join(strays)}")


def _git(*words: str) -> str:
    return subprocess.run(
        ["git", *words], cwd=_ROOT, check=True, capture_output=True, text=True
    ).stdout.strip()


def _call(*argv: str | Path, **environment: str) -> None:
    done = subprocess.run(
        argv,
        cwd=_ROOT,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode != 0:
        raise SystemExit(
            f"{done.stdout}occd: cannot release: {argv[0]}: exit code {done.returncode}"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--without-binary", action="store_true")
    release(binary=not parser.parse_args().without_binary)
