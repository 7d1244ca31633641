"""Templates: interpreters that have started already. A program gets a copy of one, in a jail of its own
(`sandbox/init/warm.c`), and does not wait for its interpreter's start.

A template belongs to a slot, whose user its copies have. It serves the usual command of its language alone:
all that an interpreter looks at before its main file must be the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import Protocol

import structlog
import trio

from occd import metrics
from occd.languages import Installed, Language
from occd.sandbox import Run
from occd.sandbox.program import environment

log = structlog.get_logger()

_EXTRA = 2**20
"""Bytes that a template takes beside the memory of its interpreter."""
_UNKNOWN = 24 * 2**20
"""Bytes that a template is taken to have while none of its interpreter has served: or a quarter of what all
may take, if this is less."""
_AGAIN_S = 600.0
_STALE_S = 10.0
_STACK = 2**30
"""As in `sandbox/init/warm.c`: the room for the stack that a copy has."""


@dataclass(frozen=True, slots=True)
class Template:
    """The command of an interpreter with its environment. `file` is the main file at which it stops."""

    argv: tuple[str, ...]
    env: tuple[str, ...]
    file: str
    forks: bool
    """Otherwise it serves one program itself, and is started anew in the next jail."""


def template_of(language: Language, versions: Sequence[Installed], run: Run) -> Template | None:
    """The template of which a program can be a copy. `versions` are those that answered."""
    if not language.warm or run.tty or run.trace or run.limits.memory > _STACK:
        return None
    usual = any(
        language.argv(language.run, each.binary, language.file_name, (), (), run.limits.memory)
        == list(run.argv)
        for each in versions
    )
    if not usual or dict(run.env) != language.env:
        return None
    forks = language.warm == "fork"
    return Template(tuple(run.argv), tuple(environment(run)), run.argv[-1], forks)


@dataclass(slots=True)
class _Kept:
    size: int
    used_at: float


class Templates:
    """What is known of the templates of all slots, and how much memory they take."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._kept: dict[tuple[Holder, Template], _Kept] = {}
        """The one that was used last is the last."""
        self._sizes: dict[str, int] = {}
        """In bytes, as they were found last, by interpreter: programs choose what else is in a command."""
        self._failed_at: dict[Template, float] = {}

    def may_begin(self, holder: "Holder", template: Template) -> bool:
        """Whether it may be made, and is counted from now on. One that failed may be tried again after ten
        minutes. Where there is no room, it takes the place of one that was not used for long: else many slots
        would make templates in turn, which costs more than they give."""
        now = trio.current_time()
        size = self._sizes.get(template.argv[0], min(_UNKNOWN, self._bytes_max // 4))
        stale = (now - kept.used_at for kept in self._kept.values())
        may = (
            now > self._failed_at.get(template, -inf) + _AGAIN_S
            and 0 < size <= self._bytes_max
            and (self.bytes + size <= self._bytes_max or next(stale, 0) > _STALE_S)
        )
        if may:
            self._kept[holder, template] = _Kept(size, now)
            self._tell()
        return may

    def failed(self, template: Template, reason: str) -> None:
        """Its programs start as others for a while."""
        log.warning("an interpreter cannot be kept ready", argv=template.argv, reason=reason)
        now = trio.current_time()
        self._failed_at = {each: at for each, at in self._failed_at.items() if now <= at + _AGAIN_S}
        self._failed_at[template] = now

    def use(self, holder: "Holder", template: Template, resident: int) -> None:
        """It serves a program. It has `resident` bytes, and so has a copy that stands ready."""
        metrics.COPIES.inc()
        size = (2 if template.forks else 1) * resident + _EXTRA
        self._sizes[template.argv[0]] = size
        self._kept.pop((holder, template), None)
        self._kept[holder, template] = _Kept(size, trio.current_time())
        if size > self._bytes_max:
            self.failed(template, f"it takes {size} bytes, and sandbox.templates is less")
        self._tell()

    def forget(self, holder: "Holder", template: Template) -> None:
        self._kept.pop((holder, template), None)
        self._tell()

    @property
    def serving(self) -> set[str]:
        """The interpreters of which a template is there, and one has served."""
        return {template.argv[0] for _, template in self._kept} & self._sizes.keys()

    async def reduce(self) -> None:
        """End those that were not used for the longest time, until the others keep within the bound."""
        for (holder, template), _ in tuple(self._kept.items()):
            if self.bytes <= self._bytes_max:
                break
            await holder.cool(template)

    @property
    def bytes(self) -> int:
        """Of all together."""
        return sum(kept.size for kept in self._kept.values())

    def _tell(self) -> None:
        metrics.TEMPLATES.set(len(self._kept))
        metrics.TEMPLATE_BYTES.set(self.bytes)


class Holder(Protocol):
    """Whoever has templates."""

    async def cool(self, template: Template) -> None:
        """End a template that is not lent."""
