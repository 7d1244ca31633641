"""Where the sandbox's tests run: every kind of sandbox, and what `places.toml` knows not to hold in it."""

import json
import os
import re
import secrets
import tomllib
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal, get_args

import built_images
import pytest
import trio
from engine import Reached
from serving import Server, serving
from shared_engine import IMAGE

import occd.sandbox.docker
import occd.sandbox.host
import occd.sandbox.nsjail
from occd.config import Config, ExecuteConfig, SandboxConfig
from occd.errors import SandboxFailed
from occd.images import FOLDER
from occd.languages import Language
from occd.languages.installed import Installed
from occd.sandbox import Run, Sandbox, open_sandbox
from occd.sandbox.engine import Engine
from occd.sandbox.jailer import Jailer, Ready
from occd.sandbox.probe import Probe, why_untraced
from occd.sandbox.program import environment
from occd.sandbox.templates import Template

Place = Literal[
    "nsjail",
    "nsjail-forked",
    "nsjail-user",
    "nsjail-container",
    "docker",
    "gvisor",
    "nsjail-sampled",
]
"""nsjail: as root, each program with an interpreter of its own. nsjail-forked: as root, with copies of
templates wherever a template can serve. nsjail-user: as a normal user. nsjail-container: in a container
without any privilege. docker: with runc. gvisor: Docker with runsc. nsjail-sampled: as root, without control
groups."""

PLACES: tuple[Place, ...] = get_args(Place)[:-1]
"""Of the printed table."""
APART: tuple[Place, ...] = ("nsjail-user", "nsjail-container")
"""Here the whole process of the tests lives in the place: see `apart_places.py`."""
Outcome = Literal["held", "not_applicable", "not_held", "failed"]
_RUNTIMES: dict[Place, str | None] = {"docker": None, "gvisor": "runsc"}
_SMALL = 16 * 2**20
"""A memory limit below it may leave no room beside an interpreter, which then is no copy."""
_GONE_S = 10.0
"""Within this time the engine removes a container that has ended."""
_TABLE = Path(__file__).with_suffix(".toml")


@dataclass(frozen=True)
class Row:
    """These tests do not apply in these places, because of `why`; or they do not hold there, and `why` says
    what an attacker gains."""

    tests: Sequence[str]
    places: Sequence[Place]
    kind: Literal["not_applicable", "not_held"]
    why: str

    def names(self, test: str, place: str) -> bool:
        """`test` is `test_files.py::test_a_list_tells_what_a_folder_has[what its parameters are]`."""
        return place in self.places and any(fnmatchcase(test, each) for each in self.tests)


def known_rows() -> list[Row]:
    kinds: tuple[Literal["not_applicable", "not_held"], ...] = ("not_applicable", "not_held")
    return [
        Row(row["tests"], row["places"], kind, row[kind])
        for row in tomllib.loads(_TABLE.read_text())["row"]
        for kind in kinds
        if kind in row
    ]


def places_of(marks: Collection[str], only: Place | None) -> Sequence[Place]:
    """Where a test with these marks runs in this process."""
    everywhere = "promise" in marks and "mechanics" not in marks
    if only:
        return [only] if everywhere else []
    if not everywhere or "contract" not in marks:
        return ["nsjail"]
    sampled: list[Place] = ["nsjail-sampled"] if "sampled" in marks else []
    gvisor: list[Place] = ["gvisor"] if "core" in marks else []
    return ["nsjail", *sampled, "docker", *gvisor]


def place_of(item: pytest.Item) -> Place | None:
    """Where this test of a promise runs."""
    found = getattr(item, "callspec", None)
    place: Place | None = found and found.params.get("place")
    return place if place in get_args(Place) else None


def _served_at(item: pytest.Item) -> Place | None:
    """Over which sandbox the daemon of this test runs: see `everywhere.py`."""
    found = getattr(item, "callspec", None)
    place: Place | None = found and found.params.get("server")
    return place if place in PLACES else None


def mark_known(items: Sequence[pytest.Item]) -> None:
    """What does not apply is skipped. What does not hold is tried, and must fail."""
    rows = known_rows()
    for item in items:
        if place := place_of(item) or _served_at(item):
            for row in rows:
                if row.names(_row_of(item.nodeid), place):
                    marks = {
                        "not_applicable": pytest.mark.skip,
                        "not_held": pytest.mark.xfail(strict=True),
                    }
                    item.add_marker(marks[row.kind](reason=row.why))


def _row_of(nodeid: str) -> str:
    """Without the folder of the tests and without the place."""
    places = "|".join(sorted(PLACES, key=len, reverse=True))
    name = re.sub(rf"\[@(?:{places})(?:-|(?=\]))", "[", nodeid.removeprefix("tests/"))
    return name.removesuffix("[]")


def sandbox_of(place: Place, engine: Callable[[], Reached], image: str | None) -> Config:
    """The configuration of the sandbox of a place. Programs see the image of this name, which is built;
    without one the machine's files with nsjail, and IMAGE with Docker."""
    if place not in _RUNTIMES:
        if not image:
            return Config()
        return Config(data_dir=built_images.built(image), sandbox=SandboxConfig(images=(image,)))
    if image:
        built_images.give(engine(), image)
    used = image or IMAGE.removeprefix("occd/")
    return Config(
        sandbox=SandboxConfig(
            kind="docker", host=engine().host, images=(used,), runtime=_RUNTIMES[place]
        ),
        execute=ExecuteConfig(slots=1),
    )


@contextmanager
def serving_as(config: Config, data_dir: Path, **settings: Any) -> Iterator[Server]:
    """A server with the sandbox of `sandbox_of`."""
    sandbox = config.sandbox
    if sandbox.images and sandbox.kind == "nsjail":
        data_dir.mkdir(0o700)
        (data_dir / FOLDER).symlink_to(config.data_dir / FOLDER)
    told = {"kind": sandbox.kind, "host": sandbox.host, "images": ",".join(sandbox.images)}
    told |= {"runtime": sandbox.runtime} if sandbox.runtime else {}
    settings |= {f"sandbox__{name}": value for name, value in told.items()}
    with serving(data_dir, **settings) as server:
        yield server


@asynccontextmanager
async def opened(
    place: Place, engine: Callable[[], Reached], cache: Path, image: str | None = None
) -> AsyncIterator[Sandbox]:
    """The sandbox of a place. No container of it is left."""
    config = sandbox_of(place, engine, image)
    if place not in _RUNTIMES:
        async with AsyncExitStack() as held:
            patch = held.enter_context(pytest.MonkeyPatch.context())
            if place == "nsjail-forked":
                config = _with_templates(config, 2**30)
                patch.setattr(occd.sandbox.nsjail, "template_of", _lenient_template_of)
                patch.setattr(Jailer, "_take_warm", _take_in_any_case)
            else:
                config = _with_templates(config, 0)
            if place == "nsjail-sampled":
                patch.setattr(occd.sandbox.host, "find_cgroups", lambda: None)
            with pytest.MonkeyPatch.context() as found_out:
                found_out.setattr(Probe, "start", _start_once(place))
                untraced = _once(place, why_untraced)
                found_out.setattr(occd.sandbox.nsjail, "why_untraced", untraced)
                nsjail = occd.sandbox.nsjail._Nsjail
                found_out.setattr(nsjail, "first_trial", _first_trial_once(place))
                sandbox = await held.enter_async_context(open_sandbox(config, cache))
            assert ("own-uid" in sandbox.holds) == (place not in APART)
            yield sandbox
        return
    label = f"tests-{os.getpid()}-{place}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(secrets, "token_hex", lambda _: label)
        patch.setattr(Probe, "start", _start_once(place))
        patch.setattr(occd.sandbox.docker, "why_untraced", _once(place, why_untraced))
        backend = occd.sandbox.docker._Docker
        patch.setattr(backend, "trial", _once(place, backend.trial))
        patch.setattr(backend, "examine", _examine_once(place))
        async with open_sandbox(config) as sandbox:
            yield sandbox
    client = Engine(config.sandbox.host)
    try:
        with trio.fail_after(_GONE_S):
            while await client.of(label):  # noqa: ASYNC110
                await trio.sleep(0.05)
    finally:
        with trio.move_on_after(_GONE_S, shield=True):
            await client.close()


def _with_templates(config: Config, most: int) -> Config:
    sandbox = config.sandbox.model_copy(update={"templates": most})
    return config.model_copy(update={"sandbox": sandbox})


def _lenient_template_of(
    language: Language, versions: Sequence[Installed], run: Run, root: str
) -> Template | None:
    """Also for the suites' environments and limits."""
    known = any(each.binary == run.argv[0] for each in versions)
    if not language.warm or run.tty or run.trace or not known:
        return None
    if Path(run.argv[-1]).stem != "main":
        return None
    forks = language.warm == "fork"
    return Template(
        tuple(run.argv), tuple(environment(run)), run.argv[-1], forks, root, bool(language.sets)
    )


_take_warm = Jailer._take_warm


async def _take_in_any_case(
    jailer: Jailer, template: Template, memory: int, files: Collection[str]
) -> Ready | None:
    """A copy of a template, also for the first program."""
    jailer.warm([template], files)
    if template not in jailer._warm or jailer._warm[template].lent:
        assert template.packages or template in jailer._warm, "the template does not start"
        return None
    try:
        await jailer._warm[template].launcher.ready()
    except SandboxFailed:
        assert template.packages  # which are not installed
    ready = await _take_warm(jailer, template, memory, files)
    assert ready or memory < _SMALL or template.packages, "the template does not start"
    return ready


_KNOWN: dict[tuple[Place, str], Any] = {}
"""The findings of each place. Making them takes a dozen containers, or three jails."""


def _once(place: Place, ask: Callable[..., Any]) -> Callable[..., Any]:
    async def once(*given: Any) -> Any:
        if (place, ask.__name__) not in _KNOWN:
            _KNOWN[place, ask.__name__] = await ask(*given)
        return _KNOWN[place, ask.__name__]

    return once


def _first_trial_once(place: Place) -> Callable[..., Any]:
    backend = occd.sandbox.nsjail._Nsjail
    first_trial = backend.first_trial

    async def once(nsjail: occd.sandbox.nsjail._Nsjail) -> None:
        if (place, "first_trial") not in _KNOWN:
            await first_trial(nsjail)
            _KNOWN[place, "first_trial"] = nsjail.unforked
        nsjail.unforked = _KNOWN[place, "first_trial"]
        nsjail._host = replace(nsjail._host, forks=nsjail.unforked is None)

    return once


def _start_once(place: Place) -> Callable[..., Any]:
    start = Probe.start

    async def once(probe: Probe, *given: Any, **named: Any) -> None:
        if (place, "start") not in _KNOWN:
            await start(probe, *given, **named)
            _KNOWN[place, "start"] = probe.available, probe.formatters
        probe.available, probe.formatters = _KNOWN[place, "start"]

    return once


def _examine_once(place: Place) -> Callable[..., Any]:
    backend = occd.sandbox.docker._Docker
    examine = backend.examine

    async def once(docker: occd.sandbox.docker._Docker) -> None:
        if (place, "examine") not in _KNOWN:
            before = dict(vars(docker))
            await examine(docker)
            _KNOWN[place, "examine"] = {
                name: value for name, value in vars(docker).items() if value is not before[name]
            }
        vars(docker).update(_KNOWN[place, "examine"])

    return once


_OUTCOMES: dict[str, Outcome] = {}


def note_outcome(report: pytest.TestReport) -> None:
    row = _row_of(report.nodeid)
    if report.failed:
        _OUTCOMES[row] = "failed"
    elif report.skipped:
        _OUTCOMES[row] = "not_held" if hasattr(report, "wasxfail") else "not_applicable"
    elif report.when == "call":
        _OUTCOMES[row] = "held"


def write_outcomes(into: Path) -> None:
    into.write_text(json.dumps(_OUTCOMES))
