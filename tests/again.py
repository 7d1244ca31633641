"""pytest for CI: a few tests that failed among all others are tried again, with the machine to themselves.

Each must then pass three times, and not be skipped. So a promise that a busy machine broke for a moment does
not fail CI, and is told. A fault that comes seldom, or only behind other tests, may pass so, too: the tests
that are named are to be looked at. `make test` itself gives no second chance.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from xml.etree import ElementTree

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
            code, skipped = _once_more(failed, left)
        except subprocess.TimeoutExpired:
            print(f"they took longer than {_ALL_S} s together")
            return _FAILED
        if code:
            return code
        if skipped:
            print("A test that failed before was skipped now")
            return _FAILED
    print("These failed among the others, and passed alone:", *failed, sep="\n  ")
    return 0


def _once_more(failed: list[str], within_s: float) -> tuple[int, bool]:
    """pytest's exit code, and whether a test was skipped, of which the code tells nothing. One that is known
    to fail is none of these."""
    with tempfile.NamedTemporaryFile(suffix=".xml") as told:
        argv = [*_PYTEST, f"--junit-xml={told.name}", *failed]
        code = subprocess.run(argv, check=False, timeout=within_s).returncode
        if code:
            return code, False
        found = ElementTree.parse(told.name).iter("skipped")
        return code, any(each.get("type") == "pytest.skip" for each in found)


if __name__ == "__main__":
    sys.exit(main())
