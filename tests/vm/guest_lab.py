"""A pytest plugin for inside the virtual machine: the sandbox, and nothing of it left over."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sandboxed import Lab

from occd.config import Config
from occd.sandbox import kernel, open_sandbox
from occd.sandbox.cgroup import find_cgroups


def pytest_sessionstart() -> None:
    kernel.enter_private_mounts()  # before a test starts a thread that would stay outside


@pytest.fixture(scope="session")
def language_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """So that only the first test asks for versions."""
    return Path(tmp_path_factory.mktemp("languages"), "cache.json")


@pytest.fixture
async def lab(language_cache: Path) -> AsyncIterator[Lab]:
    async with open_sandbox(Config(), language_cache) as sandbox:
        yield Lab(sandbox)
    assert jailed() == []
    assert groups() == []


def jailed() -> list[str]:
    """The processes that live in a pid namespace below ours: nobody else in this machine has any."""
    return [found for process in Path("/proc").glob("[0-9]*") if (found := _jailed(process))]


def _jailed(process: Path) -> str:
    try:
        status = (process / "status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):  # it has just ended
        return ""
    (pids,) = [line for line in status if line.startswith("NSpid:")]
    return f"{status[0]} {pids}" if len(pids.split()) > 2 else ""


def groups() -> list[str]:
    """The control groups of jails."""
    found = find_cgroups()
    parents = found.folders if found else ()
    return [group.name for parent in parents for group in parent.glob("occd-[0-9]*/")]
