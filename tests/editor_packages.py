"""The packages that the editor is built with, and tested."""

import fcntl
import hashlib
import subprocess
from pathlib import Path

WEB = Path(__file__).parent.parent / "web"
STAMP = WEB / "node_modules" / ".occd-installed"


def npm(*arguments: str) -> None:
    done = subprocess.run(["npm", *arguments], cwd=WEB, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def install_packages() -> None:
    """Those of package-lock.json. They are installed anew unless they were, here, from this very file."""
    with (WEB / "package-lock.json").open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests run at once
        wanted = hashlib.sha256(lock.read()).hexdigest()
        if STAMP.exists() and STAMP.read_text() == wanted:
            return
        npm("ci", "--no-audit", "--no-fund")  # takes node_modules away first, and the stamp with it
        STAMP.write_text(wanted)
