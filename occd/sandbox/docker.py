"""The sandbox of Docker's engine.

Theory of operation. A container (`container.py`) stands ready before its job is known (`containers.py`),
and serves one run. A cell takes a container of its image for each run. Files come as a stream
(`archive.py`). A tree is the stream of a box, and is kept in a file of ours that has no name.
"""

import io
import secrets
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import IO

import trio

from occd import __version__, rules
from occd.config import Config
from occd.errors import ConfigError, OccdError, SandboxFailed, SandboxUnavailable, refuse_faults
from occd.images import how_to_build
from occd.images.docker import LABEL, VERSION, again
from occd.languages import Language
from occd.languages.fields import COMPILE_LIMITS
from occd.languages.installed import Installed
from occd.languages.loading import load_languages
from occd.levels import Holds, refuse_less
from occd.model import File, LeftOut, Limits
from occd.sandbox import (
    Cell,
    Collected,
    Ended,
    Packed,
    Run,
    Running,
    Tell,
    Tree,
    archive,
    identity,
    unheard,
)
from occd.sandbox.box import BOX_BYTES, INODES, together
from occd.sandbox.container import BoxTooLarge, Container, NoRoom, bounds
from occd.sandbox.containers import Containers
from occd.sandbox.engine import Bounds, Engine, EngineAway, Wall
from occd.sandbox.examined import examine
from occd.sandbox.find import remedy, remedy_of
from occd.sandbox.probe import Probe, Probed, why_untraced
from occd.sandbox.profile import for_docker
from occd.sandbox.proof import prove, unproven_of_container
from occd.sandbox.rootfs import covered_paths
from occd.sandbox.sockets import SocketBounds

_TMP = 64 * 2**20
_TMPFS = "rw,exec,nosuid,nodev"
_MORE_MAX = 16 * 2**20
"""A container that stands ready has so much room for a tree and the run's own files, beside the box. A
program may use the rest of it, too."""
_FILES = 2 * INODES
"""The most files of a box that is made for a run: those of a tree, and as many of the run's own."""
_ENTRY_BYTES = 512
"""More than an entry of a stream takes, with its name and a short link."""
_CLOSE_S = 10.0
_SENTRY_BYTES = 64 * 2**20
"""Memory of gVisor's kernel, beside that of the programs."""
_SENTRY_THREADS = 8192
"""A backstop: a kernel in user space has some threads for itself and some for each of its processes, whose
number it holds itself."""

_USUAL_BYTES = max(Limits().memory, COMPILE_LIMITS.memory) + BOX_BYTES
"""A program whose memory and box are larger gets a container that is made for it alone. So a language that
needs more than the usual limits raises the bound of its own containers, and no other's."""

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
        if run.turn:  # no container waits for it
            await run.turn()
        async with AsyncExitStack() as stack:
            archives = self._archives(run, stack)
            box = self._box + rules.room(len(file.content) for file in run.files)
            if run.tree:
                box += archive.size(archives[1]).room
            container, changed = await self._filled(archives, box, run, stack)
            outcome, trace = await container.run(run, changed, task_status)
            if (run.keep or run.collect) and not container.gone:
                packed = _new_file(self._trees if run.keep else stack)
                try:
                    with packed.open("wb") as into:
                        await container.pack(into, _most(max(box, BOX_BYTES + _MORE_MAX)))
                except BoxTooLarge:  # the program's fault: a repeat would end so, too
                    collected = Collected(left_out=(LeftOut("", "entries"),), left_out_count=1)
                    if run.keep:  # gVisor keeps files in memory
                        outcome = replace(outcome, limit="memory")
                    return Ended(outcome, None, collected, trace)
                if run.collect:
                    collected = await trio.to_thread.run_sync(archive.collect, packed, run.collect)
                if run.keep:
                    kept = Tree(packed)
        return Ended(outcome, kept, collected, trace)

    async def _filled(
        self, archives: Sequence[IO[bytes]], box: int, run: Run, stack: AsyncExitStack
    ) -> tuple[Container, Bounds | None]:
        """A container whose box has these files, and room for so many bytes, and the bounds that the run
        needs. The run may have begun. The box of a container that stands ready has the usual size, and room
        for a small tree. A smaller box, or one for more, is in a container that is made for it, and has
        exactly its size."""
        given = sum(archive.size(each).memory for each in archives)
        wanted = self._docker.bounds(run, given)
        changed = None if self._docker.limits_stay else wanted
        if self._box >= BOX_BYTES and box <= BOX_BYTES + _MORE_MAX:
            place = await stack.enter_async_context(AsyncExitStack())
            container = await place.enter_async_context(self._docker.container(self._root, wanted))
            try:
                await self._prepare(container, run, place)
                await container.fill(archives, run, changed)
            except NoRoom:  # for so many names
                await place.aclose()
            else:
                return container, changed
        container = await stack.enter_async_context(
            self._docker.container_for(self._root, wanted, box, given)
        )
        for each in archives:
            each.seek(0)
        await self._prepare(container, run, stack)
        await container.fill(archives, run, changed)
        return container, changed

    async def _prepare(self, container: Container, run: Run, stack: AsyncExitStack) -> None:
        """Make hold for the container what must hold before the program begins."""
        if run.interactive and not self._docker.limits_stay:
            await stack.enter_async_context(self._docker.containers.interactive(container))
        self._docker.hold_sockets(container, run.limits.memory)

    def _archives(self, run: Run, stack: AsyncExitStack) -> list[IO[bytes]]:
        """The streams that fill the box. A file of an earlier one stays."""
        if not run.tree:
            return [archive.pack(together(self._files, run.files))]
        if isinstance(run.tree, Packed):
            return [archive.pack(run.files), io.BytesIO(run.tree.data)]
        return [archive.pack(run.files), stack.enter_context(run.tree.folder.open("rb"))]

    async def pack(self, tree: Tree, most: int) -> Packed | None:
        """The stream as it is."""
        if tree.folder.stat().st_size > most:
            return None
        return Packed(await trio.to_thread.run_sync(tree.folder.read_bytes))


def _most(box: int) -> int:
    """More bytes than the stream of a box of this size can have, whose kernel holds its size and number of
    files: gVisor's holds neither."""
    return box + box // 128 + _FILES * _ENTRY_BYTES


def _new_file(until: ExitStack | AsyncExitStack) -> Path:
    """It has no name, so that it goes with this process, however the process ends."""
    file = until.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
    return Path(f"/proc/self/fd/{file.fileno()}")


class _Docker(Probed):
    def __init__(
        self,
        engine: Engine,
        walls: Mapping[str, Wall],
        keep: int,
        nursery: trio.Nursery,
        languages: dict[str, Language],
    ) -> None:
        """`walls` has the images by the names of their roots, the best first. `keep` containers stand ready,
        and at least one of each image."""
        self._engine = engine
        self._walls = walls
        self.containers = Containers(engine, max(keep, len(walls)), nursery)
        self.limits_stay = False
        """Containers keep the limits that they were made with. init holds the job's limits within them."""
        self._sockets: SocketBounds | None = None
        self._sockets_unbounded = False
        self.holds: Holds = ()
        self.languages = languages
        self.roots = tuple(walls)
        self.probe = Probe(self)
        self.untraced: Mapping[str, str] = dict.fromkeys(self.roots, "sandbox.trace is false")
        self.unforked = None

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
        return self.containers.stuck

    async def examine(self) -> None:
        found = await examine(self._engine, self.roots[0], self._first, self.containers.made)
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
                bounds=wall.bounds if found.updates else _around(_USUAL_BYTES),
            )
            for root, wall in self._walls.items()
        }

    def identity(self, installed: Installed) -> str:
        wall = self._walls[installed.root]
        return f"docker {wall.runtime} {wall.image} {identity.of_machine()}"

    templates = ()

    @property
    def shows(self) -> None:
        """The folders of this machine may not be the engine's."""

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
        return _around(memory) if memory > _USUAL_BYTES else None

    def hold_sockets(self, container: Container, memory: int) -> None:
        """Where this was found to be possible, no program runs without."""
        if self._sockets:
            try:
                self._sockets.hold(container.id, memory)
            except OSError as error:
                message = f"the data in a container's sockets cannot be bounded: {error}"
                raise SandboxFailed(message) from error

    def container(self, root: str, bounds: Bounds | None) -> AbstractAsyncContextManager[Container]:
        """One that stands ready, if one does. Where limits stay, another is made for other bounds."""
        wall = self._walls[root]
        if self.limits_stay and bounds:
            return self.containers.made(replace(wall, bounds=bounds))
        return self.containers.ready(root, wall)

    def container_for(
        self, root: str, bounds: Bounds | None, box: int, given: int
    ) -> AbstractAsyncContextManager[Container]:
        """One whose box has so many bytes, of which some are filled with what is given."""
        wall = self._walls[root]
        return self.containers.made(_with_box(wall, bounds or wall.bounds, box, given))


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
    config: Config,
    cache: Path | None,
    only: str | None,
    tell: Tell = unheard,
    soon: bool = False,
    languages: dict[str, Language] | None = None,
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
        tell("asking Docker's engine for its runtimes and images")
        walls = await _walls(engine, wall, settings.roots)
        async with trio.open_nursery() as nursery:
            docker = _Docker(
                engine, walls, config.execute.slots, nursery, languages or load_languages()
            )
            nursery.start_soon(docker.containers.pulse.run)
            try:
                try:
                    tell("looking at what a container gives")
                    await docker.examine()
                    refuse_less(settings.require, docker.holds, "docker")  # before the long probing
                    tell("running a trial job")
                    await docker.trial()
                    docker.probe = Probe(docker, cache, only)
                    await docker.probe.start(set(config.languages), tell, soon=soon)
                    if config.sandbox.trace and only is None:
                        tell("tracing a trial job")
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
                    await docker.containers.close(wall.label)
    finally:  # when nothing asks it any more, which would open a connection anew
        with trio.CancelScope(shield=True):
            await engine.close()
    if failed:  # outside of the nursery, which would make a group of it
        raise failed


async def _walls(engine: Engine, wall: Wall, roots: Sequence[str]) -> Mapping[str, Wall]:
    """By root, each with its image. Raises SandboxUnavailable for all that is wrong, so that nobody mends one
    thing to hear of the next."""
    walls: dict[str, Wall] = {}
    faults: list[SandboxUnavailable] = []
    try:
        await engine.greet()
        if wall.runtime:
            faults += _faults_of_runtime(wall.runtime, (await engine.gives()).runtimes)
        for root in roots:
            try:
                walls[root] = replace(wall, image=await _image(engine, root))
            except SandboxUnavailable as error:
                faults.append(error)
    except EngineAway as error:
        raise ConfigError(f"sandbox.host: {error}. {error.remedy}") from error
    except SandboxFailed as error:
        raise SandboxUnavailable(str(error), "See `occd doctor`") from error
    refuse_faults(faults)
    return walls


def _faults_of_runtime(name: str, known: Sequence[str]) -> Iterator[SandboxUnavailable]:
    if name not in known and "." not in name:  # a shim, whose name has a dot, is not listed
        yield SandboxUnavailable(
            f"sandbox.runtime: Docker's engine knows no runtime {name}, only "
            f"{', '.join(sorted(known))}",
            f"Add {name} to `runtimes` in the engine's daemon.json, and restart the engine",
        )


async def _image(engine: Engine, root: str) -> str:
    """Its id, so that all containers of this process have the files that were found at the start."""
    image = await engine.image(f"occd/{root}")
    if image is None:
        raise SandboxUnavailable(
            f"Docker has no image occd/{root}",
            how_to_build(
                root, f"occd images {root} --docker (with --no-build, where it was built before)"
            ),
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
