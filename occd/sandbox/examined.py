"""The engine, its runtime and an image, as a trial container finds them."""

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass, replace

import trio

from occd.errors import SandboxFailed, SandboxUnavailable
from occd.inputs import Limits
from occd.levels import Holds, holding
from occd.model import Outcome
from occd.sandbox import Feed, Run, Sink
from occd.sandbox.container import Container
from occd.sandbox.engine import IPV6_OFF, Bounds, Engine, Wall
from occd.sandbox.find import remedy
from occd.sandbox.sockets import SocketBounds, find_socket_bounds

_EATS = 2**27
_TRIAL = Limits(memory=8 * _EATS, wall_time=20.0)
"""The memory of the trial's container is for the engine to hold, and not for init."""
_BOUNDS = Bounds(_EATS, 256)
_SCRIPT = f"""\
read up idle < /proc/uptime
while read name real user; do if [ $name = Uid: ]; then break; fi; done < /proc/self/status
init=closed spaces=refused shown=
if (: < /proc/1/fd/0) 2> /dev/null; then init=open; fi
if unshare --user true 2> /dev/null; then spaces=made; fi
for each in /sys/*/ /sys/fs/*/; do
    case $each in /sys/fs/ | /sys/fs/cgroup/) continue; esac
    set -- "$each"*
    if [ -e "$1" ]; then shown="$shown ${{each%/}}"; fi
done
echo "$up $real $init $spaces$shown"
read go
dd if=/dev/zero of=/dev/null bs={2 * _EATS} count=1
"""
"""Tells for how long its kernel has been up, its user, whether it can open a file of init, whether it can
make a user namespace, and what it sees in /sys but control groups. Then takes more memory than it may, when
it is told to."""


@dataclass(frozen=True, slots=True)
class Examined:
    holds: Holds
    updates: bool
    """Whether the limits of a container can be set anew."""
    ipv6: bool
    """Whether the kernel knows the setting that turns IPv6 off."""
    init_is_root: bool
    """Whether init must be root, so that it can keep programs from what this kernel lets others do."""
    shown: Sequence[str]
    """Folders of the machine's /sys that programs would see."""
    sockets: SocketBounds | None
    """They hold the data that waits in sockets. None where the container's memory has it, or nothing can."""
    sockets_unbounded: bool


async def examine(
    engine: Engine,
    root: str,
    wall: Wall,
    made: Callable[[Wall], AbstractAsyncContextManager[Container]],
) -> Examined:
    """Find out what holds, by a container of its own, which `made` makes and ends.

    Raises SandboxUnavailable, and SandboxFailed."""
    gives = await engine.gives()
    wall = replace(wall, bounds=_BOUNDS)
    ipv6 = True
    try:
        trial = await _tried(engine, made(wall))
    except SandboxFailed as error:
        if IPV6_OFF.replace(".", "/") not in str(error):
            raise
        ipv6 = False
        trial = await _tried(engine, made(replace(wall, ipv6=False)))
    try:
        up, user, reached, spaces, *shown = trial.told.split()
        up_s = float(up)
    except ValueError:
        raise SandboxUnavailable(
            f"a trial container of the image {root} ended with {trial.outcome}", remedy(root)
        ) from None
    took_all = trial.outcome is not None and trial.outcome.succeeded
    bounded = gives.memory and not took_all and await trial.container.ran_out()
    own_kernel = up_s < trial.told_after_s  # it has been started for this container
    return Examined(
        holds=holding(
            own_uid=not own_kernel
            and user == str(trial.container.user),  # else it is that kernel's
            memory=bounded,
            cpu=bounded and gives.cpu,  # the runtime obeys the container's control group
            own_root=True,  # the image; no folder of the machine is mounted
            own_kernel=own_kernel,
        ),
        updates=trial.updates,
        ipv6=ipv6,
        init_is_root=reached == "open" or (own_kernel and spaces == "made"),
        shown=[] if own_kernel else shown,
        sockets=trial.sockets,
        sockets_unbounded=gives.cgroups == 1 and not own_kernel and not trial.sockets,
    )


@dataclass(frozen=True, slots=True)
class _Trial:
    container: Container
    """It has ended."""
    told: str
    told_after_s: float
    outcome: Outcome | None
    updates: bool
    sockets: SocketBounds | None


async def _tried(engine: Engine, made: AbstractAsyncContextManager[Container]) -> _Trial:
    """Raises SandboxFailed when there is no container to be tried. How a container fails in its trial is told
    by what is missing."""
    told, heard_at = bytearray(), 0.0
    send, stdin = trio.open_memory_channel[bytes](1)

    def hear(data: bytes) -> None:
        nonlocal heard_at
        told.extend(data)
        if told.endswith(b"\n"):
            heard_at = trio.current_time()
            send.send_nowait(b"go\n")

    argv = ["/bin/sh", "-c", _SCRIPT]
    run = Run(argv, (), _TRIAL, Sink(_TRIAL.output, hear), Sink(_TRIAL.output), Feed(stdin))
    asked_at = trio.current_time()
    outcome: Outcome | None = None
    sockets: SocketBounds | None = None
    with send, stdin:
        async with made as container:
            updates = await _updates(engine, container)
            if found := find_socket_bounds(container.id):
                with suppress(OSError):  # this process may not
                    found.hold(container.id, _BOUNDS.memory)
                    sockets = found
            try:
                outcome, _ = await container.run(run, None, trio.TASK_STATUS_IGNORED)
            except* SandboxFailed:  # the trial's end is looked at by the caller
                pass
    return _Trial(container, told.decode(), heard_at - asked_at, outcome, updates, sockets)


async def _updates(engine: Engine, container: Container) -> bool:
    try:
        await engine.limit(container.id, _BOUNDS)
    except SandboxFailed:  # gVisor cannot
        return False
    return True
