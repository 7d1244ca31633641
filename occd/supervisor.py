"""Tells systemd how occd fares, where systemd started it with Type=notify (sd_notify(3))."""

import os
from collections.abc import Awaitable, Callable

import structlog
import trio

from occd.log import printable

log = structlog.get_logger()

_LOOK_S = 1.0
_END_S = 30.0
"""Beyond the grace: last answers, and the end of nsjail's processes."""
_PATIENCE_S = 5.0
"""A drain waits no longer for a supervisor that reads nothing."""


async def tell_readiness(problems: Callable[[], Awaitable[list[str]]]) -> None:
    """Look until there are no problems, and then say that occd is ready."""
    if not _place():
        return
    while found := await problems():
        await _tell(f"STATUS=not ready: {printable(found[0])}")
        await trio.sleep(_LOOK_S)
    await _tell("READY=1", "STATUS=ready")


async def tell_stop(grace_s: float) -> None:
    """occd drains, and may take longer for it than the unit's TimeoutStopSec."""
    micros = round((grace_s + _END_S) * 1e6)
    with trio.move_on_after(_PATIENCE_S) as patience:
        await _tell("STOPPING=1", "STATUS=draining", f"EXTEND_TIMEOUT_USEC={micros}")
    if patience.cancelled_caught:
        log.warning("systemd was not told", said="STOPPING=1", reason="nobody reads its socket")


def _place() -> str | None:
    """A path, or with @ an abstract address."""
    return os.environ.get("NOTIFY_SOCKET")


async def _tell(*lines: str) -> None:
    """Wait while systemd has not read what was told before."""
    if place := _place():
        address = "\0" + place[1:] if place.startswith("@") else place
        with trio.socket.socket(trio.socket.AF_UNIX, trio.socket.SOCK_DGRAM) as socket:
            try:
                await socket.connect(address)  # else no poll shows that the other end is full
                await socket.send("\n".join(lines).encode())
            except OSError as error:
                log.warning("systemd was not told", said=lines[0], reason=str(error))
