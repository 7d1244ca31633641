"""Each container has a user of the machine that no other container of the engine has."""

import secrets
from collections.abc import Collection, Iterator
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest
import trio
from engine import Reached
from sandboxed import LONG, PYTHON, Lab, Ran, run_in, running
from shared_engine import IMAGE
from test_containers import opened
from walls import pid_of, uid_of

import occd.sandbox.containers
import occd.sandbox.engine
from occd.errors import SandboxUnavailable
from occd.images.users import CONTAINER_USERS


async def users_at_once(labs: Collection[Lab]) -> set[int]:
    """The users that the machine knows of programs that run at once, one in each lab."""
    marks = [secrets.token_hex(8) for _ in labs]
    async with AsyncExitStack() as stack:
        for mark, lab in zip(marks, labs, strict=True):
            program = await stack.enter_async_context(running(lab, f"mark = '{mark}'; input()"))
            stack.push_async_callback(program.type.send, b"\n")
        return {uid_of(pid_of(mark)) for mark in marks}


async def test_programs_that_run_at_once_have_users_of_their_own_also_of_several_daemons(
    docker_engine: Reached, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Daemons that would take the same users in the same order."""
    monkeypatch.setattr(secrets, "randbelow", lambda _: 0)
    async with opened(docker_engine, slots=2) as one, opened(docker_engine) as other:
        assert "own-uid" in one.sandbox.holds
        users = await users_at_once([one, one, other, other])
    assert len(users) == 4
    assert users <= set(CONTAINER_USERS)


async def test_a_program_finds_its_users_name_and_home(docker_engine: Reached) -> None:
    async with opened(docker_engine) as lab:
        ran = await lab.python(
            """
            import getpass, grp, pathlib, pwd, subprocess
            me = pwd.getpwuid(os.getuid())
            print(me.pw_name, me.pw_dir, me.pw_shell, me.pw_gid == os.getgid())
            print(grp.getgrgid(os.getgid()).gr_name, {*os.getgroups()} <= {os.getgid()})
            del os.environ["HOME"]
            print(os.path.expanduser("~"), os.path.expanduser("~box"), pathlib.Path.home())
            print(getpass.getuser(), *(open(each, "w").name for each in ("/box/a", "/tmp/a")))
            for argv in ["whoami"], ["id", "-gn"], ["stat", "-c", "%U %G", "/box", "/box/a"]:
                print(subprocess.run(argv, capture_output=True, text=True).stdout.split())
            """
        )
    assert ran.stdout.decode().splitlines() == [
        "box /box /bin/sh True",
        "box True",
        "/box /box /box",
        "box /box/a /tmp/a",
        "['box']",
        "['box']",
        "['box', 'box', 'box', 'box']",
    ]


async def test_a_file_that_a_program_leaves_is_the_next_programs_own(
    docker_engine: Reached,
) -> None:
    """It has another user."""
    leave = "import os; os.mkdir('folder', 0o700); open('folder/file', 'w').write(str(os.getuid()))"
    change = """
import os
print(open("folder/file").read(), os.getuid())
os.chmod("folder/file", 0o600); open("folder/new", "w")
"""
    async with opened(docker_engine) as lab, lab.cell() as cell:
        left = await run_in(cell, [PYTHON, "-c", leave], keep=True)
        ran = await run_in(cell, [PYTHON, "-c", change], tree=left.tree)
    assert ran.succeeded, ran
    assert len(set(ran.stdout.split())) == 2


async def test_users_are_taken_again_when_their_containers_have_gone(
    docker_engine: Reached, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = CONTAINER_USERS[:8]
    monkeypatch.setattr(occd.sandbox.engine, "CONTAINER_USERS", few)
    async with opened(docker_engine) as lab:
        users = [int((await lab.python("print(os.getuid())")).stdout) for _ in range(30)]
    assert set(users) <= set(few)


async def test_containers_that_stand_ready_leave_users_for_those_that_are_needed(
    docker_engine: Reached, monkeypatch: pytest.MonkeyPatch
) -> None:
    """These have another box, so that none that stands ready is taken for them."""
    monkeypatch.setattr(occd.sandbox.engine, "CONTAINER_USERS", CONTAINER_USERS[:12])
    monkeypatch.setattr(occd.sandbox.containers, "AT_ONCE", 6)
    monkeypatch.setattr(occd.sandbox.containers, "_USERS_LEFT", 1)
    ran: list[Ran] = []
    async with opened(docker_engine, slots=16) as lab:
        for _ in range(16):
            await lab.python("")
        async with trio.open_nursery() as nursery:
            for _ in range(6):
                nursery.start_soon(_sleep_in_a_small_box, lab, ran)
    assert len(ran) == 6
    assert all(each.succeeded for each in ran), ran


async def _sleep_in_a_small_box(lab: Lab, ran: list[Ran]) -> None:
    limits = replace(LONG, box=2**20)
    async with lab.cell(limits=limits) as cell:
        ran.append(await run_in(cell, ["/bin/sleep", "1"], limits))


@pytest.fixture
def all_taken(docker_engine: Reached, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Somebody else has the names of all users."""
    few = CONTAINER_USERS[-2:]
    monkeypatch.setattr(occd.sandbox.engine, "CONTAINER_USERS", few)
    names = [f"occd-{user}" for user in few]
    for name in names:
        docker_engine.docker("create", "--name", name, "--network=none", IMAGE, "/bin/true")
    yield
    docker_engine.docker("rm", "--force", *names)


async def test_a_container_without_a_user_is_not_made(
    docker_engine: Reached, all_taken: None
) -> None:
    with pytest.raises(SandboxUnavailable, match="all 2 users for containers are taken"):
        async with opened(docker_engine):
            raise AssertionError("it was opened")
