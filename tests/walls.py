"""What stands between programs and the machine, as seen from both of its sides. It asks no backend."""

import re
import secrets
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from pathlib import Path

from sandboxed import PYTHON, SHORT, Lab, of_process, running

from occd.levels import Property
from occd.sandbox.cgroup import find_mount

MIB = 2**20
_BOOT = Path("/proc/sys/kernel/random/boot_id")


async def standing(lab: Lab) -> set[Property]:
    seen: dict[Property, bool] = {"memory": await _bounds_memory_that_nothing_maps(lab)}
    mark = secrets.token_hex(8)
    async with AsyncExitStack() as stack:
        for number in range(2):
            source = f"mark = '{mark}-{number}'; input()"
            program = await stack.enter_async_context(running(lab, source))
            stack.push_async_callback(program.type.send, b"\n")
        pids = [pid_of(f"{mark}-{number}") for number in range(2)]
        uids = {uid_of(pid) for pid in pids}
        seen["own-uid"] = len(uids) == 2
        groups = {_cpu_group(pid) for pid in pids}
        seen["cpu"] = None not in groups and len(groups) == 2
    shown = (await lab.python(f"print(os.stat({PYTHON!r})[1:3])")).stdout.decode()
    seen["own-root"] = shown != f"{Path(PYTHON).stat()[1:3]}\n"
    booted = (await lab.python(f"tell(lambda: open('{_BOOT}').read())")).stdout.decode()
    seen["own-kernel"] = _BOOT.read_text().strip() not in booted
    return {name for name, held in seen.items() if held}


async def _bounds_memory_that_nothing_maps(lab: Lab) -> bool:
    """Whoever samples processes does not see it."""
    limits = replace(SHORT, memory=64 * MIB, file_size=2**30, wall_time=20.0)
    ran = await lab.python(
        """
        number = os.memfd_create("x")
        for _ in range(128): os.write(number, bytes(2**20))
        """,
        limits,
    )
    assert ran.succeeded or ran.limit == "memory", ran
    return not ran.succeeded


def pid_of(mark: str) -> int:
    (found,) = [
        int(each.name)
        for each in Path("/proc").glob("[0-9]*")
        if f"mark = '{mark}'" in of_process(int(each.name), "cmdline")
    ]
    return found


def uid_of(pid: int) -> int:
    (uid,) = re.findall(r"^Uid:\t(\d+)", of_process(pid, "status"), re.MULTILINE)
    return int(uid)


def _cpu_group(pid: int) -> str | None:
    """The control group in which a process gets its share of the processors, when it is none of this
    process's."""
    for line in of_process(pid, "cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        for kind, name, weight in (("cgroup", "cpu", "cpu.shares"), ("cgroup2", "", "cpu.weight")):
            mounted = find_mount(kind, name)
            if name in controllers.split(",") and mounted:
                with suppress(OSError):
                    (mounted / path.lstrip("/") / weight).read_text()
                    return path
    return None
