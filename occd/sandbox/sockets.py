"""The bound of the data that waits in TCP and UDP sockets of containers, where control groups are v1.

v1 counts such data apart from other memory, and only in a group that has a limit for them. runc passes over
the limit that an engine is asked for. So occd sets the limit, where occd is root on the engine's machine.
Elsewhere all programs share the machine's bounds (tcp_mem, udp_mem).
"""

import os
from pathlib import Path

from occd.sandbox.cgroup import find_mount

_LIMIT = "memory.kmem.tcp.limit_in_bytes"


class SocketBounds:
    """Of the containers that one engine makes. Their groups differ in the container's id alone."""

    def __init__(self, before: str, after: str) -> None:
        self._before = before
        self._after = after

    def hold(self, container: str, memory: int) -> None:
        """Before the program makes sockets, because older ones are not counted. Raises OSError, also of a
        container that has ended."""
        number = os.open(f"{self._before}{container}{self._after}", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(number, str(memory).encode())
        finally:
            os.close(number)


def find_socket_bounds(container: str) -> SocketBounds | None:
    """Where the groups of containers are, by one that runs. None: no such group is here."""
    top: Path | None = find_mount("cgroup", "memory")
    for folder, names, _ in os.walk(top or ""):
        for name in names:
            before, found, after = name.partition(container)
            if found:
                return SocketBounds(f"{folder}/{before}", f"{after}/{_LIMIT}")
    return None
