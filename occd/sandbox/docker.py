"""Containers made by Docker's engine.

Theory of operation. A container (`container.py`) stands ready before its job is known, and serves one run. A
cell takes a container of its image for each run. The images share the containers that stand ready, by use.
Files come as a stream (`archive.py`). A tree is the stream of a box, and is kept in a file of ours that has
no name.
"""

import secrets
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import IO

import trio

from occd import __version__, rules
from occd.config import Config
from occd.errors import ConfigError, OccdError, SandboxFailed, SandboxUnavailable
from occd.images.docker import LABEL, VERSION, again
from occd.images.users import AT_ONCE
from occd.languages import Available, Formatters, Language, load_languages
from occd.levels import Holds, refuse_less
from occd.model import File, Limits
from occd.sandbox import Cell, Collected, Ended, Run, Running, Tree, archive
from occd.sandbox.box import BOX_BYTES, INODES, together
from occd.sandbox.container import SHARES, Container, NoRoom, bounds
from occd.sandbox.engine import Bounds, Engine, EngineAway, Wall
from occd.sandbox.examined import examine
from occd.sandbox.find import remedy, remedy_of
from occd.sandbox.init import INIT
from occd.sandbox.probe import probe, why_untraced
from occd.sandbox.profile import for_docker
from occd.sandbox.proof import prove, unproven_of_container
from occd.sandbox.pulse import Pulse
from occd.sandbox.rootfs import covered_paths
from occd.sandbox.sockets import SocketBounds
from occd.sandbox.waits import Waits

_TMP = 64 * 2**20
_TMPFS = "rw,exec,nosuid,nodev"
_MORE_MAX = 16 * 2**20
"""A container that stands ready has so much room for a tree and the run's own files, beside the box. A
program may use the rest of it, too."""
_FILES = 2 * INODES
"""The most files of a box that is made for a run: those of a tree, and as many of the run's own."""
_ENTRY_BYTES = 512
"""More than an entry of a stream takes, with its name and a short link."""
_USERS_LEFT = 16
"""So many users are left for containers that are needed at once: none is made to stand ready meanwhile."""
_SHARES_MIN = 2
"""The kernel's least."""
_CLOSE_S = 10.0
_LONG_S = 15.0
_SENTRY_BYTES = 64 * 2**20
"""Memory of gVisor's kernel, beside that of the programs."""
_SENTRY_THREADS = 8192
"""A backstop: a kernel in user space has some threads for itself and some for each of its processes, whose
number it holds itself."""

_UNBOUNDED = (
    "weaker: data that waits in TCP and UDP sockets counts for nobody (cgroup v1, and occd is not root on "
    "the engine's machine)"
)


class _Cell:
    def __init__(
        self, docker: "_Docker", root: str, files: Sequence[File], box: int, trees: ExitStack
    ) -> None:
        """`box` is the size of each box in bytes."""
        self._box = box
        self._docker = docker
        self._root = root
        self._files = files
        self._trees = trees

    async def run(
        self, run: Run, *, task_status: trio.TaskStatus[Running] = trio.TASK_STATUS_IGNORED
    ) -> Ended:
        kept: Tree | None = None
        collected = Collected()
        async with AsyncExitStack() as stack:
            archives = self._archives(run, stack)
            box = self._box + rules.room(len(file.content) for file in run.files)
            if run.tree:
                box += archive.size(archives[1]).room
            container, wanted = await self._filled(archives, box, run, stack)
            if run.interactive:
                await stack.enter_async_context(self._docker.interactive(container))
            self._docker.hold_sockets(container, run.limits.memory)
            changed = None if self._docker.limits_stay else wanted
            outcome, trace = await container.run(run, changed, task_status)
            if (run.keep or run.collect) and not container.gone:
                packed = _new_file(self._trees if run.keep else stack)
                with packed.open("wb") as into:
                    await container.pack(into, _most(max(box, BOX_BYTES + _MORE_MAX)))
                if run.collect:
                    collected = await trio.to_thread.run_sync(archive.collect, packed, run.collect)
                if run.keep:
                    kept = Tree(packed)
        return Ended(outcome, kept, collected, trace)

    async def _filled(
        self, archives: Sequence[IO[bytes]], box: int, run: Run, stack: AsyncExitStack
    ) -> tuple[Container, Bounds | None]:
        """A container whose box has these files, and room for so many bytes, and what the run needs of it.
        The box of a container that stands ready has the usual size, and room for a small tree. A smaller box,
        or one for more, is in a container that is made for it, and has exactly its size."""
        given = sum(archive.size(each).memory for each in archives)
        wanted = self._docker.bounds(run, given)
        if self._box >= BOX_BYTES and box <= BOX_BYTES + _MORE_MAX:
            place = await stack.enter_async_context(AsyncExitStack())
            try:
                container = await place.enter_async_context(
                    self._docker.container(self._root, wanted)
                )
                await container.fill(archives)
            except NoRoom:  # for so many names
                await place.aclose()
            else:
                return container, wanted
        container = await stack.enter_async_context(
            self._docker.container_for(self._root, wanted, box, given)
        )
        for each in archives:
            each.seek(0)
        await container.fill(archives)
        return container, wanted

    def _archives(self, run: Run, stack: AsyncExitStack) -> list[IO[bytes]]:
        """The streams that fill the box. A file of an earlier one stays."""
        if not run.tree:
            return [archive.pack(together(self._files, run.files))]
        return [archive.pack(run.files), stack.enter_context(run.tree.folder.open("rb"))]


def _most(box: int) -> int:
    """More bytes than the stream of a box of this size can have, whose kernel holds its size and number of
    files: gVisor's holds neither."""
    return box + box // 128 + _FILES * _ENTRY_BYTES


def _new_file(until: ExitStack | AsyncExitStack) -> Path:
    """It has no name, so that it goes with this process, however the process ends."""
    file = until.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
    return Path(f"/proc/self/fd/{file.fileno()}")


class _Docker:
    def __init__(
        self, engine: Engine, walls: Mapping[str, Wall], keep: int, nursery: trio.Nursery
    ) -> None:
        """`walls` has the images by the names of their roots, the best first. `keep` containers stand ready,
        and at least one of each image."""
        self._engine = engine
        self._walls = walls
        self._nursery = nursery
        self.pulse = Pulse(engine, self._prune)
        self._waits = Waits(_LONG_S, "Docker's engine may be overloaded, or stuck: look at its log")
        self._keep = max(keep, len(walls))
        self._ready: list[tuple[str, Container]] = []
        """The first has been waiting for the longest time."""
        self._making = 0
        self._users = trio.Semaphore(AT_ONCE)
        """Those that no container of ours has."""
        self._closing = False
        self._came = trio.Condition()
        self._interactive: set[Container] = set()
        self._weighing = trio.Lock()
        self.limits_stay = False
        """Containers keep the limits that they were made with. init holds the job's limits within them."""
        self._sockets: SocketBounds | None = None
        self._sockets_unbounded = False
        self.holds: Holds = ()
        self.languages = load_languages()
        self.roots = tuple(walls)
        self.available: Available = {}
        self.formatters: Formatters = {}
        self.untraced: Mapping[str, str] = dict.fromkeys(self.roots, "sandbox.trace is false")

    @property
    def _first(self) -> Wall:
        return self._walls[self.roots[0]]

    @property
    def isolation(self) -> Sequence[str]:
        return [
            f"Docker with {self._first.runtime or 'runc'}: a container for each run",
            "the processors shared by job" if "cpu" in self.holds else
            "weaker: a job that starts many sessions takes the processors from its neighbours",
            *[_UNBOUNDED] * self._sockets_unbounded,
        ]  # fmt: skip

    @property
    def stuck(self) -> str | None:
        return self.pulse.problem or self._waits.too_long

    async def examine(self) -> None:
        found = await examine(self._engine, self.roots[0], self._first, self._made)
        self.holds = found.holds
        self.limits_stay = not found.updates
        self._sockets = found.sockets
        self._sockets_unbounded = found.sockets_unbounded
        self._walls = {
            root: replace(
                wall,
                ipv6=found.ipv6,
                one_terminal="own-kernel" not in found.holds,  # else it knows none of the machine
                init_is_root=found.init_is_root,
                masked=[*wall.masked, *found.shown],
                bounds=wall.bounds if found.updates else _around(self._usual_memory()),
            )
            for root, wall in self._walls.items()
        }

    @asynccontextmanager
    async def _made(self, wall: Wall) -> AsyncIterator[Container]:
        container = await self._make(wall)
        try:
            yield container
        finally:
            with trio.move_on_after(_CLOSE_S, shield=True):
                await self._end(container)

    def _usual_memory(self) -> int:
        """What a program and its box may have before a container is made for it alone."""
        asked = [
            limits.memory
            for each in self.languages.values()
            for limits in (each.limits, each.compile_limits)
        ]
        return max(asked) + BOX_BYTES

    async def trial(self) -> None:
        own_kernel = "own-kernel" in self.holds
        await prove(self, "a container", partial(unproven_of_container, own_kernel=own_kernel))

    @asynccontextmanager
    async def cell(
        self,
        language: Language,
        files: Sequence[File],
        limits: Limits,
        root: str | None = None,
    ) -> AsyncIterator[Cell]:
        try:
            with ExitStack() as trees:
                shown = language.readable(files)
                yield _Cell(self, root or self.roots[0], shown, limits.box, trees)
        except OSError as error:  # such as a full disk
            raise SandboxFailed(f"files cannot be kept: {error}") from error

    def bounds(self, run: Run, box: int) -> Bounds | None:
        """What the container of a job needs. None: it keeps what the containers that stand ready have."""
        if not self.limits_stay:
            return bounds(run.limits, box, traced=run.trace)
        memory = run.limits.memory + box
        return _around(memory) if memory > self._usual_memory() else None

    def hold_sockets(self, container: Container, memory: int) -> None:
        """Where this was found to be possible, no program runs without."""
        if self._sockets:
            try:
                self._sockets.hold(container.id, memory)
            except OSError as error:
                message = f"the data in a container's sockets cannot be bounded: {error}"
                raise SandboxFailed(message) from error

    @asynccontextmanager
    async def interactive(self, container: Container) -> AsyncIterator[None]:
        """All interactive programs together get as much of the processors as one other program, or half of
        that: their weights change when their number has doubled or halved."""
        self._interactive.add(container)
        try:
            await self._weigh()
            yield
        finally:
            self._interactive.remove(container)
            self._nursery.start_soon(self._weigh)

    async def _weigh(self) -> None:
        if self.limits_stay:
            return
        async with self._weighing:
            many = max(0, len(self._interactive) - 1)
            shares = max(_SHARES_MIN, SHARES >> many.bit_length())
            for each in tuple(self._interactive):
                if each.shares != shares:
                    with suppress(SandboxFailed):  # it has ended
                        await self._engine.share(each.id, shares)
                        each.shares = shares

    @asynccontextmanager
    async def container(self, root: str, bounds: Bounds | None) -> AsyncIterator[Container]:
        """One that stands ready, if one does."""
        wall = self._walls[root]
        with self.pulse.needed():
            if self.limits_stay and bounds:
                container = await self._make(replace(wall, bounds=bounds))
            else:
                container = self._take(root) or await self._make(wall)
            self._nursery.start_soon(self._prepare, root)
            with self._ended(container):
                yield container

    @asynccontextmanager
    async def container_for(
        self, root: str, bounds: Bounds | None, box: int, given: int
    ) -> AsyncIterator[Container]:
        """One whose box has so many bytes, of which some are filled with what is given."""
        wall = self._walls[root]
        with self.pulse.needed():
            container = await self._make(_with_box(wall, bounds or wall.bounds, box, given))
            with self._ended(container):
                yield container

    @contextmanager
    def _ended(self, container: Container) -> Iterator[None]:
        """End it after the block."""
        try:
            yield
        finally:
            container.hang_up()
            self._nursery.start_soon(self._end, container)

    def _prune(self) -> None:
        """Somebody may have killed a container that stood ready, or the engine have died."""
        for each in [each for each in self._ready if not each[1].waits]:
            self._ready.remove(each)
            self._nursery.start_soon(self._end, each[1])

    async def _end(self, container: Container) -> None:
        container.close()
        try:
            if not self.pulse.problem:
                with trio.move_on_after(_CLOSE_S, shield=True), suppress(SandboxFailed):
                    await self._engine.remove(container.id)
        finally:
            self._users.release()

    def _take(self, root: str) -> Container | None:
        self._prune()
        for each in self._ready:
            if each[0] == root:
                self._ready.remove(each)
                return each[1]
        return None

    async def _make(self, wall: Wall) -> Container:
        with self._waits.one_more():
            await self._take_user()
            try:
                made = await self._engine.start(wall, [INIT, "relay"])
            except BaseException:
                self._users.release()
                raise
            container = Container(self._engine, made, wall.bounds)
            try:
                await container.ready()
            except BaseException:
                with trio.move_on_after(_CLOSE_S, shield=True):
                    await self._end(container)
                raise
            self._nursery.start_soon(container.beat)
            return container

    async def _take_user(self) -> None:
        """Those that stand ready, of another image or with another box, make room for who needs one now."""
        if not self._users.value and self._ready:
            self._nursery.start_soon(self._end, self._ready.pop(0)[1])
        await self._users.acquire()

    async def _prepare(self, root: str) -> None:
        """Replace a container that was taken. When none had stood ready, there is one more of this image now,
        and one fewer of an image that is used less."""
        if self._users.value <= _USERS_LEFT:
            return
        if len(self._ready) + self._making >= self._keep:
            spare = self._spare(root)
            if not spare:
                return
            self._ready.remove(spare)
            self._nursery.start_soon(self._end, spare[1])
        self._making += 1
        try:
            with (
                suppress(SandboxFailed),
                self.pulse.needed(),
            ):  # who needs one will find out and tell
                container = await self._make(self._walls[root])
                if self._closing:  # it was ready just before this was cancelled
                    container.close()
                else:
                    self._ready.append((root, container))
        finally:
            self._making -= 1

    def _spare(self, root: str) -> tuple[str, Container] | None:
        """The one that has been waiting for the longest time, of the other images with more than one."""
        counts = Counter(each for each, _ in self._ready)
        return next((each for each in self._ready if each[0] != root and counts[each[0]] > 1), None)

    async def close(self) -> None:
        """Remove all containers of ours. They end in any case."""
        self._closing = True
        while self._ready:
            self._ready.pop()[1].close()
        if not self.pulse.problem:
            with suppress(SandboxFailed):
                await self._engine.settled()
                for number in await self._engine.of(self._first.label):
                    await self._engine.remove(number)


def _engine(host: str) -> Engine:
    try:
        return Engine(host)
    except EngineAway as error:
        raise ConfigError(f"sandbox.host: {error}. {error.remedy}") from error


def _box(size: int, files: int) -> str:
    return f"{_TMPFS},nr_inodes={files},mode=755,size={size}"


def _with_box(wall: Wall, bounds: Bounds, size: int, given: int) -> Wall:
    """With memory to fill a box of this size with what is given, and processes for the runtime's start."""
    memory = max(bounds.memory, wall.bounds.memory) + given + 2 * BOX_BYTES
    return replace(wall, box=_box(size, _FILES), bounds=Bounds(memory, wall.bounds.processes))


def _around(memory: int) -> Bounds:
    """Of a container whose kernel holds a job's limits."""
    return Bounds(memory + _SENTRY_BYTES, _SENTRY_THREADS)


@asynccontextmanager
async def open_docker(
    config: Config, cache: Path | None, only: str | None
) -> AsyncIterator[_Docker]:
    settings = config.sandbox
    others = f"{_TMPFS},nr_inodes={INODES},mode=1777,size={_TMP}"
    wall = Wall(
        image="",
        runtime=settings.runtime,
        label=secrets.token_hex(8),
        seccomp=for_docker(),
        box=_box(BOX_BYTES + _MORE_MAX, INODES),
        tmpfs={"/tmp": others, "/dev/shm": others},
        ulimits={
            "core": 1,
            "sigpending": 256,
            "msgqueue": 192 << 10,
            "memlock": 8 << 20,
        },
        masked=covered_paths(),
        bounds=bounds(Limits(), 0),
    )
    engine = _engine(settings.host)
    failed: OccdError | None = None
    try:
        walls = await _walls(engine, wall, settings.roots)
        async with trio.open_nursery() as nursery:
            docker = _Docker(engine, walls, config.execute.slots, nursery)
            nursery.start_soon(docker.pulse.run)
            try:
                try:
                    await docker.examine()
                    refuse_less(settings.require, docker.holds, "docker")  # before the long probing
                    await docker.trial()
                    docker.available, docker.formatters = await probe(docker, cache, only)
                    if config.sandbox.trace and only is None:
                        docker.untraced = await why_untraced(docker)
                except SandboxFailed as error:
                    first = docker.roots[0]
                    failed = SandboxUnavailable(
                        f"a trial container of the image {first} failed: {error}",
                        remedy_of(error, first),
                    )
                except OccdError as error:
                    failed = error
                else:
                    yield docker
            finally:
                nursery.cancel_scope.cancel()
                with trio.move_on_after(_CLOSE_S, shield=True):
                    await docker.close()
    finally:  # when nothing asks it any more, which would open a connection anew
        with trio.CancelScope(shield=True):
            await engine.close()
    if failed:  # outside of the nursery, which would make a group of it
        raise failed


async def _walls(engine: Engine, wall: Wall, roots: Sequence[str]) -> Mapping[str, Wall]:
    """By root, each with its image."""
    try:
        await engine.greet()
        return {root: replace(wall, image=await _image(engine, root)) for root in roots}
    except EngineAway as error:
        raise ConfigError(f"sandbox.host: {error}. {error.remedy}") from error
    except SandboxFailed as error:
        raise SandboxUnavailable(str(error), "See `occd doctor`") from error


async def _image(engine: Engine, root: str) -> str:
    """Its id, so that all containers of this process have the files that were found at the start."""
    image = await engine.image(f"occd/{root}")
    if image is None:
        raise SandboxUnavailable(
            f"Docker has no image occd/{root}", f"Build it, as root: occd images {root}"
        )
    if image.architecture != (wanted := await engine.architecture()):
        raise SandboxUnavailable(
            f"the image occd/{root} is for {image.architecture}, and the engine for {wanted}",
            remedy(root),
        )
    version = image.labels.get(VERSION)
    if version != __version__ and (version or LABEL in image.labels):
        by = f"occd {version}" if version else "an older occd"
        raise SandboxUnavailable(
            f"the image occd/{root} was given to Docker by {by}, and this is {__version__}",
            f"Give Docker the image anew, as root: {again(root)}",
        )
    return image.id
