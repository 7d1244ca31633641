"""Several images on one engine of Docker: a version runs in the image that has it."""

import io
import re
import subprocess
import tarfile
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
import trio
from engine import Reached, ToolFailed
from image_root import add_ours
from sandboxed import SHORT, run_in
from shared_engine import IMAGE
from test_image_folders import occd, plant

from occd import __version__
from occd.config import Config, ExecuteConfig, SandboxConfig
from occd.errors import SandboxUnavailable
from occd.images import FOLDER, describe
from occd.images.docker import behind, give
from occd.languages.installed import Installed
from occd.model import File
from occd.sandbox import Sandbox, open_sandbox

_TEST = IMAGE.removeprefix("occd/")
_NEWER = """\
#!/bin/sh
[ "$1" = --version ] && exec echo Python 3.12.99
exec /usr/bin/python3.11 "$@"
"""


@pytest.fixture(scope="module", autouse=True)
def made(docker_engine: Reached, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Images `newer`, with one version more; `shellless`, `foreign`, `empty`; `older` and `oldest`, of
    another occd."""
    folder = tmp_path_factory.mktemp("images")
    newer = folder / "python3.12"
    newer.write_text(_NEWER)
    newer.chmod(0o755)
    container = docker_engine.docker("create", IMAGE, "none").strip()
    docker_engine.docker("cp", newer, f"{container}:/usr/bin/python3.12")
    docker_engine.docker("commit", container, "occd/newer")
    docker_engine.docker("rm", container)
    ours = folder / "ours"
    ours.mkdir()
    for name, inside in (("shellless", add_ours(ours)), ("empty", ("box",))):
        packed = folder / f"{name}.tar"
        subprocess.run(["tar", "-c", "-f", packed, "-C", ours, *inside], check=True)
        docker_engine.docker("import", packed, f"occd/{name}")
    other = "--change=LABEL org.occd.image.version=0.0.1"
    docker_engine.docker("import", other, folder / "empty.tar", "occd/older")
    oldest = "--change=LABEL org.occd.image=digest"
    docker_engine.docker("import", oldest, folder / "empty.tar", "occd/oldest")
    docker_engine.docker("save", "--output", folder / "empty.saved", "occd/empty")
    _make_foreign(folder / "empty.saved", folder / "foreign.saved")
    docker_engine.docker("load", "--input", folder / "foreign.saved")


def _make_foreign(saved: Path, into: Path) -> None:
    """The engine on which the images were made says for which machines they are."""
    with tarfile.open(saved) as old, tarfile.open(into, "w") as new:
        for entry in old:
            read = old.extractfile(entry)
            content = read.read() if read else b""
            if entry.name.endswith("json"):
                content = content.replace(b"occd/empty", b"occd/foreign")
                content = re.sub(rb'"architecture":"\w+"', b'"architecture":"s390x"', content)
            entry.size = len(content)
            new.addfile(entry, io.BytesIO(content))


@asynccontextmanager
async def opened(engine: Reached, *images: str, slots: int = 2) -> AsyncIterator[Sandbox]:
    config = Config(
        sandbox=SandboxConfig(kind="docker", host=engine.host, images=images),
        execute=ExecuteConfig(slots=slots),
    )
    async with open_sandbox(config, only="python") as sandbox:
        yield sandbox


async def test_a_version_runs_in_the_image_that_has_it(docker_engine: Reached) -> None:
    async with opened(docker_engine, _TEST, "newer") as sandbox:
        newer, older = sandbox.available["python"]
        assert (newer.version, newer.root) == ("3.12.99", "newer")
        assert (older.version[:5], older.root) == ("3.11.", _TEST)
        assert [await _sees_newer(sandbox, each) for each in (newer, older)] == [True, False]


async def test_the_first_image_has_a_version_that_two_have(docker_engine: Reached) -> None:
    for images in ((_TEST, "newer"), ("newer", _TEST)):
        async with opened(docker_engine, *images) as sandbox:
            roots = {each.version[:4]: each.root for each in sandbox.available["python"]}
            assert roots == {"3.12": "newer", "3.11": images[0]}


async def _sees_newer(sandbox: Sandbox, installed: Installed) -> bool:
    main = File("main.py", b"import os; print(os.path.exists('/usr/bin/python3.12'))")
    language = sandbox.languages["python"]
    async with sandbox.cell(language, [main], SHORT, installed.root) as cell:
        ran = await run_in(cell, [installed.binary, "main.py"])
    assert ran.succeeded, ran
    return ran.stdout == b"True\n"


async def test_the_images_share_the_containers_that_stand_ready(docker_engine: Reached) -> None:
    async with opened(docker_engine, _TEST, "newer", slots=4) as sandbox:
        for busy, idle in ((_TEST, "newer"), ("newer", _TEST)):
            await _use(sandbox, busy, at_once=5)
            await _stand(docker_engine, {busy: 3, idle: 1})


async def _use(sandbox: Sandbox, root: str, at_once: int) -> None:
    async def run() -> None:
        async with sandbox.cell(sandbox.languages["python"], (), SHORT, root) as cell:
            assert (await run_in(cell, ["/bin/true"])).succeeded

    async with trio.open_nursery() as nursery:
        for _ in range(at_once):
            nursery.start_soon(run)


async def _stand(engine: Reached, wanted: dict[str, int]) -> None:
    """Wait until so many containers of each image are there."""
    ids = {
        engine.docker("image", "inspect", "--format", "{{.Id}}", f"occd/{name}").strip(): name
        for name in wanted
    }
    found: Counter[str] = Counter()
    with trio.move_on_after(60):
        while found != wanted:
            await trio.sleep(0.2)
            told = engine.docker(
                "ps", "--all", "--no-trunc", "--filter", "label=org.occd.daemon", "--format", "{{.ID}}"
            ).split()  # fmt: skip
            with suppress(ToolFailed):  # one has just gone
                images = engine.docker("inspect", "--format", "{{.Image}}", *told).split()
                found = Counter(ids[each] for each in images)
    assert found == wanted


@pytest.mark.parametrize(
    ("image", "told"),
    [
        (
            "absent",
            r"^Docker has no image occd/absent. There are debian-12, .* name one of them in sandbox.images$",
        ),
        ("foreign", r"^the image occd/foreign is for s390x, and the engine for \w+.*anew"),
        (
            "older",
            r"^the image occd/older was given to Docker by occd 0\.0\.1, and .* older --docker --no-build$",
        ),
        ("oldest", r"^the image occd/oldest was given to Docker by an older occd, and "),
        ("empty", r"^[^\n]*/\.occd-init[^\n]*no such file[^\n]*anew.*occd images empty$"),
        ("shellless", r"^[^\n]*shellless[^\n]*occd images shellless$"),
    ],
)
@pytest.mark.parametrize("first", [True, False])
async def test_an_image_in_which_nothing_runs_is_told_in_a_line(
    docker_engine: Reached, image: str, told: str, first: bool
) -> None:
    images = (image,) if first else (_TEST, image)
    with pytest.raises(SandboxUnavailable, match=told) as caught:
        async with opened(docker_engine, *images):
            raise AssertionError("it was opened")
    assert "\n" not in str(caught.value)


def test_the_list_tells_what_docker_has(docker_engine: Reached, tmp_path: Path) -> None:
    def told(*argv: str) -> dict[str, str]:
        host = docker_engine.host
        place = f"--data-dir={tmp_path}"
        code, said = occd(place, "images", "--list", *argv, OCCD_SANDBOX__HOST=host)
        assert code == 0, said
        return dict(line.split(maxsplit=1) for line in said.splitlines())

    for name in ("listed", "kept"):
        plant(tmp_path / FOLDER / name, "old", name=name)
    try:
        give(docker_engine.host, tmp_path, "listed")
        assert "Docker" not in "".join(told().values())  # nobody has asked for it
        lines = told("--docker")
        assert re.search(
            r" built \d+ days ago; not described; in Docker, 0\.0 GB$", lines["listed"]
        )
        assert lines["kept"].endswith(
            "; not in Docker: occd images kept --docker --no-build gives it"
        )
        kept = ["images", "kept", "--docker", "--no-build"]
        code, said = occd(f"--data-dir={tmp_path}", *kept, OCCD_SANDBOX__HOST=docker_engine.host)
        assert (code, said[:34]) == (0, "occd: kept: given to Docker as occ"), said
        assert lines["debian-13"] == "not built; not in Docker"
        assert lines["newer"].startswith("not built; not described; in Docker, ")
        assert lines["newer"].endswith(" GB, not by occd")
        # Nothing can give it anew.
        assert lines["older"].endswith(f", by occd 0.0.1, and this is {__version__}")
        assert "by an older occd, and this is " in lines["oldest"]
        (tmp_path / FOLDER / "listed").rename(tmp_path / "away")
        plant(tmp_path / FOLDER / "listed", "new", name="listed", built_at=1.0)
        assert lines != (lines := told("--docker"))
        assert lines["listed"].endswith(
            ", built at another time: occd images listed --docker --no-build gives the one of here"
        )
    finally:
        docker_engine.docker("image", "rm", "--force", "occd/listed", "occd/kept")


def test_doctor_tells_that_docker_has_another_image_than_the_folder(
    docker_engine: Reached, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told() -> str:
        return occd(
            "--data-dir",
            tmp_path,
            "doctor",
            OCCD_SANDBOX__KIND="docker",
            OCCD_SANDBOX__HOST=docker_engine.host,
            OCCD_SANDBOX__IMAGES="aged",
        )[1]

    plant(tmp_path / FOLDER / "aged", "old", name="aged")
    try:
        assert give(docker_engine.host, tmp_path, "aged") == "occd/aged"
        assert "another than" not in told()
        (tmp_path / FOLDER / "aged").rename(tmp_path / "away")
        plant(tmp_path / FOLDER / "aged", "new", name="aged", built_at=1.0)
        assert (
            f"weak  Docker's image occd/aged is another than the one in {tmp_path}/images/aged\n"
            "      → Give Docker that one, as root: occd images aged --docker --no-build\n"
        ) in told()
        give(docker_engine.host, tmp_path, "aged")
        assert behind(docker_engine.host, tmp_path, "aged") is None
        monkeypatch.setattr("occd.images.docker.described", lambda: ["aged"])
        monkeypatch.setattr("occd.images.docker.describe", lambda _: describe("debian-12"))
        assert behind(docker_engine.host, tmp_path, "aged") == (
            "the description of Docker's image occd/aged has changed since",
            "Build it anew, as root: occd images aged --docker",
        )
    finally:
        docker_engine.docker("image", "rm", "--force", "occd/aged")
