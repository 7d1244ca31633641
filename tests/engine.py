"""A Docker engine of the tests' own, and nothing of it left afterwards.

It lives in process and mount namespaces of its own: when its first process dies, so do its containers
and its mounts. For building it uses the machine's network, without touching it. For running it has a
network of its own too, so that its bridges, addresses, firewall rules and published ports meet nobody.
For the sandbox it has a network of its own without anything in it.
"""

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

_TOOLS = {
    "dockerd": "docker.io",
    "docker": "docker.io",
    "iptables": "iptables",
    "debootstrap": "debootstrap",
    "runsc": "runsc",
}
# Debian 12 has Compose 1 only, which does not know systempaths=unconfined. PyPI has a build of Compose 2.
_COMPOSE = Path(__file__).resolve().parents[1] / "packaging/locked/compose.txt"
_CLONE_NEWNET = 0x40000000
_STEP_TIMEOUT_S = 1800
_PATIENCE_S = 60.0

# Where the engine would leave files in the machine's own folders, it finds empty ones.
_START = """\
ip link set lo up
mkdir -p /etc/docker
for folder in /etc/docker /opt /run; do mount -t tmpfs -o mode=755 none $folder; done
exec dockerd --data-root {folder}/data --exec-root {folder}/exec --pidfile {folder}/pid \
    --host unix://{folder}/socket --config-file {folder}/daemon.json --cgroup-parent /{folder.name} {options}
"""
_NO_BRIDGE = "--bridge=none --iptables=false --ip6tables=false --ip-forward=false"


class ToolFailed(AssertionError):
    """The text is what it said."""


@dataclass(frozen=True)
class Reached:
    """An engine that somebody has started in this folder."""

    folder: Path

    @property
    def host(self) -> str:
        return f"unix://{self.folder}/socket"

    @property
    def _environment(self) -> dict[str, str]:
        clean = {name: value for name, value in os.environ.items() if name[:5] != "OCCD_"}
        return clean | {
            "DOCKER_HOST": self.host,
            "DOCKER_CONFIG": str(self.folder / "client"),
            "DOCKER_BUILDKIT": "0",  # BuildKit would look for the base image in a registry
        }

    def docker(self, *argv: str | Path) -> str:
        """What it printed. Raises ToolFailed."""
        return call("docker", *argv, environment=self._environment)

    def is_up(self) -> bool:
        try:
            self.docker("info")
        except ToolFailed:
            return False
        return True


@dataclass(frozen=True)
class Engine(Reached):
    process: subprocess.Popen[bytes]

    def compose(self, *argv: str | Path) -> str:
        return call(*self._compose(), *argv, environment=self._environment)

    def _compose(self) -> tuple[str | Path, ...]:
        carried = self.folder / "compose/compose/docker-compose"
        return (carried,) if carried.exists() else ("docker", "compose")

    def inside(self, function: Callable[[], T]) -> T:
        """Call it from within the engine's network, where the published ports are."""

        def enter() -> T:
            with open(f"/proc/{self._daemon}/ns/net") as network:
                libc = ctypes.CDLL(None, use_errno=True)
                if libc.setns(network.fileno(), _CLONE_NEWNET) != 0:
                    raise OSError(ctypes.get_errno(), "setns")
            return function()

        with ThreadPoolExecutor(1) as pool:  # only this thread enters, and it ends here
            return pool.submit(enter).result()

    @property
    def _daemon(self) -> int:
        first = self.process.pid
        return int(Path(f"/proc/{first}/task/{first}/children").read_text())

    def stop(self) -> None:
        with suppress(ValueError, ProcessLookupError):  # it has ended already
            os.kill(self._daemon, signal.SIGTERM)
        try:
            self.process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()  # with it goes all that is in its namespace
            self.process.wait()


@contextmanager
def engine_folder() -> Iterator[Path]:
    """Where engines keep their images, one after the other; removed at the end."""
    install_tools()
    folder = Path(tempfile.mkdtemp(prefix="occd-images-", dir="/var/tmp"))  # /tmp may be memory
    try:
        (folder / "daemon.json").write_text("{}")  # instead of the machine's
        _install_compose(folder)
        yield folder
    finally:
        remove_folder(folder)


def remove_folder(folder: Path) -> None:
    """Of an engine that has ended, with its control groups."""
    shutil.rmtree(folder)
    groups = Path("/sys/fs/cgroup")
    for group in (groups / folder.name, *groups.glob(f"*/{folder.name}")):
        if group.exists():
            _remove_group(group)


@contextmanager
def engine(folder: Path, *, building: bool) -> Iterator[Engine]:
    """Behind the tests of the same time: it has long work."""
    network = [] if building else ["--net"]
    with _engine(folder, network, ["nice"], _NO_BRIDGE if building else "") as found:
        yield found


@contextmanager
def sandbox_engine(folder: Path) -> Iterator[Engine]:
    """Its containers get what the programs of other sandboxes get of the processors."""
    with _engine(folder, ["--net"], [], _NO_BRIDGE) as found:
        yield found


@contextmanager
def _engine(
    folder: Path, network: Sequence[str], rank: Sequence[str], options: str
) -> Iterator[Engine]:
    script = _START.format(folder=folder, options=options)
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL",
             "unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", *network,
             *rank, "sh", "-euc", script],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
    found = Engine(folder, process)
    try:
        deadline = time.monotonic() + _PATIENCE_S
        while not found.is_up():
            said = (folder / "log").read_text()[-3000:]
            assert process.poll() is None, said
            assert time.monotonic() < deadline, said
            time.sleep(0.2)
        yield found
    finally:
        found.stop()


def call(*argv: str | Path, environment: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        ["nice", *argv],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_STEP_TIMEOUT_S,
    )
    if done.returncode != 0:
        said = (done.stdout + done.stderr)[-5000:]
        raise ToolFailed(f"{' '.join(map(str, argv))}: exit code {done.returncode}\n{said}")
    return done.stdout


def install_tools() -> None:
    assert os.geteuid() == 0, "an engine of our own needs root"
    missing = {package for tool, package in _TOOLS.items() if not shutil.which(tool)}
    if missing:
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        apt_get = ("apt-get", "-qq", "-o", "DPkg::Lock::Timeout=300")
        call(*apt_get, "update", environment=environment)
        call(
            *apt_get,
            "install",
            "--yes",
            "--no-install-recommends",
            *sorted(missing),
            environment=environment,
        )


def _install_compose(folder: Path) -> None:
    with suppress(ToolFailed):
        if tuple(
            map(int, call("docker", "compose", "version", "--short").lstrip("v").split(".")[:2])
        ) >= (2, 15):
            return
    call(
        *(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
        *("--require-hashes", "--only-binary", ":all:", "--no-deps"),
        *("--target", folder / "compose", "--requirement", _COMPOSE),
    )


def _remove_group(group: Path) -> None:
    for child in group.glob("*/"):
        _remove_group(child)
    with suppress(FileNotFoundError):  # the same hierarchy can be mounted twice
        group.rmdir()
