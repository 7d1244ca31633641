"""Programs that begin as copies of interpreters, for the tests of templates (`occd/sandbox/templates.py`)."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from places import opened
from processes import resident
from sandboxed import LONG, Lab, run_in

from occd.config import Config, SandboxConfig
from occd.languages import Given
from occd.model import File
from occd.sandbox import open_sandbox

SOON_S = 20.0


@asynccontextmanager
async def copying(cache: Path) -> AsyncIterator[Lab]:
    """Each program that a template can serve gets a copy of one."""
    async with opened("nsjail-forked", lambda: pytest.fail("no engine"), cache) as sandbox:
        yield Lab(sandbox)


@asynccontextmanager
async def usual(cache: Path, **settings: Any) -> AsyncIterator[Lab]:
    """As a daemon has it: the first program of a slot has an interpreter of its own."""
    config = Config(sandbox=SandboxConfig(**settings))
    async with open_sandbox(config, cache) as sandbox:
        yield Lab(sandbox)


def warm(lab: Lab) -> list[Any]:
    """The launchers of the templates of all idle slots."""
    sandbox: Any = lab.sandbox
    return [ready for jailer in sandbox._idle for ready in jailer._warm.values()]


async def standing(lab: Lab) -> list[Any]:
    """Those launchers, when their jails stand."""
    with trio.fail_after(SOON_S):
        for ready in warm(lab):
            await ready.launcher.ready()
    return warm(lab)


def children(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def command_of(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def interpreters(ready: Any) -> list[int]:
    """The template's process: nsjail's child is the keeper, whose first child is the template."""
    (keeper,) = children(ready.launcher._process.pid)
    return [each for each in children(keeper) if b"occd-init" not in command_of(each)]


def memory(ready: Any) -> int:
    """Bytes of a template and its copy, with the processes that keep them."""
    return resident(ready.launcher._process.pid)


SHELL = r"""
state= # before it waits for this, the interpreter may have all signals blocked
until [ "$state" = S ]; do
    while read -r key state rest && [ "$key" != State: ]; do :; done < /proc/$PPID/status
done
echo environ; tr '\0' '\n' < /proc/$PPID/environ; echo cmdline; tr '\0' ' ' < /proc/$PPID/cmdline; echo
echo limits; cat /proc/$PPID/limits
echo descriptors; ls -l /proc/$PPID/fd | sed 's/.* -> //; s/:.*//; /^total/d' | sort -u
echo status; grep -v '^\(State\|Vm\|Rss\|voluntary\|nonvoluntary\|FDSize\|Hugetlb\)' /proc/$PPID/status
echo exe; readlink /proc/$PPID/exe /proc/$PPID/cwd /proc/$PPID/root
echo ids; for file in uid_map gid_map; do sed 's/^ *\([0-9]*\) *[0-9]*/\1/' /proc/$PPID/$file; done
echo namespaces; ls /proc/$PPID/ns; cat /proc/$PPID/oom_score_adj /proc/$PPID/coredump_filter
echo owner; ls -ld /proc/$PPID /proc/$PPID/environ | cut -c 1-30
echo mounts; cut -d ' ' -f 4- /proc/$PPID/mountinfo | sed 's/uid=.*//; s/ - proc [a-z]*/ - proc/' | sort -u
echo processes; cat /proc/1/comm /proc/2/comm; echo net; cat /proc/net/dev | cut -d : -f 1; hostname
echo files
ls -an /box /tmp /dev/shm /dev/pts /dev /proc | awk '{ print $1, $3, $4, $NF }' | grep -v ' [0-9]*$'
echo groups; sed 's/occd-[^ ]*//' /proc/$PPID/cgroup; cat /proc/sys/kernel/random/boot_id | wc -c
"""
"""What a child sees of the interpreter, and what is in the jail."""


async def seen(lab: Lab, name: str, source: str) -> list[str]:
    language, binary = lab.language(name)
    files = [File(language.file_name, source.encode()), File("who.sh", SHELL.encode())]
    argv = language.run_argv(Given(binary, "", files[0].name, files, (), LONG.memory))
    async with lab.sandbox.cell(language, files, LONG) as cell:
        ran = await run_in(cell, argv, LONG, env=tuple(language.environment(binary).items()))
    assert ran.outcome.succeeded, ran.stderr
    return ran.stdout.decode().splitlines()
