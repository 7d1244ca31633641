"""pytest for CI: a few tests that failed among all others are tried again, with the machine to themselves.

Each must then pass three times. So a promise that does not hold fails CI, and a promise that a busy machine
broke for a moment does not, and is told. `make test` itself gives no second chance.
"""

import json
import subprocess
import sys
import time
from pathlib import Path

_PYTEST = [sys.executable, "-m", "pytest"]
_FAILED = 1
"""pytest's exit code when tests ran and some failed. Any other means more than that."""
_FEW = 5
_TIMES = 3
_ALL_S = 900
_LAST_FAILED = Path(".pytest_cache/v/cache/lastfailed")


def main() -> int:
    _LAST_FAILED.unlink(missing_ok=True)
    code = subprocess.run([*_PYTEST, *sys.argv[1:]], check=False).returncode
    if code != _FAILED or not _LAST_FAILED.exists():
        return code
    failed = list(json.loads(_LAST_FAILED.read_text()))
    if len(failed) > _FEW:
        print(f"{len(failed)} tests failed, which are too many to try again")
        return code
    ends = time.monotonic() + _ALL_S
    for _ in range(_TIMES):
        print("\nOnce more, with the machine to themselves:", *failed, sep="\n  ", flush=True)
        left = max(0, ends - time.monotonic())
        try:
            code = subprocess.run([*_PYTEST, *failed], check=False, timeout=left).returncode
        except subprocess.TimeoutExpired:
            print(f"they took longer than {_ALL_S} s together")
            return _FAILED
        if code:
            return code
    print("These failed among the others, and passed alone:", *failed, sep="\n  ")
    return 0


if __name__ == "__main__":
    sys.exit(main())
