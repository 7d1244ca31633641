"""A jailer: a leased slot with its launchers, whose next jails stand ready. It outlives a submission."""

import itertools
import threading
from collections import deque
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import structlog
import trio

from occd import rules
from occd.errors import SandboxFailed
from occd.model import Limits
from occd.sandbox.box import Place
from occd.sandbox.cgroup import Cgroups
from occd.sandbox.group import Group, remove
from occd.sandbox.host import Host
from occd.sandbox.launcher import Launcher
from occd.sandbox.slots import Slot
from occd.sandbox.templates import Template

log = structlog.get_logger()

END_S = 30.0
"""The time for a launcher to end after an error."""
_LATE_S = 0.5
"""The time that a program waits for its template's jail. Then it starts as others do."""
_LATE_MAX = 3
"""A template that is late so often in turn is ended."""


@dataclass(eq=False, slots=True)
class Ready:
    """A launcher and the place of the boxes of its jails. `template` is what its programs begin as, if not
    with an interpreter of their own. The jails of one that `forks` get their boxes with their jobs. Others
    show the box that was at the place when they were made."""

    launcher: Launcher
    place: Place
    template: Template | None
    forks: bool
    lent: bool = False
    late: int = 0
    ended: bool = False


class Jailer:
    """A slot with its launchers: one, or several for a cell with many runs, and one for each template. Their
    jails show the root of this name."""

    def __init__(self, host: Host, slot: Slot, root: str, changes: int) -> None:
        self._host = host
        self.changes = changes
        """Those of the root that its launchers show."""
        self.slot = slot
        self.root = root
        self._shares: dict[Cgroups, str | None] = {}
        self.folder = host.workspace / slot.name
        self.folder.mkdir(mode=0o711)
        self._idle: deque[Ready] = deque()
        """The launcher that ended its run first is the first: its next jail is the likeliest to stand."""
        self._warm: dict[Template, Ready] = {}
        """Also those that are starting, and those that are lent."""
        self.groups: set[Group] = set()
        """Those that were made and are not removed yet."""
        self._spent: list[Group] = []
        """Those of them whose processes are gone."""
        self._ahead: tuple[str, ...] | None = None
        """The folders of the next group."""
        self._numbers = itertools.count(1)
        self._tidying = threading.Lock()
        self._ending: list[Ready] = []
        self._finishing = trio.Lock()
        self._made = 0

    @asynccontextmanager
    async def launcher(
        self, templates: Sequence[Template], memory: int, files: Collection[str]
    ) -> AsyncIterator[Ready]:
        """A launcher whose jail stands ready, with an empty box at its place: that of the first of
        `templates` that has started, is not lent, leaves room in `memory` bytes, and hides none of the
        `files`. The launcher is kept for the next run, unless an error occurs."""
        ready: Ready | None = None
        for template in templates:
            ready = ready or await self._take_warm(template, memory, files)
        ready = ready or await self._take() or self._make(None)
        try:
            await ready.launcher.ready()
            yield ready
        except BaseException:
            with trio.move_on_after(END_S, shield=True):
                await self.end(ready)
            raise
        ready.lent = False
        if not ready.template:
            self._idle.append(ready)

    def warm(self, templates: Sequence[Template], files: Collection[str]) -> None:
        """Have a template made for later runs: the first of these that can be made and hides none of the
        files, unless it is there."""
        for template in templates:
            if not self._host.templates.hides(template, files):
                if template not in self._warm and self._host.templates.may_begin(self, template):
                    self._make_warm(template)
                if template in self._warm:
                    return

    def _make_warm(self, template: Template) -> None:
        try:
            self._warm[template] = self._make(template)
        except OSError as error:  # the program that has just ended shall not pay for it
            self._host.templates.forget(self, template)
            self._host.templates.failed(template, str(error))

    def has(self, file: str, packages: Sequence[str]) -> bool:
        """Whether it has a template with this main file and these packages."""
        return any(each.file == file and each.packages == packages for each in self._warm)

    def keeps(self, templates: Sequence[Template]) -> bool:
        """Whether it has one of these."""
        return not self._warm.keys().isdisjoint(templates)

    async def cool(self, template: Template) -> None:
        """End a template that is not lent."""
        if (ready := self._warm.get(template)) and not ready.lent:
            await self.end(ready)

    async def weigh(self, template: Template) -> None:
        """Tell what a template takes that stands and is not lent. One that failed is ended."""
        if not (ready := self._warm.get(template)) or ready.lent:
            return
        try:
            if await ready.launcher.look():
                self._learn(ready.launcher, template)
        except SandboxFailed as failed:
            self._host.templates.failed(template, str(failed))
            await self.end(ready)

    def _learn(self, launcher: Launcher, template: Template) -> None:
        self._host.templates.learn(template, launcher.jail.resident, launcher.found)

    async def _take_warm(
        self, template: Template, memory: int, files: Collection[str]
    ) -> Ready | None:
        ready = self._warm.get(template)
        if not ready or ready.lent or self._host.templates.hides(template, files):
            return None
        new = not ready.launcher.stood
        if new and not ready.launcher.has_news:
            return None  # its interpreter is still starting
        ready.lent = True
        try:
            if not await ready.launcher.look():
                with trio.fail_after(_LATE_S):
                    await ready.launcher.ready()
            if ready.launcher.lives:
                ready.late = 0
                self._learn(ready.launcher, template)
                least = ready.launcher.jail.resident + rules.LEAST["memory"]  # no group has less
                if memory < least or self._host.templates.hides(template, files):
                    ready.lent = False
                    return None
                self._host.templates.use(self, template)
                return ready
            error = ready.launcher.said()
        except trio.Cancelled:
            ready.lent = False
            raise
        except trio.TooSlowError:
            ready.late += 1
            if ready.late < _LATE_MAX:
                ready.lent = False
                return None
            error = f"no jail stood within {_LATE_S:g} s, {_LATE_MAX} times in turn"
        except SandboxFailed as failed:
            error = str(failed)
        if new:
            self._host.templates.failed(template, error)
        else:
            log.warning("a template had ended", slot=self.slot.name, error=error)
        await self.end(ready)
        return None

    async def _take(self) -> Ready | None:
        """An idle launcher that lives. Removes the launchers that somebody killed meanwhile."""
        while self._idle:
            ready = self._idle.popleft()
            try:
                await ready.launcher.ready()
                if ready.launcher.lives:
                    return ready
                error = ready.launcher.said()
            except trio.Cancelled:
                self._idle.appendleft(ready)
                raise
            except SandboxFailed as failed:
                error = str(failed)
            log.warning("an idle nsjail had ended", slot=self.slot.name, error=error)
            await self.end(ready)
        return None

    def prepare(self) -> None:
        """Have a jail made that a later run will take, while other runs go."""
        if not self._idle:
            self._idle.append(self._make(None))

    async def renew(self, changes: int) -> None:
        """Have another launcher in place of each idle one, but for templates: its jails show the root as it
        was when it was made. Now the root has had so many `changes`."""
        self.changes = changes
        for ready in tuple(self._idle):
            self._idle.remove(ready)
            await self.end(ready)
            self._idle.append(self._make(None))

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
        return f"{self.slot.name}-{next(self._numbers)}"

    def spend(self, group: Group) -> bool:
        """Have the group of a run that has ended removed beside the next run, if its processes are gone."""
        if empty := group.empty:
            self._spent.append(group)
        return empty

    async def end_group(self, group: Group) -> None:
        """Remove the group of a run that has ended. Raises SandboxFailed when a process does not end."""
        await group.remove()
        self.groups.remove(group)

    def tidy(self) -> None:
        """In a thread beside a run: remove the groups of ended runs, and make the next one. Beside a run with
        another launcher, a thread may be at it already: this one does nothing then."""
        if not self._tidying.acquire(blocking=False):
            return
        try:
            while self._spent:
                group = self._spent[0]
                if not group.removed():  # a process is there after all; `close` waits for it
                    return
                self.groups.discard(group)
                self._spent.remove(group)
            if self._ahead is None and self._host.cgroups:
                self._ahead = self._host.cgroups.make(self._next_name())
        except OSError as error:  # the next run makes its group itself
            log.warning("no group is made ahead", slot=self.slot.name, reason=str(error))
        finally:
            self._tidying.release()

    async def reduce(self, number: int) -> None:
        """Keep at most `number` launchers beside the templates."""
        while len(self._idle) > number:
            await self.end(self._idle.pop())

    @property
    def clear(self) -> bool:
        """Whether nothing of earlier runs is left but groups without processes."""
        return self.groups.issubset(self._spent) and not self._ending

    async def close(self) -> None:
        """Remove everything, and give the slot back last: nobody else may get its user while a process of
        it is left. Raises SandboxFailed or OSError when something cannot be removed; it may be tried
        again."""
        await self.reduce(0)
        for ready in tuple(self._warm.values()):
            await self.end(ready)
        for ready in tuple(self._ending):
            await self._finish(ready)
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

    def _make(self, template: Template | None) -> Ready:
        self._made += 1
        host, root = self._host, self._host.roots[self.root]
        place = Place(
            self.folder / f"box{self._made}", self.slot.uid, unprivileged=host.user.uid != 0
        )
        try:
            place.lay_empty()
            if template:
                argv = host.template_argv(self.slot, place.path, root, template)
            else:
                argv = host.jail_argv(self.slot, place.path, root)
            forks = template.forks if template else host.forks
            env = host.deferring if forks else {}
            launcher = Launcher(argv, env, host.tether, self.slot.uid, host.waits)
            return Ready(launcher, place, template, forks)
        except BaseException:
            place.close()
            raise

    async def end(self, ready: Ready) -> None:
        """End a launcher, or leave this to `close`. It may have been ended before."""
        if ready.ended:
            return
        ready.ended = True
        if ready.template:
            del self._warm[ready.template]
            self._host.templates.forget(self, ready.template)
        self._ending.append(ready)
        try:
            await self._finish(ready)
        except (OSError, SandboxFailed) as error:
            log.warning("a launcher does not end", slot=self.slot.name, reason=str(error))

    async def _finish(self, ready: Ready) -> None:
        """The run of another slot may be ending a template of this one while this one is closed."""
        async with self._finishing:
            if ready in self._ending:
                await ready.launcher.close()
                await ready.place.cleared()
                ready.place.close()
                self._ending.remove(ready)
