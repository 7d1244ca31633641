"""Run inside the virtual machine: programs that use up what the whole machine shares. Never elsewhere: one
of them once stopped a kernel until its reboot.

Each program says when it has done its worst and stays. Then the machine's own user and a neighbour must still
get their share of everything, and the kernel must not hold more than the program pays for.
"""

import json
import os
import textwrap
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
import trio
from sandboxed import PRELUDE, Feed, Lab

from occd.model import Limits

MIB = 2**20
SLOW = Limits(cpu_time=90.0, wall_time=150.0, memory=64 * MIB, file_size=2**30)
_SLACK = 48 * MIB
"""What the machine itself needs at such a moment: a jail, a page cache, another process."""

_FAULTS = Path(__file__).parents[1] / "faults"

SHARE = """
import ctypes, errno
libc = ctypes.CDLL(None, use_errno=True)
class Attributes(ctypes.Structure): _fields_ = [("values", ctypes.c_long * 8)]
queue = Attributes(); queue.values[1], queue.values[2] = 4, 1024
timer = ctypes.c_int()
def instances():
    got = libc.inotify_init1(0)
    return got if got < 0 else libc.inotify_add_watch(got, b"/usr", 2)
wanted = {
    "inotify": instances,
    "queue": lambda: libc.syscall(240, b"share", 0o102, 0o600, ctypes.byref(queue)),
    "timer": lambda: libc.syscall(222, 1, None, ctypes.byref(timer)),
    "epoll": lambda: libc.epoll_create1(0),
}
for name, get in wanted.items():
    if get() < 0: print(name, errno.errorcode[ctypes.get_errno()], flush=True)
libc.syscall(241, b"share")
print("looked", flush=True)
"""
"""Prints what cannot be had, then `looked`."""

# Each leaves as much in the kernel as it can, and says how much.
KEPT = {
    "filters on sockets": """
        import struct
        load, leave = struct.pack("HBBI", 0x28, 0, 0, 0), struct.pack("HBBI", 6, 0, 0, 0)
        code = ctypes.create_string_buffer(load * 3999 + leave)
        program = struct.pack("HxxxxxxQ", 4000, ctypes.addressof(code))
        for _ in range(2):
            if os.fork() == 0: break
        attached = 0
        for _ in range(100):
            one = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            for level, name in ((1, 26), (1, 51)):
                try: one.setsockopt(level, name, program); attached += 1; held.append(one)
                except OSError: pass
        print(attached, flush=True)
        """,
    "groups on sockets": """
        import struct
        try:
            for _ in range(200):
                one = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM); held.append(one)
                for number in range(2000):
                    group = bytes([255, 2]) + bytes(10) + struct.pack("=II", len(held) * 4096 + number, 1)
                    one.setsockopt(41, 20, group)
        except OSError: pass
        """,
    "sockets full of data": """
        server = socket.create_server(("127.0.0.1", 0))
        for _ in range(100):
            one = socket.create_connection(server.getsockname()); held += [one, server.accept()[0]]
            one.setblocking(False)
            try:
                while True: one.send(bytes(2**16))
            except BlockingIOError: pass
        """,
    "semaphores and segments": """
        try:
            for _ in range(4000):
                for arguments in ((64, 0, 250, 0o1600), (29, 0, 4096, 0o1600), (68, 0, 0o1600)):
                    if libc.syscall(*arguments) < 0: raise OSError
        except OSError: pass
        """,
}  # fmt: skip

STAY = '\nprint("done", flush=True)\ntime.sleep(600)\n'


def fault(name: str) -> str:
    source: str = json.loads((_FAULTS / f"{name}.json").read_text())["source"]
    return PRELUDE + source.replace("time.sleep(4)", STAY).replace("time.sleep(3)", STAY)


def missing_on_the_machine() -> list[str]:
    """As the user whom occd runs as, in a process of its own."""
    with os.popen(f"/usr/bin/python3 -c '{SHARE}'") as asked:
        return asked.read().split()


def used() -> int:
    """Bytes that the machine cannot give away: the kernel's own and those of processes."""
    with suppress(PermissionError):
        Path("/proc/sys/vm/drop_caches").write_text("3")
    lines = Path("/proc/meminfo").read_text().splitlines()
    values = {
        name: int(rest.split()[0]) * 1024 for name, rest in (each.split(":") for each in lines)
    }
    return values["MemTotal"] - values["MemAvailable"]


@pytest.mark.parametrize("name", ["root-inotify-exhausted", "root-sigpending-and-mqueue-exhausted"])
async def test_machine_and_neighbour_keep_their_share(lab: Lab, name: str) -> None:
    feed = Feed()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(lab.python, fault(name), SLOW, feed=feed))
        while b"done" not in feed.seen["stdout"]:
            feed.output = trio.Event()
            await feed.output.wait()
        print(feed.seen["stdout"].decode())
        assert missing_on_the_machine() == ["looked"]
        neighbour = await lab.python(SHARE, SLOW)
        assert neighbour.stdout == b"looked\n", neighbour
        feed.stop.set()


@pytest.mark.parametrize("name", KEPT)
async def test_kernel_keeps_no_more_than_is_paid_for(lab: Lab, name: str) -> None:
    before = used()
    feed = Feed()
    async with trio.open_nursery() as nursery:
        source = "held = []\n" + textwrap.dedent(KEPT[name]) + STAY
        ended = trio.Event()

        async def attack() -> None:
            outcome = await lab.python(source, SLOW, feed=feed)
            print(outcome)
            ended.set()
            feed.output.set()

        nursery.start_soon(attack)
        while b"done" not in feed.seen["stdout"] and not ended.is_set():
            feed.output = trio.Event()
            await feed.output.wait()
        kept = used() - before
        print(f"{name}: {kept >> 20} MiB kept, {feed.seen}")
        assert kept < SLOW.memory + _SLACK
        feed.stop.set()
    outcome = await lab.python("print('hello')", SLOW)
    assert outcome.stdout == b"hello\n", outcome


async def test_filters_are_attached_by_nobody(lab: Lab) -> None:
    outcome = await lab.python("held = []\n" + textwrap.dedent(KEPT["filters on sockets"]), SLOW)
    assert set(outcome.stdout.split()) == {b"0"}, outcome
