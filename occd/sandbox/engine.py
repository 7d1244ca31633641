"""Docker's engine, as far as the sandbox uses it. Each call runs in a thread, because the SDK blocks."""

import socket
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar, TypeVarTuple, Unpack

import docker
import docker.errors
import requests
import trio

from occd.errors import SandboxFailed

Args = TypeVarTuple("Args")
R = TypeVar("R")

_CALL_S = 30.0
_AT_ONCE = 16
_SAID_MAX = 500
_ONE_TERMINAL = docker.types.Mount(
    "/dev/pts",
    None,
    type="volume",
    driver_config=docker.types.DriverConfig(
        "local",
        {"type": "devpts", "device": "devpts", "o": "nosuid,noexec,max=1,ptmxmode=0666,mode=0620"},
    ),
)
"""The engine's own gives as many as are asked for. A volume without a name goes with its container."""
_TO_BE_ANOTHER = ["SETUID", "SETGID", "SETPCAP", "KILL"]
"""Rights of an init that is root: to become the programs' user for good, and to signal it."""
LABEL = "org.occd.daemon"
"""The label of each container of ours. The value names the daemon that made the container."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """The limits of a container. `memory` is in bytes."""

    memory: int
    processes: int


@dataclass(frozen=True, slots=True)
class Wall:
    """How each container is made. `label` names this daemon."""

    image: str
    runtime: str | None
    user: int
    label: str
    seccomp: str
    tmpfs: dict[str, str]
    ulimits: dict[str, int]
    masked: list[str]
    bounds: Bounds
    one_terminal: bool = False
    """Whether the container's terminals are a file system that gives one."""
    init_is_root: bool = False
    """Programs have `user` either way. An init that is root is out of their reach also in a kernel that would
    let a process open the files of others of its user."""


@dataclass(frozen=True, slots=True)
class Gives:
    """What an engine says of itself: it can limit memory; it shares the processors by container. Whether the
    runtime goes along is another question. `runtimes` are the names that it was given."""

    memory: bool
    cpu: bool
    runtimes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Image:
    """`id` stays its own when another image gets its name. `architecture` is in the engine's words."""

    id: str
    architecture: str


class Engine:
    def __init__(self, host: str) -> None:
        """Raises SandboxFailed when the engine cannot be asked."""
        self._client = docker.APIClient(base_url=host, version="1.41", timeout=_CALL_S)
        self._limiter = trio.CapacityLimiter(_AT_ONCE)

    async def start(self, wall: Wall, argv: list[str]) -> tuple[str, socket.socket]:
        """Start a container, whose id is returned, with the socket of its stdin, stdout and stderr."""
        return await self._call(self._start, wall, argv)

    async def limit(self, container: str, bounds: Bounds) -> None:
        """Set the limits of a container anew."""
        memory, processes = bounds.memory, bounds.processes
        limits = {"Memory": memory, "MemorySwap": memory, "PidsLimit": processes}
        await self._call(self._update, container, limits)

    async def share(self, container: str, shares: int) -> None:
        """Set the weight with which a container shares the processors with others."""
        await self._call(self._update, container, {"CpuShares": shares})

    async def remove(self, container: str) -> None:
        """Kill and remove a container, if it is there."""
        await self._call(self._remove, container)

    async def of(self, label: str) -> list[str]:
        """The containers that the daemon of this label has made."""
        return await self._call(self._of, label)

    async def gives(self) -> Gives:
        return await self._call(self._gives)

    async def ran_out(self, container: str) -> bool:
        """Whether the kernel has refused memory to the container, which may have gone since. The engine says
        so of the last containers only, and a moment later."""
        return await self._call(self._ran_out, container)

    async def image(self, name: str) -> Image | None:
        """The image that has this name now."""
        return await self._call(self._image, name)

    async def architecture(self) -> str:
        return await self._call(self._architecture)

    async def close(self) -> None:
        await trio.to_thread.run_sync(self._client.close)

    async def _call(self, function: Callable[[Unpack[Args]], R], *args: *Args) -> R:
        try:
            return await trio.to_thread.run_sync(
                function, *args, limiter=self._limiter, abandon_on_cancel=False
            )
        except (docker.errors.DockerException, requests.RequestException, OSError) as error:
            said = " ".join(str(error).split())[:_SAID_MAX]  # an engine may say many lines
            raise SandboxFailed(f"Docker: {said}") from error

    def _start(self, wall: Wall, argv: list[str]) -> tuple[str, socket.socket]:
        client = self._client
        host = client.create_host_config(
            auto_remove=True,
            cap_drop=["ALL"],
            cap_add=_TO_BE_ANOTHER if wall.init_is_root else [],
            security_opt=["no-new-privileges", f"seccomp={wall.seccomp}"],
            read_only=True,
            tmpfs=wall.tmpfs,
            network_mode="none",
            dns=["127.0.0.1"],  # else the container is told the machine's
            dns_search=["."],
            ipc_mode="private",
            cgroupns="private",
            mounts=[_ONE_TERMINAL] if wall.one_terminal else [],
            mem_limit=wall.bounds.memory,
            memswap_limit=wall.bounds.memory,
            pids_limit=wall.bounds.processes,
            ulimits=[
                docker.types.Ulimit(name=name, soft=most, hard=most)
                for name, most in wall.ulimits.items()
            ],
            log_config=docker.types.LogConfig(type="none"),
            runtime=wall.runtime,
        )
        host["MaskedPaths"] = wall.masked  # in place of the engine's own list
        made = client.create_container(
            wall.image,
            argv,
            hostname="box",
            user="0:0" if wall.init_is_root else f"{wall.user}:{wall.user}",
            working_dir="/box",
            stdin_open=True,
            tty=False,
            environment={},
            labels={LABEL: wall.label},
            host_config=host,
            entrypoint="",
        )
        container: str = made["Id"]
        try:
            # `stdin_open` makes the engine close stdin with our connection.
            attached = client.attach_socket(
                container, params={"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1}
            )
            connection = attached._sock
            sock: socket.socket = connection.dup()
            attached.close()
            connection.close()
        except BaseException:
            self._remove(container)
            raise
        try:
            client.start(container)
        except BaseException:
            sock.close()
            self._remove(container)
            raise
        return container, sock

    def _update(self, container: str, limits: dict[str, int]) -> None:
        # The SDK's own call knows no limit of processes.
        url = self._client._url("/containers/{0}/update", container)
        self._client._raise_for_status(self._client._post_json(url, data=limits))

    def _remove(self, container: str) -> None:
        try:
            self._client.remove_container(container, v=True, force=True)
        except docker.errors.NotFound:
            pass
        except docker.errors.APIError as error:
            if error.status_code != 409:  # the engine removes it already
                raise

    def _of(self, label: str) -> list[str]:
        found = self._client.containers(all=True, filters={"label": f"{LABEL}={label}"})
        return [each["Id"] for each in found]

    def _gives(self) -> Gives:
        told = self._client.info()
        return Gives(
            told.get("MemoryLimit") is True, told.get("CPUShares") is True, tuple(told["Runtimes"])
        )

    def _ran_out(self, container: str) -> bool:
        # The engine does not end an answer without `until`, and has its own clock.
        now = datetime.fromisoformat(self._client.info()["SystemTime"]).timestamp()
        wanted = {"container": container, "event": "oom"}
        told = self._client.events(since=0, until=f"{now:.6f}", filters=wanted, decode=True)
        return any(True for _ in told)

    def _image(self, name: str) -> Image | None:
        try:
            told = self._client.inspect_image(name)
        except docker.errors.ImageNotFound:
            return None
        return Image(told["Id"], told["Architecture"])

    def _architecture(self) -> str:
        told: str = self._client.version()["Arch"]
        return told
