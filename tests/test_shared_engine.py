"""The engine of a session of tests lives as long as its workers, and leaves nothing."""

import os
import subprocess
import sys
import time
from pathlib import Path

from engine import Reached
from shared_engine import IMAGE

_WORKER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from shared_engine import foresee, hold, shared
lock = hold(Path(sys.argv[2]))
foresee(Path(sys.argv[2]))
print("holds", flush=True)
print(input() and shared(Path(sys.argv[2])).folder, flush=True)
input()
"""


class _Worker:
    def __init__(self, session: Path) -> None:
        argv = [sys.executable, "-c", _WORKER, str(Path(__file__).parent), str(session)]
        self.process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.read() == "holds"

    def ask(self) -> None:
        assert self.process.stdin
        self.process.stdin.write("engine\n")
        self.process.stdin.flush()

    def read(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline().strip()

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


def test_the_engine_of_a_session_ends_with_its_last_worker_though_they_are_killed(
    tmp_path: Path,
) -> None:
    workers = [_Worker(tmp_path) for _ in range(2)]
    try:
        until = time.monotonic() + 60
        while not (
            tmp_path / "engine.log"
        ).exists():  # its start was foreseen, and nobody has asked
            assert time.monotonic() < until
            time.sleep(0.1)
        for worker in workers:
            worker.ask()
        folders = {worker.read() for worker in workers}
        assert len(folders) == 1, (tmp_path / "engine.log").read_text()
        (folder,) = map(Path, folders)
        engine = Reached(folder)
        workers[0].kill()
        engine.docker("create", IMAGE, "/bin/true")
        assert _of(folder)
    finally:
        for worker in workers:
            worker.kill()
    until = time.monotonic() + 60
    while folder.exists() or _of(folder):
        assert time.monotonic() < until, _of(folder)
        time.sleep(0.1)


def _of(folder: Path) -> list[str]:
    """Processes, mounts and control groups that name the engine's folder."""
    found = [str(each) for each in Path("/sys/fs/cgroup").glob(f"**/{folder.name}")]
    found += [each for each in Path("/proc/mounts").read_text().splitlines() if folder.name in each]
    for process in Path("/proc").glob("[0-9]*"):
        try:
            said = (process / "cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if os.fsencode(folder.name) in said:
            found.append(f"{process}: {said!r}")
    return found
