"""Which properties hold in containers of a real engine, whatever the engine and its runtimes say."""

import io
import json
import re
import shutil
import subprocess
import tarfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from engine import Engine, engine, engine_folder
from sandboxed import PYTHON, Lab
from walls import standing

from occd.config import Config, ExecuteConfig, SandboxConfig
from occd.errors import ConfigError
from occd.images.root import add_ours
from occd.levels import level, read_required
from occd.sandbox import open_sandbox

pytestmark = pytest.mark.long

# A runtime that takes the limits for granted: as `runsc --ignore-cgroups`, without gVisor.
_UNBOUNDED = """\
#!{python}
import json, os, sys
argv = sys.argv[1:]
if "update" in argv:
    sys.exit()
if "--bundle" in argv:
    path = argv[argv.index("--bundle") + 1] + "/config.json"
    config = json.load(open(path))
    config["linux"].pop("resources")
    json.dump(config, open(path, "w"))
os.execvp("runc", ["runc", *argv])
"""
_PROGRAMS = (
    "/bin/sh",
    "/bin/dd",
    "/usr/bin/find",
    "/usr/bin/stat",
    "/usr/bin/readlink",
    PYTHON,
)


@pytest.fixture(scope="module")
def docker() -> Iterator[Engine]:
    with engine_folder() as folder:
        unbounded = folder / "unbounded"
        unbounded.write_text(_UNBOUNDED.format(python="/usr/bin/python3"))
        unbounded.chmod(0o755)
        runtimes: dict[str, dict[str, object]] = {"unbounded": {"path": str(unbounded)}}
        for name, more in (("gvisor", []), ("gvisor-unbounded", ["--ignore-cgroups"])):
            given = ["--platform=ptrace", "--network=none", *more]
            runtimes[name] = {"path": shutil.which("runsc"), "runtimeArgs": given}
        (folder / "daemon.json").write_text(json.dumps({"runtimes": runtimes}))
        _pack_root(folder / "ours", folder / "root.tar")
        with engine(folder, building=False) as runner:
            runner.docker("import", folder / "root.tar", "occd/test")
            yield runner


def _pack_root(ours: Path, into: Path) -> None:
    """What the tests need of this machine's files."""
    ours.mkdir()
    library = f"/usr/lib/{Path(PYTHON).name}"
    modules = [str(each) for each in Path(library, "lib-dynload").glob("*.so")]
    needs = subprocess.run(["ldd", *_PROGRAMS, *modules], capture_output=True, text=True).stdout
    libraries = set(re.findall(r"(/\S+\.so\S*) \(", needs))
    with tarfile.open(into, "w", dereference=True) as tar:
        for path in {*_PROGRAMS, *libraries}:
            tar.add(path)
        tar.add(library, filter=lambda each: None if "/test" in each.name else each)
        for name in add_ours(ours):
            tar.add(ours / name, name)
        folder = tarfile.TarInfo("box")
        folder.type, folder.mode = (
            tarfile.DIRTYPE,
            0o755,
        )  # runc gives this mode to what it mounts there
        tar.addfile(folder, io.BytesIO())


@asynccontextmanager
async def opened(
    docker: Engine, runtime: str | None = None, require: tuple[str, ...] | None = None
) -> AsyncIterator[Lab]:
    config = Config(
        sandbox=SandboxConfig(
            kind="docker",
            host=f"unix://{docker.folder}/socket",
            images=("test",),
            runtime=runtime,
            require=require,
        ),
        execute=ExecuteConfig(slots=1),
    )
    async with open_sandbox(config, only="python") as sandbox:
        yield Lab(sandbox)


async def test_the_properties_that_are_told_of_containers_are_those_that_hold(
    docker: Engine,
) -> None:
    async with opened(docker) as lab:
        assert await standing(lab) == set(lab.sandbox.holds)
        assert "own-uid" in lab.sandbox.holds
        assert level(lab.sandbox.holds) == "closed"


async def test_a_runtime_that_forgets_limits_is_refused_unless_that_is_allowed(
    docker: Engine,
) -> None:
    with pytest.raises(ConfigError, match=r"^sandbox.require: memory: not so here.*engine"):
        async with opened(docker, "unbounded"):
            raise AssertionError("it was opened")
    async with opened(docker, "unbounded", require=()) as lab:
        seen = await standing(lab)
        assert set(lab.sandbox.holds) == {"own-uid", "own-root"} <= seen
        assert "memory" not in seen


@pytest.mark.parametrize(
    ("runtime", "holds"),
    [
        ("gvisor", "level virtual: memory, cpu, own-root, own-kernel"),
        ("gvisor-unbounded", "level basic: own-root, own-kernel"),
    ],
)
async def test_gvisor_is_known_by_its_kernel_and_not_by_its_name(
    docker: Engine, runtime: str, holds: str
) -> None:
    """The refusal of a property that no container of gVisor has lists the properties that were found."""
    with pytest.raises(ConfigError, match=f"own-uid: not so here .{holds}"):
        async with opened(docker, runtime, require=("own-uid",)):
            raise AssertionError("it was opened")


async def test_containers_that_lack_what_is_required_are_not_used(docker: Engine) -> None:
    with pytest.raises(
        ConfigError,
        match=r"own-kernel: not so here .level closed: own-uid, memory, cpu, own-root",
    ):
        async with opened(docker, require=read_required(["own-kernel", "memory"])):
            raise AssertionError("it was opened")
    assert docker.docker("ps", "--all", "--quiet") == ""
