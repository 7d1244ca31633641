"""Jails made by nsjail.

Theory of operation. All jails of an occd process share a host (`host.py`), with read-only roots (`roots.py`),
of which a jail shows one. A `Jailer` (`jailer.py`) outlives a submission. It holds a leased slot (a host uid
and a name, `slots.py`) and a launcher (`launcher.py`), whose next jail stands ready and shows the jailer's
root. A cell takes a jailer, or makes one, and gives it back.

Each run has a jail of its own (`jail.py`) and a box of its own (`box.py`). A control group holds its limits
(`group.py`). The box is mounted at the launcher's place, comes to the jail with its job, and is moved away
from its place before the program starts, so that the next jail can never show it. A jail that nsjail made
itself shows the box that was mounted at the place when it was made.
"""

import os
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar, TypeVarTuple, Unpack

import structlog
import trio

from occd import rules
from occd.config import Config
from occd.errors import SandboxFailed, SandboxUnavailable
from occd.languages import Language
from occd.languages.installed import Installed
from occd.languages.loading import load_languages
from occd.levels import Holds, holding, refuse_less
from occd.model import File, Limits
from occd.sandbox import (
    Cell,
    Collected,
    Ended,
    Packed,
    Run,
    Running,
    Shows,
    Tell,
    Tree,
    identity,
    kernel,
    unheard,
)
from occd.sandbox.box import Place, seal, together
from occd.sandbox.collect import collect
from occd.sandbox.group import Group
from occd.sandbox.host import Host, open_host
from occd.sandbox.jail import run_in_jail
from occd.sandbox.jailer import END_S, Jailer, Ready
from occd.sandbox.packed import entries_of, pack
from occd.sandbox.probe import Probe, Probed, why_untraced
from occd.sandbox.proof import prove, unproven_of_jail
from occd.sandbox.rootfs import hide, show_more
from occd.sandbox.slots import Slot, lease, ownerless
from occd.sandbox.templates import template_of, with_packages
from occd.sandbox.tree import BYTES_MAX, Copied, opened

log = structlog.get_logger()

_CLOSE_S = 30.0
_MANY = 3
"""A cell with so many runs will have more: then a jail is made for the next run while this one goes, unless
this one is made ready beside others already."""
_AGAIN_S = 1.0
_LONG = 2**20  # bytes that take longer to write than a thread takes to start
_MANY_ENTRIES = 32  # of a tree: copying them takes longer than a thread takes to start

Args = TypeVarTuple("Args")
R = TypeVar("R")


class _Cell:
    def __init__(
        self,
        host: Host,
        jailer: Jailer,
        language: Language,
        versions: Sequence[Installed],
        files: Sequence[File],
        sets: Sequence[tuple[str, ...]],
        box: int,
    ) -> None:
        """`box` is the size of each box in bytes. `sets` are of packages that the files name, the best
        first."""
        self._host = host
        self._language = language
        self._versions = versions
        self._jailer = jailer
        self._files = files
        self._sets = sets
        self._box = box
        self._runs = 0
        self._trees = ExitStack()
        self._kept: list[Tree] = []
        self._copied: dict[Tree, Copied | None] = {}
        """What the latest copy of each tree had, None for a tree that is too large to be copied."""

    async def run(
        self, run: Run, *, task_status: trio.TaskStatus[Running] = trio.TASK_STATUS_IGNORED
    ) -> Ended:
        self._runs += 1
        number = self._runs
        slot = self._jailer.slot
        template = template_of(self._language, self._versions, run, self._jailer.root)
        if template and template.forks and not self._host.forks:
            template = None
        files = together(self._files, run.files)
        names = [file.name for file in files]
        templates = with_packages(template, self._sets) if template else ()
        if run.tree:  # which may have any files
            templates = templates[-1:]
        if run.turn and self._jailer.keeps(templates):  # which serves one program at a time
            await run.turn()
            run = replace(run, turn=None)
        kept: Tree | None = None
        collected = Collected()
        async with AsyncExitStack() as held:
            ready = await held.enter_async_context(
                self._jailer.launcher(templates, run.limits.memory, names)
            )
            place = ready.place
            await place.cleared()  # boxes would pile up if their unmounts waited for each other
            group = await held.enter_async_context(self._group(run, ready))
            if number >= _MANY and not ready.template and not run.turn:
                self._jailer.prepare()
            await self._fill(ready, run, files)
            # The last holder of a box frees its memory, which may take 100 ms: the loop must not be it.
            ours, looked = (held.enter_context(ExitStack()) for _ in range(2))
            shown = ours.enter_context(_detached(place)) if ready.forks else None
            box = looked.enter_context(opened(place.path)) if run.collect else None
            if run.keep:
                kept = self._move(place, Tree(self._jailer.folder / f"tree{number}"))
            place.renew()
            place.clear_beside(self._jailer.tidy)
            outcome, trace = await run_in_jail(
                ready, slot.uid, run, group, shown, ours.close, task_status
            )
            if run.collect and box is not None:
                with_box = partial(collect, box, run.collect)
                collected = await trio.to_thread.run_sync(_then, with_box, looked.close)
        if kept:
            seal(kept.folder)
        self._jailer.warm(templates, names)
        self._host.templates.reduce()
        return Ended(outcome, kept, collected, trace)

    async def _fill(self, ready: Ready, run: Run, files: Sequence[File]) -> None:
        """Fill the box of the jail that stands ready: with the files, if not with a tree."""
        place = ready.place
        if not run.tree:
            size = self._box + rules.room(len(file.content) for file in run.files)
            await _in_thread_if(_are_long(files), place.fill, files, size)
            return
        long = _are_long(run.files)
        if isinstance(run.tree, Packed):
            tree = run.tree.data
            slow = long or len(tree) > _LONG or entries_of(tree) > _MANY_ENTRIES
            await _in_thread_if(slow, place.unpack, tree, run.files, self._box)
            return
        folder = run.tree.folder
        known = self._copied.get(run.tree)
        if known or run.tree not in self._copied:
            slow = long or known is None or _is_slow(known)
            copied = await _in_thread_if(slow, place.copy, folder, run.files, self._box)
            self._copied[run.tree] = copied
            if copied:
                return
            place.renew()
        await _in_thread_if(long, place.lay_over, folder, run.files, self._box)
        if not ready.forks:
            await ready.launcher.discard()  # this jail shows the box before

    async def pack(self, tree: Tree, most: int) -> Packed | None:
        data = await trio.to_thread.run_sync(pack, tree.folder, min(most, BYTES_MAX))
        return None if data is None else Packed(data)

    def _move(self, place: Place, tree: Tree) -> Tree:
        """Keep the box as a tree until the cell is closed."""
        place.move_to(tree.folder)
        self._kept.append(tree)
        self._trees.callback(tree.folder.rmdir)
        self._trees.callback(kernel.unmount, str(tree.folder))
        return tree

    @asynccontextmanager
    async def _group(self, run: Run, ready: Ready) -> AsyncIterator[Group | None]:
        """The group of a program that begins in the jail that stands ready."""
        place = self._host.interactive if run.interactive else self._host.cgroups
        if place is None:
            yield None
            return
        memory = run.limits.memory - ready.launcher.jail.resident
        limits = replace(run.limits, memory=memory)
        if run.trace:  # the tracer is one more process
            limits = replace(limits, processes=limits.processes + 1)
        group = self._jailer.group(place, limits)
        try:
            yield group
        except BaseException:  # no process may be left in the group
            with trio.move_on_after(END_S, shield=True):
                await self._jailer.end(ready)
            raise
        finally:
            if not self._jailer.spend(group):
                with trio.CancelScope(shield=True):  # bounded by remove() itself
                    await self._jailer.end_group(group)

    async def close(self) -> None:
        known = (self._copied.get(tree) for tree in self._kept)
        slow = any(copied is None or _is_slow(copied) for copied in known)
        await _in_thread_if(slow, self._trees.close)


def _then(do: Callable[[], R], last: Callable[[], object]) -> R:
    try:
        return do()
    finally:
        last()


@contextmanager
def _detached(place: Place) -> Iterator[int]:
    """The box that is now at this place, for a jail that shows none."""
    mount = kernel.detached(str(place.path))
    try:
        yield mount
    finally:
        os.close(mount)


def _are_long(files: Sequence[File]) -> bool:
    return sum(len(file.content) for file in files) > _LONG


def _is_slow(copied: Copied) -> bool:
    return not copied.whole or copied.bytes > _LONG or copied.entries > _MANY_ENTRIES


async def _in_thread_if(slow: bool, work: Callable[[Unpack[Args]], R], *args: *Args) -> R:
    if slow:
        return await trio.to_thread.run_sync(work, *args)
    return work(*args)


class _Nsjail(Probed):
    def __init__(self, host: Host, languages: dict[str, Language], keep_max: int) -> None:
        """`keep_max` jailers wait for the next cell when nothing runs, and at least one for each root."""
        self._host = host
        self.languages = languages
        self.roots = tuple(host.roots)
        self.probe = Probe(self)
        self.untraced: Mapping[str, str] = dict.fromkeys(self.roots, "sandbox.trace is false")
        self._cleared: set[str] = set()
        self._keep_max = max(keep_max, len(self.roots))
        self._idle: list[Jailer] = []
        """The first has been waiting for the longest time."""
        self._unclear: list[Jailer] = []
        self._changes: Counter[str] = Counter()
        """How often each root was changed."""
        self.unforked: str | None = None

    @property
    def isolation(self) -> list[str]:
        version = self._host.cgroups.version if self._host.cgroups else None
        images = ", ".join(filter(None, self.roots))
        return [
            "nsjail: user, mount, pid, network, ipc, uts and cgroup namespaces, seccomp deny-list",
            f"programs see files of images ({images})" if images else
            "programs see the machine's /usr",
            "a host user id for each job" if "own-uid" in self.holds else
            "weaker: all jobs run as one host user id (occd is not root)",
            f"limits and usage by cgroup v{version}" if version else
            "weaker: no cgroup is ours to use, so memory and CPU time are sampled every 10 ms",
            "the processors shared by job" if "cpu" in self.holds else
            "weaker: a job that starts many sessions takes the processors from its neighbours",
        ]  # fmt: skip

    @property
    def holds(self) -> Holds:
        cgroups = self._host.cgroups
        return holding(
            own_uid=self._host.user.slot_uids is not None,
            memory=cgroups is not None,
            cpu=cgroups is not None and cgroups.shares_cpu,
            own_root=all(root.own for root in self._host.roots.values()),
            own_kernel=False,
        )

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
        self,
        language: Language,
        files: Sequence[File],
        limits: Limits,
        root: str | None = None,
    ) -> AsyncIterator[Cell]:
        try:
            root = self.roots[0] if root is None else root
            sets = language.sets_for(files)
            jailer = self._take(root, language, sets) or self._make_jailer(root)
            cell = _Cell(
                self._host,
                jailer,
                language,
                self.available.get(language.id, ()),
                language.readable(files),
                sets,
                limits.box,
            )
            good = False  # after an error the jailer begins anew
            try:
                yield cell
                good = True
            finally:
                with trio.move_on_after(_CLOSE_S, shield=True):
                    await self._give_back(jailer, cell, good=good)
        except OSError as error:
            raise SandboxFailed(f"the cell could not be made: {error}") from error

    @property
    def stuck(self) -> str | None:
        return self._host.waits.too_long

    def identity(self, installed: Installed) -> str:
        image = self._host.roots[installed.root].image
        files = identity.of_packages(installed.binary) if image is None else image
        return f"nsjail {identity.of_machine()} {files}"

    @property
    def templates(self) -> Sequence[str]:
        serving = self._host.templates.serving
        return [
            id
            for id, versions in self.available.items()
            if self.languages[id].warm and any(each.binary in serving for each in versions)
        ]

    @property
    def shows(self) -> Shows:
        return self

    async def show(self, folder: Path, place: str, root: str) -> None:
        show_more(self._host.roots[root].path, folder, place)
        await self._renew(root)

    async def hide(self, place: str, root: str) -> None:
        hide(self._host.roots[root].path, place)
        await self._renew(root)

    async def _renew(self, root: str) -> None:
        """The next cell's jails show the root as it is now. A cell that runs goes on with what it has."""
        self._changes[root] += 1
        for jailer in [each for each in self._idle if each.root == root]:
            if jailer not in self._idle:  # a cell has taken it meanwhile
                continue
            self._idle.remove(jailer)
            with trio.move_on_after(_CLOSE_S, shield=True):
                await self._give_back(jailer, None, good=True)

    async def first_trial(self) -> None:
        """Find out whether a maker can fork the jails here. If not, nsjail makes each, until occd ends."""
        try:
            await self.trial()
        except SandboxUnavailable as error:
            await self.close()
            self._host = replace(self._host, forks=False)
            await self.trial()
            self.unforked = str(error)

    async def trial(self) -> None:
        with trio.move_on_after(_AGAIN_S):
            await self._clear_again()
        uids = self._host.user.slot_uids
        await prove(self, "a jail", partial(unproven_of_jail, uids=uids))

    def _take(
        self, root: str, language: Language, sets: Sequence[tuple[str, ...]]
    ) -> Jailer | None:
        """The one that was used last: if one has the template with the first of the sets, of those."""
        idle = [jailer for jailer in reversed(self._idle) if jailer.root == root]
        best = (*sets, ())[0]
        idle.sort(key=lambda jailer: not jailer.has(language.file_name, best))
        if not idle:
            return None
        self._idle.remove(idle[0])
        return idle[0]

    def _make_jailer(self, root: str) -> Jailer:
        slot = lease(self._host.folder, self._host.user)
        try:
            self._clear(slot)
            return Jailer(self._host, slot, root, self._changes[root])
        except BaseException:
            self._cleared.discard(slot.name)
            slot.release()
            raise

    async def _give_back(self, jailer: Jailer, cell: _Cell | None, *, good: bool) -> None:
        """Keep a good jailer for the next cell, and close others. A jailer that cannot be cleared is kept
        back and tried again with the next trial: what its program did is known all the same."""
        cleared = False
        try:
            if cell:
                await cell.close()
            if good and jailer.clear and await self._has_room(jailer.root):
                await jailer.reduce(1)
                while jailer.changes != self._changes[jailer.root]:
                    await jailer.renew(self._changes[jailer.root])
                self._idle.append(jailer)
            else:
                await jailer.close()
            cleared = True
        except (OSError, SandboxFailed) as error:
            log.error("a slot cannot be cleared now", slot=jailer.slot.name, reason=str(error))
        finally:
            if not cleared:
                self._unclear.append(jailer)

    async def _has_room(self, root: str) -> bool:
        """Whether one more jailer may wait. Where another root has several, the one that has been waiting for
        the longest time makes room."""
        if len(self._idle) < self._keep_max:
            return True
        counts = Counter(each.root for each in self._idle)
        for each in self._idle:
            if each.root != root and counts[each.root] > 1:
                self._idle.remove(each)
                await self._give_back(each, None, good=False)
                return True
        return False

    async def _clear_again(self) -> None:
        for _ in range(len(self._unclear)):
            jailer = self._unclear.pop(0)
            self._unclear.append(jailer)  # behind the others, which had no turn yet
            with suppress(OSError, SandboxFailed):
                await jailer.close()
                self._unclear.remove(jailer)
                log.info("a slot was cleared after all", slot=jailer.slot.name)

    async def close(self) -> None:
        while self._idle:
            await self._give_back(self._idle.pop(), None, good=False)
        await self._clear_again()


@asynccontextmanager
async def open_nsjail(
    config: Config,
    cache: Path | None,
    only: str | None,
    tell: Tell = unheard,
    soon: bool = False,
    languages: dict[str, Language] | None = None,
) -> AsyncIterator[_Nsjail]:
    with open_host(config) as host:
        sandbox = _Nsjail(host, languages or load_languages(), config.execute.slots)
        sandbox.clear_leftovers()
        try:
            tell("running a trial job")
            await sandbox.first_trial()
            refuse_less(config.sandbox.require, sandbox.holds, "nsjail")  # before the long probing
            sandbox.probe = Probe(sandbox, cache, only)
            await sandbox.probe.start(set(config.languages), tell, soon=soon)
            if config.sandbox.trace and only is None:
                tell("tracing a trial job")
                sandbox.untraced = await why_untraced(sandbox)
            async with host.templates.tended():
                yield sandbox
        finally:
            with trio.move_on_after(_CLOSE_S, shield=True):
                await sandbox.close()
