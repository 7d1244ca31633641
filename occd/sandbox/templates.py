"""Templates: interpreters that have started already. A program gets a copy of one, in a jail of its own
(`sandbox/init/warm.c`), and does not wait for its interpreter's start.

A template belongs to a slot, whose user its copies have. It serves the usual command of its language alone:
all that an interpreter looks at before its main file must be the same. It may have imported packages, and
then serves programs that name them and bring no file of their own in place of a part of them.
"""

from collections.abc import AsyncIterator, Callable, Collection, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from math import inf
from pathlib import PurePosixPath
from typing import Protocol

import structlog
import trio

from occd import metrics
from occd.languages import Given, Language
from occd.languages.installed import Installed
from occd.sandbox import Run
from occd.sandbox.init import Found
from occd.sandbox.program import environment

log = structlog.get_logger()

_EXTRA = 2**20
"""Bytes that a template takes beside the memory of its interpreter."""
_UNKNOWN = 24 * 2**20
"""Bytes that a template is taken to have until one of its kind stands: or a quarter of what all may take, if
this is less."""
_UNKNOWN_WITH_PACKAGES = 56 * 2**20
"""The same of one with packages: or half of what all may take."""
_AGAIN_S = 600.0
_STALE_S = 10.0
_LOOK_S = 2.0
_STACK = 2**30
"""As in `sandbox/init/warm.c`: the room for the stack that a copy has."""
_MODULES = (".py", ".pyc", ".so")


@dataclass(frozen=True, slots=True)
class Template:
    """The command of an interpreter with its environment. `file` is the main file at which it stops, `root`
    the name of the file system that it sees."""

    argv: tuple[str, ...]
    env: tuple[str, ...]
    file: str
    forks: bool
    """Otherwise it serves one program itself, and is started anew in the next jail."""
    root: str
    imports: bool
    """Whether it can import packages. It is prepared by the script that does this, also without a package."""
    packages: tuple[str, ...] = ()

    @property
    def kind(self) -> tuple[str, str, tuple[str, ...]]:
        """Those of one kind have the same memory: programs choose what else is in a command."""
        return self.root, self.argv[0], self.packages


def template_of(
    language: Language, versions: Sequence[Installed], run: Run, root: str
) -> Template | None:
    """The template of which a program can be a copy. `versions` are those that answered."""
    if not language.warm or run.tty or run.trace or run.limits.memory > _STACK:
        return None
    memory = run.limits.memory
    usual = any(
        language.run_argv(Given(each.binary, each.version, language.file_name, memory=memory))
        == list(run.argv)
        and language.environment(each.binary, each.version) == dict(run.env)
        for each in versions
    )
    if not usual:
        return None
    forks = language.warm == "fork"
    return Template(
        tuple(run.argv), tuple(environment(run)), run.argv[-1], forks, root, bool(language.sets)
    )


def with_packages(template: Template, sets: Sequence[tuple[str, ...]]) -> Sequence[Template]:
    """The templates that can serve a program for which these are the sets of packages, the best first."""
    return (*(replace(template, packages=each) for each in sets), template)


def _imported_as(name: str) -> Iterator[str]:
    """What a file may be taken for: itself, and the module that it or one of its folders is."""
    path = PurePosixPath(name)
    yield from map(str, (path, *path.parents[:-1]))
    yield from path.parts[:-1]
    if name.endswith(_MODULES):
        yield path.name.partition(".")[0]


class Templates:
    """What is known of the templates of all slots, and how much memory they take."""

    def __init__(self, bytes_max: int, memory_used: Callable[[], float], used_max: float) -> None:
        """Templates end, and none is made, while `memory_used` tells more than `used_max`."""
        self._bytes_max = bytes_max
        self._memory_used = memory_used
        self._used_max = used_max
        self._tight = False
        self._surplus = trio.Event()
        self._kept: dict[tuple[Holder, Template], float] = {}
        """When each was used. The one that was used last is the last."""
        self._sizes: dict[tuple[str, str, tuple[str, ...]], int] = {}
        """In bytes by kind, as they were found last."""
        self._served: set[tuple[str, str, tuple[str, ...]]] = set()
        self._found: dict[tuple[str, str, tuple[str, ...]], Found] = {}
        self._failed_at: dict[Template, float] = {}
        self._told: set[tuple[Template, str]] = set()

    def may_begin(self, holder: "Holder", template: Template) -> bool:
        """Whether it may be made, and is counted from now on. One that failed may be tried again after ten
        minutes. Where there is no room, it takes the place of those that were not used for long: else many
        slots would make templates in turn, which costs more than they give."""
        now = trio.current_time()
        fresh = (each for (_, each), at in self._kept.items() if now <= at + _STALE_S)
        may = (
            not self._tight
            and now > self._failed_at.get(template, -inf) + _AGAIN_S
            and self._bytes_max > 0
            and self._size(template) + sum(map(self._size, fresh)) <= self._bytes_max
        )
        if may:
            self._kept[holder, template] = now
            self._changed()
        return may

    def _size(self, template: Template) -> int:
        unknown = (
            min(_UNKNOWN_WITH_PACKAGES, self._bytes_max // 2)
            if template.packages
            else min(_UNKNOWN, self._bytes_max // 4)
        )
        return self._sizes.get(template.kind, unknown)

    def failed(self, template: Template, reason: str) -> None:
        """Its programs start as others for a while. Packages that are not there are nobody's fault, and told
        once."""
        if not template.packages:
            log.warning("an interpreter cannot be kept ready", argv=template.argv, reason=reason)
        elif (template, reason) not in self._told:
            self._told.add((template, reason))
            told = {"packages": template.packages, "argv": template.argv, "root": template.root}
            log.info("packages are not kept imported", **told, reason=reason)
        now = trio.current_time()
        self._failed_at = {each: at for each, at in self._failed_at.items() if now <= at + _AGAIN_S}
        self._failed_at[template] = now

    def learn(self, template: Template, resident: int, found: Found | None) -> None:
        """It stands and has `resident` bytes. So has the copy that stands ready, unless the template has
        `found` out what its copies take."""
        copied = found.copied if found else resident
        size = resident + _EXTRA + (copied if template.forks else 0)
        if found:
            if template.packages and template.kind not in self._found:
                log.info(
                    "packages are kept imported",
                    packages=template.packages, interpreter=template.argv[0], root=template.root,
                    bytes=resident, bytes_of_a_copy=copied, cpu_s=round(found.cpu_time, 3),
                )  # fmt: skip
            self._found[template.kind] = found
        self._sizes[template.kind] = size
        if size > self._bytes_max:
            self.failed(template, f"it takes {size} bytes, and sandbox.templates is less")
        self._changed()

    def hides(self, template: Template, files: Collection[str]) -> bool:
        """Whether its packages hide one of these files of a program, which Python would have found first."""
        found = self._found.get(template.kind) if template.packages else None
        return found is not None and any(
            name in found.names for file in files for name in _imported_as(file)
        )

    def use(self, holder: "Holder", template: Template) -> None:
        """It serves a program."""
        metrics.COPIES.inc()
        self._served.add(template.kind)
        self._kept.pop((holder, template), None)
        self._kept[holder, template] = trio.current_time()
        self._changed()

    def forget(self, holder: "Holder", template: Template) -> None:
        self._kept.pop((holder, template), None)
        self._changed()

    @property
    def serving(self) -> set[str]:
        """The interpreters of which a template is there, and one has served."""
        return {kept.argv[0] for _, kept in self._kept if kept.kind in self._served}

    def reduce(self) -> None:
        """Have the bound kept, soon."""
        if self.bytes > self._bytes_max or self._unknown():
            self._surplus.set()

    def _unknown(self) -> list[tuple["Holder", Template]]:
        """Those of whose kind none is known to stand."""
        return [(holder, each) for holder, each in self._kept if each.kind not in self._sizes]

    @asynccontextmanager
    async def tended(self) -> AsyncIterator[None]:
        """Beside all programs, end templates that are too many, or for which there is no memory: those first
        that were not used for the longest time."""
        ended, until = trio.Event(), trio.CancelScope()

        async def tend() -> None:
            with until:
                await self._tend()
            ended.set()

        # A nursery would wrap the errors of whoever has the sandbox.
        trio.lowlevel.spawn_system_task(tend)
        try:
            yield
        finally:
            until.cancel()
            with trio.CancelScope(shield=True):
                await ended.wait()

    async def _tend(self) -> None:
        while True:
            with trio.move_on_after(_LOOK_S):
                await self._surplus.wait()
            self._surplus = trio.Event()
            for holder, template in self._unknown():
                await holder.weigh(template)
            too_large = [each for each in self._kept if self._size(each[1]) > self._bytes_max]
            for holder, template in dict.fromkeys((*too_large, *self._kept)):
                if self.bytes <= self._bytes_max and not self._is_tight():
                    break
                await holder.cool(template)
            self._tight = self._is_tight()

    def _is_tight(self) -> bool:
        return self._memory_used() > self._used_max

    @property
    def bytes(self) -> int:
        """Of all together."""
        return sum(self._size(template) for _, template in self._kept)

    def _changed(self) -> None:
        metrics.TEMPLATES.set(len(self._kept))
        metrics.TEMPLATE_BYTES.set(self.bytes)


class Holder(Protocol):
    """Whoever has templates."""

    async def cool(self, template: Template) -> None:
        """End a template that is not lent."""

    async def weigh(self, template: Template) -> None:
        """Tell what a template takes that stands and is not lent. One that failed is ended."""
