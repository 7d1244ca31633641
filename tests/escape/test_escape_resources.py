"""Hostile programs that want all of the memory, or drown us in output."""

import time
from dataclasses import replace

import pytest
import trio
from sandboxed import SHORT, Feed, Lab

pytestmark = pytest.mark.promise

MIB = 2**20
SMALL = replace(SHORT, memory=48 * MIB, cpu_time=10.0, wall_time=20.0)

MEMORY_BOMBS = {
    "heap": "blocks = []\nwhile True: blocks.append(bytearray(2**20))",
    "anonymous_shared": """
import mmap
block = mmap.mmap(-1, 2**28)
for at in range(0, 2**28, 4096): block[at] = 1
""",
    "children_only": """
for _ in range(8):
    if os.fork() == 0:
        block = bytearray(16 * 2**20); time.sleep(60)
while True:
    os.wait()
    time.sleep(60)
""",
    "memfd": """
number = os.memfd_create("x")
while True: os.write(number, bytes(2**20))
""",
    "tmp": """
with open("/tmp/x", "wb", buffering=0) as file:
    for _ in range(60): file.write(bytes(2**20))
""",
    "shm": """
with open("/dev/shm/x", "wb", buffering=0) as file:
    for _ in range(60): file.write(bytes(2**20))
""",
    "box": """
with open("/box/x", "wb", buffering=0) as file:
    for _ in range(60): file.write(bytes(2**20))
""",
    "stack": """
threading.stack_size(2**29)
def dig(n):
    return ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)(dig)(n + 1)
sys.setrecursionlimit(10**9)
threading.Thread(target=dig, args=(0,)).start()
""",
    "sysv_shared": """
number = libc.shmget(0, 2**27, 0o1600)
libc.shmat.restype = ctypes.c_void_p
ctypes.memset(libc.shmat(number, None, 0), 1, 2**27)
""",
    "pipes": """
import fcntl
held = []
while True:
    try:
        for _ in range(100):
            ends = os.pipe(); held.append(ends); os.set_blocking(ends[1], False)
            fcntl.fcntl(ends[1], 1031, 2**20)
    except OSError: pass
    for _, end in held:
        try: os.write(end, bytes(2**20))
        except OSError: pass
    block = bytearray(64 * 2**20)
""",
}


@pytest.mark.parametrize("name", MEMORY_BOMBS)
async def test_memory_bomb_ends_as_memory_limit(lab: Lab, name: str) -> None:
    outcome = await lab.python(MEMORY_BOMBS[name], replace(SMALL, file_size=2**30, wall_time=4.0))
    assert outcome.limit == "memory", outcome
    assert outcome.memory <= SMALL.memory + MIB


async def test_memory_bomb_spares_its_neighbour(lab: Lab) -> None:
    seen: list[bytes] = []

    async def neighbour() -> None:
        outcome = await lab.python("block = bytearray(20 * 2**20); time.sleep(1); print('fine')")
        seen.append(outcome.stdout)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(neighbour)
        for _ in range(3):
            assert (await lab.python(MEMORY_BOMBS["heap"], SMALL)).limit == "memory"
    assert seen == [b"fine\n"]


async def test_main_that_survives_a_childs_memory_kill_still_hits_the_limit(lab: Lab) -> None:
    outcome = await lab.python(
        """
        if os.fork() == 0:
            blocks = []
            while True: blocks.append(bytearray(2**20))
        os.wait(); print("survived"); sys.exit(0)
        """,
        SMALL,
    )
    assert outcome.limit == "memory", outcome


async def test_thread_bomb_is_stopped(lab: Lab) -> None:
    outcome = await lab.python(
        """
        while True:
            try: threading.Thread(target=time.sleep, args=(60,)).start()
            except RuntimeError: time.sleep(0.01)
        """,
        replace(SHORT, wall_time=1.0),
    )
    assert outcome.limit in ("wall_time", "cpu_time"), outcome


FLOODS = {
    "stdout": "while True: os.write(1, b'x' * 65536)",
    "stderr": "while True: os.write(2, b'x' * 65536)",
    "both": "while True: os.write(1, b'x' * 999); os.write(2, b'y' * 999)",
    "one_byte_at_a_time": "while True: os.write(1, b'x')",
    "one_giant_line": "os.write(1, b'x' * 2**28)",
    "by_children": """
for _ in range(8): os.fork()
while True: os.write(1, b'x' * 65536)
""",
}


@pytest.mark.parametrize("name", FLOODS)
async def test_output_flood_is_cut_at_the_limit(lab: Lab, name: str) -> None:
    feed = Feed()
    others = {"memory": 2**31, "processes": 300, "cpu_time": 100, "wall_time": 100}  # out of reach
    limits = replace(SHORT, output=100_000, **others)
    outcome = await lab.python(FLOODS[name], limits, feed=feed)
    assert outcome.limit == "output", (outcome.limit, outcome.signal, outcome.stderr[:300])
    assert outcome.stdout_truncated or outcome.stderr_truncated
    assert max(len(outcome.stdout), len(outcome.stderr)) == 100_000
    assert bytes(feed.seen["stdout"]) == outcome.stdout
    assert bytes(feed.seen["stderr"]) == outcome.stderr


async def test_writing_to_dev_full_is_the_programs_own_problem(lab: Lab) -> None:
    outcome = await lab.python("tell(lambda: os.write(os.open('/dev/full', 1), b'x'))")
    assert outcome.stdout == b"ENOSPC\n"


async def test_closed_output_ends_nothing_early(lab: Lab) -> None:
    outcome = await lab.python("os.close(1); os.close(2); time.sleep(0.3); os._exit(4)")
    assert outcome.exit_code == 4


async def test_too_many_open_files_is_refused(lab: Lab) -> None:
    outcome = await lab.python(
        """
        held = []
        try:
            while True: held.append(os.dup(0))
        except OSError as error: print(errno.errorcode[error.errno], len(held) < 64)
        """,
        replace(SHORT, open_files=64),
    )
    assert outcome.stdout == b"EMFILE True\n"


async def test_long_end_of_a_large_program_does_not_hold_us_up(lab: Lab) -> None:
    """Thousands of mappings and files take the kernel a while to free; we still see the end."""
    started = time.monotonic()
    outcome = await lab.python(
        """
        import mmap
        held = [mmap.mmap(-1, 4096) for _ in range(5000)]
        for number in range(5000): open(f"/tmp/{number}", "w").close()
        print("fine")
        """,
        replace(SHORT, wall_time=15.0, cpu_time=8.0),
    )
    assert outcome.stdout == b"fine\n"
    assert time.monotonic() - started < 20
