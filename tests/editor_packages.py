"""The packages that the editor is built with."""

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
    lock = hashlib.sha256((WEB / "package-lock.json").read_bytes()).hexdigest()
    if STAMP.exists() and STAMP.read_text() == lock:
        return
    npm("ci", "--no-audit", "--no-fund")  # takes node_modules away first, and the stamp with it
    STAMP.write_text(lock)
