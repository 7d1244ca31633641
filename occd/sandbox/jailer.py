"""A jailer: a leased slot with its launchers, whose next jails stand ready. It outlives a submission."""

from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
import trio

from occd.errors import SandboxFailed
from occd.model import Limits
from occd.sandbox.box import Place
from occd.sandbox.cgroup import Cgroups
from occd.sandbox.group import Group, remove
from occd.sandbox.host import Host
from occd.sandbox.launcher import Launcher
from occd.sandbox.slots import Slot

log = structlog.get_logger()

_END_S = 30.0


class Jailer:
    """A slot with its launchers: one, or several for a cell with many runs. Their jails show the root of this
    name."""

    def __init__(self, host: Host, slot: Slot, root: str) -> None:
        self._host = host
        self.slot = slot
        self.root = root
        self._shares: dict[Cgroups, str | None] = {}
        self.folder = host.workspace / slot.name
        self.folder.mkdir(mode=0o711)
        self._idle: deque[tuple[Launcher, Place]] = deque()
        """The launcher that ended its run first is the first: its next jail is the likeliest to stand."""
        self.groups: set[Group] = set()
        """Those that were made and are not removed yet."""
        self._spent: list[Group] = []
        """Those of them whose processes are gone."""
        self._ahead: tuple[str, ...] | None = None
        """The folders of the next group."""
        self._groups_made = 0
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
            with trio.move_on_after(_END_S, shield=True):
                await self._end(launcher, place)
            raise
        self._idle.append((launcher, place))

    async def _take(self) -> tuple[Launcher, Place] | None:
        """An idle launcher that lives. Removes the launchers that somebody killed meanwhile."""
        while self._idle:
            launcher, place = self._idle.popleft()
            try:
                await launcher.ready()
                if launcher.lives:
                    return launcher, place
                error = launcher.said()
            except trio.Cancelled:
                self._idle.appendleft((launcher, place))
                raise
            except SandboxFailed as failed:
                error = str(failed)
            log.warning("an idle nsjail had ended", slot=self.slot.name, error=error)
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

    def group(self, place: Cgroups, limits: Limits) -> Group:
        """A group for a run."""
        ahead = None
        if place is self._host.cgroups:
            ahead, self._ahead = self._ahead, None
        group = place.create(ahead or place.make(self._next_name()), limits, self.share(place))
        self.groups.add(group)
        return group

    def _next_name(self) -> str:
        self._groups_made += 1
        return f"{self.slot.name}-{self._groups_made}"

    async def end_group(self, group: Group) -> None:
        """Remove the group of a run that has ended, now or beside the next run. Raises SandboxFailed when a
        process does not end."""
        if group.empty:
            self._spent.append(group)
        else:
            await group.remove()
            self.groups.remove(group)

    def tidy(self) -> None:
        """In a thread beside a run: remove the groups of ended runs, and make the next one."""
        while self._spent:
            group = self._spent[0]
            if not group.removed():  # a process is there after all; `close` waits for it
                return
            self.groups.discard(group)
            self._spent.remove(group)
        if self._ahead is None and self._host.cgroups:
            self._ahead = self._host.cgroups.make(self._next_name())

    async def reduce(self, number: int) -> None:
        """Keep at most `number` launchers."""
        while len(self._idle) > number:
            await self._end(*self._idle.pop())

    @property
    def clear(self) -> bool:
        """Whether nothing of earlier runs is left but groups without processes."""
        return self.groups.issubset(self._spent) and not self._ending

    async def close(self) -> None:
        """Remove everything, and give the slot back last: nobody else may get its user while a process of
        it is left. Raises SandboxFailed or OSError when something cannot be removed; it may be tried
        again."""
        await self.reduce(0)
        for launcher, place in tuple(self._ending):
            await launcher.close()
            await place.cleared()
            place.close()
            self._ending.remove((launcher, place))
        self._spent.clear()
        for group in tuple(self.groups):
            await group.remove()
            self.groups.remove(group)
        if self._ahead:
            await remove(*self._ahead)
            self._ahead = None
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
            argv = self._host.jail_argv(self.slot, place.path, self._host.roots[self.root])
            return Launcher(argv, self._host.tether, self.slot.uid, self._host.waits), place
        except BaseException:
            place.close()
            raise

    async def _end(self, launcher: Launcher, place: Place) -> None:
        """End a launcher, or leave this to `close`."""
        self._ending.append((launcher, place))
        try:
            await launcher.close()
            await place.cleared()
            place.close()
        except (OSError, SandboxFailed) as error:
            log.warning("a launcher does not end", slot=self.slot.name, reason=str(error))
            return
        self._ending.remove((launcher, place))
