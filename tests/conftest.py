"""Fixtures shared by all suites. The sandbox is opened for each test, its languages probed once."""

import fcntl
import os
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from contextlib import AbstractContextManager, suppress
from functools import partial
from pathlib import Path
from typing import cast

import pytest
import trio
from engine import Reached
from hypothesis import settings
from places import (
    APART,
    PLACES,
    Place,
    mark_known,
    note_outcome,
    opened,
    place_of,
    places_of,
    sandbox_of,
    serving_as,
    write_outcomes,
)
from proving import print_table
from sandboxed import Lab, open_descriptors
from serving import Server
from shared_engine import foresee, hold, shared

from occd.images import described
from occd.languages.installing import SETS
from occd.sandbox import kernel, open_sandbox
from occd.sandbox.cgroup import find_cgroups
from occd.sandbox.slots import Slot, host_folder, lease

settings.register_profile("occd", deadline=None)  # a busy machine may take its time
settings.load_profile("occd")

_LONG_S = 3600
"""Seconds for a test marked `long`; the soak and 200 kills take ten minutes each on a quiet machine."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--place", choices=PLACES, help="try the sandbox's promises in this place")
    parser.addoption("--image", choices=described(), help="programs see this image, which is built")
    parser.addoption("--outcomes", type=Path, help="a file for how the promises came out")
    parser.addoption("--engine", type=Path, help="the folder of a Docker engine that runs already")
    parser.addoption("--set", choices=SETS, default="core", help="prove the languages of this set")
    parser.addoption(
        "--missing", choices=("fail", "skip"), default="fail", help="what a missing language does"
    )


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    print_table(terminalreporter.config, terminalreporter)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    only = metafunc.config.getoption("place")
    marks = {mark.name for mark in metafunc.definition.iter_markers()}
    if "place" in metafunc.fixturenames and (only or "promise" in marks):
        places = places_of(marks, only)
        metafunc.parametrize("place", places, ids=[f"@{place}" for place in places])


def pytest_sessionstart(session: pytest.Session) -> None:
    if session.config.pluginmanager.has_plugin("dsession"):
        return  # the workers run the tests: see worker.py
    with suppress(OSError):  # what needs it will fail and say why
        kernel.enter_private_mounts()  # before a test starts a thread that would stay outside


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if only := config.getoption("place"):
        items[:] = [item for item in items if place_of(item) or _serves(item, only)]
    for item in items:
        if item.get_closest_marker("long") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(_LONG_S))
    mark_known(items)


def _serves(item: pytest.Item, place: Place) -> bool:
    """Whether it tries a server in this place."""
    return place not in APART and "serving_here" in getattr(item, "fixturenames", ())


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    note_outcome(report)


def pytest_sessionfinish(session: pytest.Session) -> None:
    if file := session.config.getoption("outcomes"):
        write_outcomes(file)


_GATE = os.open(Path(__file__).parent, os.O_RDONLY)
_FLOOR = os.open(__file__, os.O_RDONLY)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Tests share the machine, but one marked `alone` waits until the others have ended, and they wait at the
    gate meanwhile. Outside of the time that a test may take."""
    if item.config.getoption("place"):  # within a test that is through the gate
        return (yield)
    alone = item.get_closest_marker("alone")
    fcntl.flock(_GATE, fcntl.LOCK_EX)
    fcntl.flock(_FLOOR, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
    fcntl.flock(_GATE, fcntl.LOCK_UN)
    try:
        return (yield)
    finally:
        fcntl.flock(_FLOOR, fcntl.LOCK_UN)


@pytest.fixture(scope="session", autouse=True)
def session_folder(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Path]:
    """Of all workers. What the session has one of lives until the last worker has ended."""
    own = tmp_path_factory.getbasetemp()
    folder = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
    lock = hold(folder)
    if not request.config.getoption("engine") and any(map(_wants_engine, request.session.items)):
        foresee(folder)
    yield folder
    os.close(lock)


def _wants_engine(item: pytest.Item) -> bool:
    names: list[str] = getattr(item, "fixturenames", [])
    return "docker_engine" in names or place_of(item) in ("docker", "gvisor")


@pytest.fixture(scope="session")
def docker_engine(session_folder: Path, pytestconfig: pytest.Config) -> Reached:
    """The session's engine, with the image IMAGE and the runtimes RUNTIMES of `shared_engine.py`."""
    running: Path | None = pytestconfig.getoption("engine")
    return Reached(running) if running else shared(session_folder)


@pytest.fixture(scope="session")
def seen_image(pytestconfig: pytest.Config) -> str | None:
    """That the command line names, for promises of the sandbox and for servers of `serving_here`."""
    return cast("str | None", pytestconfig.getoption("image"))


@pytest.fixture(scope="session")
def language_cache(tmp_path_factory: pytest.TempPathFactory, seen_image: str | None) -> Path:
    """The probed versions, kept for the session."""
    cache: Path = tmp_path_factory.mktemp("languages") / "cache.json"

    async def probe() -> None:
        async with open_sandbox(sandbox_of("nsjail", _no_engine, seen_image), cache):
            pass

    trio.run(probe)
    return cache


def _no_engine() -> Reached:
    raise AssertionError("nsjail needs none")


@pytest.fixture(scope="session")
def serving_here(
    request: pytest.FixtureRequest, seen_image: str | None
) -> Callable[..., AbstractContextManager[Server]]:
    """`serving` in the place that the command line names, and with its image."""

    def engine() -> Reached:
        return cast(Reached, request.getfixturevalue("docker_engine"))

    config = sandbox_of(request.config.getoption("place") or "nsjail", engine, seen_image)
    return partial(serving_as, config)


@pytest.fixture
def place() -> Place:
    """Of a test that is no promise of every sandbox."""
    return "nsjail"


@pytest.fixture
async def lab(
    place: Place,
    nothing_left_over: None,
    language_cache: Path,
    seen_image: str | None,
    request: pytest.FixtureRequest,
) -> AsyncIterator[Lab]:
    def engine() -> Reached:
        return cast(Reached, request.getfixturevalue("docker_engine"))

    async with opened(place, engine, language_cache, seen_image) as sandbox:
        yield Lab(sandbox)


@pytest.fixture
def nothing_left_over(language_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The test leaves no process, mount, control group, folder or descriptor of a jail behind."""
    theirs: dict[Slot, set[str]] = {}
    found: set[str] = set()
    release = Slot.release

    def look_after_lease(folder: Path, user: kernel.HostUser) -> Slot:
        slot = lease(folder, user)
        try:
            theirs[slot] = _named_after(slot)  # what a killed owner left
        except OSError:  # a test that uses up the descriptors
            release(slot)
            raise
        return slot

    def look_and_release(slot: Slot) -> None:  # while it is leased, what comes in its name is ours
        try:
            if slot in theirs:  # else start-up only looked whether somebody holds it
                found.update(_named_after(slot) - theirs.pop(slot))
        finally:
            release(slot)

    for user in ("host", "nsjail"):
        monkeypatch.setattr(f"occd.sandbox.{user}.lease", look_after_lease)
    monkeypatch.setattr(Slot, "release", look_and_release)
    before = _lasting()
    yield
    assert _lasting() - before == set()
    assert found == set()


def _lasting() -> set[tuple[str, str]]:
    """Mounts, folders and descriptors."""
    shared = host_folder(kernel.enter_private_mounts())
    mounts = [line for line in Path("/proc/self/mounts").read_text().splitlines() if "occd" in line]
    return {
        *(("mount", each) for each in mounts),
        *(("folder", each) for each in os.listdir(shared / "mnt")),
        *open_descriptors().items(),
    }


def _named_after(slot: Slot) -> set[str]:
    """Processes and control groups."""
    groups = find_cgroups()
    parents = groups.folders if groups else ()
    found = {str(each) for parent in parents for each in parent.glob(f"{slot.name}-*/")}
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(FileNotFoundError, ProcessLookupError):
            if slot.uid != 0 and process.stat().st_uid == slot.uid and not _dead_orphan(process):
                found.add(str(process))
    return found


def _dead_orphan(process: Path) -> bool:
    """A zombie that the machine's init is to reap, not we."""
    state, parent = (process / "stat").read_text().rpartition(")")[2].split()[:2]
    return state == "Z" and int(parent) != os.getpid()
