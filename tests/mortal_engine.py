"""A Docker engine that can be killed, held, filled up and started again, while its containers go on as on a
machine: their helpers (containerd-shim) live on, and so does the machine's first process.
"""

import json
import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from engine import Reached, ToolFailed, install_tools, remove_folder
from processes import child_of, descendants
from shared_engine import import_image

_PATIENCE_S = 60.0
_DISK = 8 * 2**20
_OURS = (b"/.occd-init", b"runc", b"\0")

# The first process takes the ends of orphans, as a machine's does. What the engine writes of its containers
# lies on a small disk of its own.
_MACHINE = """\
ip link set lo up
mkdir -p /etc/docker {folder}/data/containers
for folder in /etc/docker /opt /run; do mount -t tmpfs -o mode=755 none $folder; done
mount --bind {folder}/data {folder}/data
mount --make-shared {folder}/data  # else the engine does both, on top of the disk
mount -t tmpfs -o mode=710,size={disk} none {folder}/data/containers
echo up
exec python3 -c 'import signal
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
while True: signal.pause()'
"""
_ENGINE = """\
rm -f {folder}/pid
exec dockerd --data-root {folder}/data --exec-root {folder}/exec --pidfile {folder}/pid \
    --host unix://{folder}/socket --config-file {folder}/daemon.json --cgroup-parent /{folder.name} \
    --bridge=none --iptables=false --ip6tables=false --ip-forward=false
"""


@dataclass(frozen=True)
class Mortal(Reached):
    machine: subprocess.Popen[bytes]
    _engines: list[subprocess.Popen[bytes]] = field(default_factory=list)
    _killed: list[int] = field(default_factory=list)
    """Their pidfds."""

    def start(self) -> None:
        """Start the engine, and wait until it answers. One that ends is started again, as on a machine: when
        there is much to do, it does not wait for its containerd."""
        self.launch()
        deadline = time.monotonic() + _PATIENCE_S
        while not self.is_up():
            assert time.monotonic() < deadline, (self.folder / "log").read_text()[-3000:]
            if self._engines[-1].poll() is not None:
                self.launch()
            time.sleep(0.1)

    def launch(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self._engines.append(
                subprocess.Popen(
                    self.entered("sh", "-euc", _ENGINE.format(folder=self.folder)),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                )
            )

    def entered(self, *argv: str, network: bool = True) -> list[str]:
        """A command that runs these arguments on its machine, as its child."""
        first = child_of(self.machine.pid)
        spaces = ["--mount", "--pid", *["--net"] * network]
        return ["nsenter", f"--target={first}", *spaces, "--", *argv]

    def signal(self, number: signal.Signals) -> None:
        with suppress(ValueError, ProcessLookupError):  # it has died already
            os.kill(child_of(self._engines[-1].pid), number)

    def kill(self) -> None:
        with suppress(ValueError, ProcessLookupError):  # it has died already
            self._killed.append(os.pidfd_open(child_of(self._engines[-1].pid)))
        self.signal(signal.SIGKILL)
        self._engines[-1].kill()  # nsenter, which stands still when the engine does
        self._engines[-1].wait()

    def died(self) -> bool:
        """Whether the engine that was killed last has gone, which may wait for a disk. Until then its
        connections are open, and nobody knows that it dies."""
        return bool(select.select(self._killed[-1:], [], [], 0)[0])

    def kill_containerd(self) -> None:
        """The engine starts another."""
        for proc in descendants(child_of(self._engines[-1].pid)):
            if Path(f"/proc/{proc.pid}/comm").read_text() == "containerd\n":
                os.kill(proc.pid, signal.SIGKILL)

    @contextmanager
    def held(self) -> Iterator[None]:
        """It stands still, and its socket takes connections."""
        self.signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.signal(signal.SIGCONT)

    @contextmanager
    def full(self) -> Iterator[None]:
        """It has no byte left to write of new containers."""
        filler = Path(
            f"/proc/{child_of(self.machine.pid)}/root{self.folder}/data/containers/filler"
        )
        try:
            with pytest.raises(OSError, match="No space left"):
                filler.write_bytes(bytes(_DISK + 4096))
            yield
        finally:
            filler.unlink()

    def containers(self) -> list[str]:
        """Their state and their name, as the engine tells them."""
        told = self.docker("ps", "--all", "--format", "{{.State}} {{.Names}}")
        return sorted(told.splitlines())

    def names(self, state: str = "") -> list[str]:
        """Of its containers, or of those in this state."""
        told = [
            each.partition(" ") for each in self.containers()
        ]  # one that goes has lost its name
        return [name for found, _, name in told if name and state in ("", found)]

    def ids(self) -> set[str]:
        """Of all its containers. Some that it lists as dead are none, as it says when asked about them: it
        was killed while it removed them (docs/operating.md)."""
        return {
            id
            for id in self.docker("ps", "--all", "--quiet", "--no-trunc").split()
            if self._has(id)
        }

    def _has(self, id: str) -> bool:
        try:
            self.docker("inspect", id)
        except ToolFailed as error:
            if "No such object" not in str(error):
                raise
            return False
        return True

    def programs(self) -> list[int]:
        """The processes in its containers."""
        machine = child_of(self.machine.pid)
        first = os.readlink(f"/proc/{machine}/ns/pid")
        found = []
        for each in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if os.readlink(each / "ns/pid") != first and _is_below(int(each.name), machine):
                    found.append(int(each.name))
        return found

    def inits(self) -> list[int]:
        """The first processes of its containers."""
        return [pid for pid in self.programs() if _is_first(pid)]

    def unborn(self) -> list[int]:
        """Those that runc has made, and that wait for the engine's word to become a container's init. One
        whose engine was killed before the word waits for ever: the engine that returns does not know it."""
        return [pid for pid in self.programs() if _argv(pid) == b"runc\0init\0"]

    def end_unborn(self) -> None:
        """As the operator does who reads docs/operating.md."""
        for pid in self.unborn():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def strangers(self) -> list[int]:
        """Those of them that are strangers' programs: no container's init, what becomes one, or a zombie."""
        return [pid for pid in self.programs() if not _argv(pid).startswith(_OURS)]

    def end(self) -> None:
        self.machine.kill()  # with it goes all that is in its namespace
        self.machine.wait()
        for each in self._engines:
            each.kill()
            each.wait()
        for pidfd in self._killed:
            os.close(pidfd)


def _argv(pid: int) -> bytes:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes() or b"\0"
    return b"\0"


def _is_first(pid: int) -> bool:
    """In its own namespace."""
    with suppress(OSError):
        status = Path(f"/proc/{pid}/status").read_text()
        return status.partition("NSpid:")[2].partition("\n")[0].split()[-1] == "1"
    return False


def _is_below(pid: int, ancestor: int) -> bool:
    while pid > 1 and pid != ancestor:
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return pid == ancestor


@contextmanager
def mortal_engine(**settings: object) -> Iterator[Mortal]:
    """An engine with the image IMAGE of `shared_engine.py`. `settings` are those of its daemon.json."""
    install_tools()
    folder = Path(tempfile.mkdtemp(prefix="occd-mortal-", dir="/var/tmp"))  # /tmp may be memory
    try:
        (folder / "daemon.json").write_text(json.dumps(settings))
        machine = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL",
             "unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--net",
             "sh", "-euc", _MACHINE.format(folder=folder, disk=_DISK)],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        )  # fmt: skip
        engine = Mortal(folder, machine)
        try:
            assert machine.stdout
            with machine.stdout as told:
                assert told.readline() == b"up\n"
            engine.start()
            import_image(engine)
            yield engine
        finally:
            engine.end()
    finally:
        remove_folder(folder)
