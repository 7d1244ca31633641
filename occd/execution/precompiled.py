"""What the compilations of a language have in common is made once for each version, by `occd warm` or in the
background, and never while somebody waits for it: a compiler that finds no part works without it.

A part is made in a jail of the root that has the compiler, and later shown to the programs of this root. Its
name tells all that it was made from, so another compiler makes another one. The results are the same with
and without it, so it is no part of the names in the cache (`built.py`).
"""

import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import structlog
import trio

from occd import __version__, metrics
from occd.config import Config
from occd.errors import SandboxFailed
from occd.execution.parts import Parts
from occd.languages import Language
from occd.languages.installed import Installed
from occd.model import Limits, Outcome
from occd.sandbox import Run, Sandbox, Sink
from occd.sandbox.find import named

log = structlog.get_logger()

_LOOK_S = 60.0
"""The time between two looks whether a compiler is another one now."""
_AGAIN_S = 0.5
_BOX_MAX = 2**30
_LEAST = 2**20
"""With less room, nothing is tried."""
_LIMITS = Limits(
    cpu_time=1200.0,
    wall_time=3600.0,  # it has the lowest priority
    memory=3 * 2**30,  # with the files
    processes=512,
    file_size=_BOX_MAX,
    open_files=1024,
)
_NICE = ("/usr/bin/nice", "-n", "19", "/bin/sh", "-ec")


@dataclass(frozen=True, slots=True)
class Part:
    """`place` is where programs find it."""

    language: Language = field(compare=False)
    installed: Installed
    name: str
    place: str

    @property
    def env(self) -> dict[str, str]:
        return self.language.environment(self.installed.binary, self.installed.version)

    def __str__(self) -> str:
        root = f" in {named(self.installed.root)}" if self.installed.root else ""
        return f"{self.language.name} {self.installed.version}{root}: {self.name}"


Tell = Callable[[Part, str, bool], None]
"""Hears what came of a part, in words, and whether this is well."""


class _Failed(Exception):
    pass


class Precompiled:
    def __init__(self, config: Config, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        folder = config.precompiled_folder if sandbox.shows else None
        self.is_on = folder is not None
        self._parts = Parts(folder or Path(), config.precompiled.bytes)
        self._shown: dict[Part, tuple[str, int]] = {}
        """Their names and sizes."""

    @property
    def languages(self) -> tuple[str, ...]:
        """Those of which programs find something."""
        found = (part.language.id for part, (_, size) in self._shown.items() if size)
        return tuple(dict.fromkeys(found))

    async def run(self) -> None:
        """Make what is missing, now and whenever a compiler has changed."""
        while self.is_on:
            try:
                await self.make(_log)
            except (OSError, SandboxFailed) as error:
                log.warning("nothing can be precompiled", reason=str(error))
            wanted = await self._wanted()
            # No event tells that a package was upgraded.
            while await self._wanted() == wanted:  # noqa: ASYNC110
                await trio.sleep(_LOOK_S)

    async def show(self) -> None:
        """Show the parts that are there, without a look at their contents."""
        if not self.is_on or not self._parts.any:
            return
        for part, name in (await self._wanted()).items():
            if (size := self._parts.size(name)) is not None:
                await self._show(part, name, size)

    async def look(self) -> tuple[list[Part], list[Part]]:
        """The parts that are there, as far as their sizes tell, and those that are missing."""
        wanted = await self._wanted()
        there = [part for part, name in wanted.items() if self._parts.size(name) is not None]
        return there, [part for part in wanted if part not in there]

    async def make(self, tell: Tell) -> None:
        """Show the parts that are there, and make the others, one after the other. Raises OSError when the
        folder cannot be used."""
        if not self.is_on:
            return
        wanted = await self._wanted()
        for part, (name, _) in tuple(self._shown.items()):
            if wanted.get(part) != name:
                await self._hide(part)
        missing = {
            part: name
            for part, name in wanted.items()
            if part not in self._shown and not await self._find(part, name, tell)
        }
        self._tell_metrics(len(wanted))
        async with self._locked():
            await trio.to_thread.run_sync(self._parts.tidy, set(wanted.values()))
        for part, name in missing.items():
            async with self._locked():  # others may make the next one
                if not await self._find(part, name, tell):
                    await self._make(part, name, tell)
            self._tell_metrics(len(wanted))

    async def _wanted(self) -> dict[Part, str]:
        """The newest versions of all languages first: for the others there may be no room."""
        found = [
            (
                number,
                Part(language, each, name, f"{language.precompiled_place(each.binary)}/{name}"),
            )
            for id, versions in self._sandbox.available.items()
            if (language := self._sandbox.languages[id]).precompiled
            for number, each in enumerate(versions)
            for name in language.precompiled.parts
        ]
        found.sort(key=lambda each: (each[0], each[1].language.id))
        parts = [part for _, part in found]
        names = await trio.to_thread.run_sync(lambda: [self._name(part) for part in parts])
        return dict(zip(parts, names, strict=True))

    def _name(self, part: Part) -> str:
        made_from = (
            __version__,
            part.language.id,
            part.installed,
            part.name,
            part.language.precompiled,
            sorted(part.env.items()),
            self._sandbox.identity(part.installed),
        )
        digest = hashlib.sha256(repr(made_from).encode(errors="surrogateescape")).hexdigest()
        return f"{part.language.id}-{part.name}-{digest[:32]}"

    async def _find(self, part: Part, name: str, tell: Tell) -> bool:
        """Show a part that is there."""
        size = await trio.to_thread.run_sync(self._parts.size_if_whole, name)
        if size is None:
            return False
        if await self._show(part, name, size):
            tell(part, "is there" if size else "needs nothing", True)
        else:
            tell(part, "cannot be shown to programs", False)
        return True

    async def _show(self, part: Part, name: str, size: int) -> bool:
        assert self._sandbox.shows
        try:
            await self._sandbox.shows.show(self._parts.files(name), part.place, part.installed.root)
        except (OSError, SandboxFailed) as error:
            log.warning("a folder cannot be shown to programs", part=str(part), reason=str(error))
            return False
        self._shown[part] = name, size
        return True

    async def _hide(self, part: Part) -> None:
        assert self._sandbox.shows
        del self._shown[part]
        await self._sandbox.shows.hide(part.place, part.installed.root)

    async def _make(self, part: Part, name: str, tell: Tell) -> None:
        began = trio.current_time()
        try:
            size = await self._made(part, name)
        except (OSError, SandboxFailed, _Failed) as error:
            tell(part, f"failed: {error}", False)
            return
        took = trio.current_time() - began
        if await self._show(part, name, size):
            told = f"made in {took:.1f} s, {size / 1e6:.0f} MB" if size else "needs nothing"
            tell(part, told, True)

    async def _made(self, part: Part, name: str) -> int:
        """Its size. The cell's tree is in memory, so nobody else comes to see it before it is whole."""
        language, room = part.language, self._parts.room
        assert language.precompiled
        if room < _LEAST:
            raise _Failed("there is no more room: see precompiled.bytes")
        limits = replace(_LIMITS, box=min(room, _BOX_MAX))
        argv = [*_NICE, language.precompiled.build, "build", part.installed.binary, part.name]
        env = tuple(part.env.items())
        sink = Sink(limits.output)
        async with self._sandbox.cell(language, (), limits, part.installed.root) as cell:
            ended = await cell.run(Run(argv, env, limits, sink, sink, keep=True))
            if not ended.outcome.succeeded:
                raise _Failed(_why(ended.outcome))
            assert ended.tree
            about = {
                "language": language.id,
                "version": part.installed.version,
                "binary": part.installed.binary,
                "root": part.installed.root,
                "part": part.name,
            }
            return await trio.to_thread.run_sync(self._parts.keep, name, ended.tree.folder, about)

    @asynccontextmanager
    async def _locked(self) -> AsyncIterator[None]:
        while True:
            with ExitStack() as held:
                if held.enter_context(self._parts.locked()):
                    yield
                    return
            await trio.sleep(_AGAIN_S)

    def _tell_metrics(self, wanted: int) -> None:
        metrics.PRECOMPILED_BYTES.set(sum(size for _, size in self._shown.values()))
        metrics.PRECOMPILED_MISSING.set(wanted - len(self._shown))


def _why(outcome: Outcome) -> str:
    if outcome.limit:
        return f"it met the limit {outcome.limit}"
    lines = outcome.stderr.head.decode(errors="replace").split("\n")
    said = [each.strip() for each in lines if each.strip()]
    said.sort(key=lambda line: "error" not in line.lower())
    return said[0] if said else f"it ended with {outcome.exit_code or outcome.signal}"


def _log(part: Part, words: str, well: bool) -> None:
    if well:
        log.info("precompiled", part=str(part), what=words)
    else:
        log.warning("not precompiled", part=str(part), why=words)
