"""Fixtures shared by all suites. The sandbox is opened for each test, its languages probed once."""

import fcntl
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import trio
from sandboxed import Lab, open_descriptors

from occd.config import Config
from occd.sandbox import kernel, open_sandbox
from occd.sandbox.cgroup import find_cgroups
from occd.sandbox.slots import host_folder


def pytest_sessionstart() -> None:
    with suppress(OSError):  # what needs it will fail and say why
        kernel.enter_private_mounts()  # before a test starts a thread that would stay outside


@pytest.fixture(scope="session")
def language_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The probed versions, kept for the session."""
    cache: Path = tmp_path_factory.mktemp("languages") / "cache.json"

    async def probe() -> None:
        async with open_sandbox(Config(), cache):
            pass

    trio.run(probe)
    return cache


@pytest.fixture
async def lab(nothing_left_over: None, language_cache: Path) -> AsyncIterator[Lab]:
    async with open_sandbox(Config(), language_cache) as sandbox:
        yield Lab(sandbox)


@pytest.fixture
def nothing_left_over(language_cache: Path) -> Iterator[None]:
    """The test leaves no process, mount, control group, folder or descriptor of a jail behind."""
    before, others = _lasting(), _ownerless_jails()
    yield
    assert _lasting() == before
    assert _ownerless_jails() - others == set()


def _lasting() -> tuple[list[str], list[str], dict[str, str]]:
    shared = host_folder(kernel.enter_private_mounts())
    mounts = [line for line in Path("/proc/self/mounts").read_text().splitlines() if "occd" in line]
    return mounts, os.listdir(shared / "mnt"), open_descriptors()


def _ownerless_jails() -> set[str]:
    """Processes and control groups in the name of a slot that nobody holds: other tests and daemons
    on this machine have theirs."""
    user = kernel.enter_private_mounts()
    uids = user.slot_uids or range(0)
    found: list[tuple[int, Path]] = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(FileNotFoundError, ProcessLookupError):
            if (uid := process.stat().st_uid) in uids:
                found.append((uid - uids.start, process))
    if groups := find_cgroups():
        for parent in groups.parents:
            found += [(int(each.name.split("-")[1]), each) for each in parent.glob("occd-[0-9]*/")]
    locks = host_folder(user)
    return {str(path) for slot, path in found if _is_ownerless(locks / str(slot), path)}


def _is_ownerless(lock: Path, found: Path) -> bool:
    with lock.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return found.exists()  # else its owner ended between the listing and the lock
