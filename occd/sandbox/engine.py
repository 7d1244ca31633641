"""Docker's engine, as far as the sandbox uses it.

Each call runs in a thread, because the SDK blocks. An engine may be away, or stand still with its socket
open. So a call that takes too long, or is cancelled, leaves its thread behind. The thread ends when the
engine goes on or dies, and removes what it has made.
"""

import errno
import os
import random
import secrets
import socket
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import cycle
from time import monotonic
from typing import Any, TypeVar, TypeVarTuple, Unpack

import docker
import docker.errors
import requests
import trio

from occd.errors import SandboxFailed
from occd.images.users import CONTAINER_USERS
from occd.sandbox.maker import is_dead, ourselves

Args = TypeVarTuple("Args")
R = TypeVar("R")

_CALL_S = 20.0
_GREET_S = 10.0
_LEFT_S = 10.0
_NOBODYS_S = _CALL_S + 5.0
"""A container that was made is started within _CALL_S, by a busy engine too, or not at all any more."""
_CLOSE_S = 5.0
_AT_ONCE = 16
_SAID_MAX = 500
_MEMORY_MIN = 6 * 2**20
"""The engine refuses less."""
_API = "1.41"
"""Docker 20.10's, the oldest with all that we ask for."""
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
_CONFLICT = 409
_NAME = "occd-"
"""A container's name, before the number of its user."""
IPV6_OFF = "net.ipv6.conf.lo.disable_ipv6"
LABEL = "org.occd.daemon"
"""The label of each container of ours. The value names the daemon that made the container."""
_MAKER = "org.occd.maker"
"""The label that names the process which made the container (`maker.py`), our client in it, and the number by
which the client knows whether it still makes the container."""


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
    label: str
    seccomp: str
    box: str
    """The options of the file system of /box. It is the user's."""
    tmpfs: dict[str, str]
    ulimits: dict[str, int]
    masked: list[str]
    bounds: Bounds
    one_terminal: bool = False
    """Whether the container's terminals are a file system that gives one."""
    init_is_root: bool = False
    """Programs have the container's user either way. An init that is root is out of their reach also in a
    kernel that would let a process open the files of others of its user."""
    ipv6: bool = True
    """Whether the container's loopback has ::1. The engine takes it away where there is no network, and runc
    fails where the kernel has no IPv6."""


@dataclass(frozen=True, slots=True)
class Made:
    """A container that was started. No other container of the engine has its user. `socket` is its stdin,
    stdout and stderr."""

    id: str
    user: int
    socket: socket.socket


@dataclass(frozen=True, slots=True)
class Gives:
    """What an engine says of itself: it can limit memory; it shares the processors by container. Whether the
    runtime goes along is another question. `runtimes` are the names that it was given. `cgroups` is the
    version of its control groups."""

    memory: bool
    cpu: bool
    runtimes: tuple[str, ...]
    cgroups: int


@dataclass(frozen=True, slots=True)
class Image:
    """`id` stays its own when another image gets its name. `architecture` is in the engine's words."""

    id: str
    architecture: str
    labels: Mapping[str, str]


class EngineAway(SandboxFailed):
    """The engine cannot be asked. `remedy` may mend it."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.remedy = remedy

    def again(self) -> "EngineAway":
        """The same, for another task to raise."""
        return EngineAway(str(self), self.remedy)


class _Wanted:
    """Whether somebody waits for the container that a thread makes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wanted = True
        self._made: socket.socket | None = None

    def made(self, connection: socket.socket) -> None:
        with self._lock:
            self._made = connection
            if not self._wanted:
                connection.close()

    def no_more(self) -> None:
        """The end of the connection is the end of the container."""
        with self._lock:
            self._wanted = False
            if self._made:
                self._made.close()


class Engine:
    def __init__(self, host: str) -> None:
        """Raises EngineAway for an address that is none."""
        self._host = host
        self._limiter = trio.CapacityLimiter(_AT_ONCE)
        self._closed = False
        first = secrets.randbelow(len(CONTAINER_USERS))  # most likely not where another daemon is
        self._users = cycle([*CONTAINER_USERS[first:], *CONTAINER_USERS[:first]])
        self._name = f"{ourselves()}.{os.urandom(4).hex()}"
        self._begun = 0
        self._making: set[int] = set()
        """The numbers of the containers that threads make now."""
        self._lock = threading.Lock()
        try:
            self._client = docker.APIClient(base_url=host, version=_API, timeout=_CALL_S)
        except (docker.errors.DockerException, ValueError) as error:
            raise EngineAway(
                f"{host} is no address of Docker's engine: {_one_line(error)}",
                "An address is like unix:///var/run/docker.sock",
            ) from error

    async def greet(self) -> None:
        """Find out that Docker's engine answers, and how it wants to be talked to. Raises EngineAway."""
        try:
            told = await self._within(_GREET_S, self._client.version, False)
        except EngineAway:
            raise
        except SandboxFailed as error:
            raise self._no_engine() from error
        oldest, newest = _numbers(told, "MinAPIVersion"), _numbers(told, "ApiVersion")
        if newest is None:
            raise self._no_engine()
        if newest < (wanted := _numbers({"": _API}, "") or ()):
            raise EngineAway(
                f"Docker's engine at {self._host} is too old: its API is {told['ApiVersion']}",
                f"Take one with {_API} (Docker 20.10) or later",
            )
        if oldest and oldest > wanted:
            self._client._version = told["MinAPIVersion"]

    async def start(self, wall: Wall, argv: list[str]) -> Made:
        """Start a container. An init that is root is told its user as the last argument. When this raises, no
        container is left."""
        wanted = _Wanted()
        try:
            return await self._call(self._start, wall, argv, wanted)
        except BaseException:
            wanted.no_more()
            raise

    async def limit(self, container: str, bounds: Bounds) -> None:
        """Set the limits of a container anew."""
        memory, processes = max(_MEMORY_MIN, bounds.memory), bounds.processes
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

    async def remove_left(self) -> None:
        """Remove the containers that processes of occd made and did not come to start before they or the
        engine died, and those that the engine did not come to remove. Those that run end by themselves,
        without the process that made them."""
        await self._within(_LEFT_S, self._remove_left)

    async def process(self, container: str) -> int:
        """The number of the container's first process on the engine's machine. 0 when it has ended."""
        return await self._call(self._process, container)

    async def gives(self) -> Gives:
        return await self._call(self._gives)

    async def told_oom(self, container: str) -> bool:
        """Whether the engine tells that the kernel has refused memory to the container, which may have gone
        since. The engine tells it a moment later, and of the last containers only."""
        return await self._call(self._told_oom, container)

    async def image(self, name: str) -> Image | None:
        """The image that has this name now."""
        return await self._call(self._image, name)

    async def architecture(self) -> str:
        return await self._call(self._architecture)

    async def settled(self) -> None:
        """Wait until the threads that were left behind have ended; not for long."""
        places = [object() for _ in range(_AT_ONCE)]
        taken = []
        with trio.move_on_after(_CLOSE_S):
            for place in places:
                await self._limiter.acquire_on_behalf_of(place)
                taken.append(place)
        for place in taken:
            self._limiter.release_on_behalf_of(place)

    async def close(self) -> None:
        """For good. A thread that was left behind closes what it opens after this."""
        await trio.lowlevel.checkpoint()
        self._closed = True
        self._client.close()

    async def _call(self, function: Callable[[Unpack[Args]], R], *args: *Args) -> R:
        return await self._within(_CALL_S, function, *args)

    async def _within(
        self, seconds: float, function: Callable[[Unpack[Args]], R], *args: *Args
    ) -> R:
        try:
            with trio.move_on_after(seconds):
                return await trio.to_thread.run_sync(
                    self._in_thread, function, *args, limiter=self._limiter, abandon_on_cancel=True
                )
        except docker.errors.APIError as error:
            raise _refused(error) from error
        except (docker.errors.DockerException, requests.RequestException, OSError) as error:
            raise self._away(error) from error
        raise self.silent(seconds)

    def _in_thread(self, function: Callable[[Unpack[Args]], R], *args: *Args) -> R:
        try:
            return function(*args)
        finally:
            if self._closed:  # each call opens a connection anew, when there is none
                self._client.close()

    def silent(self, seconds: float) -> EngineAway:
        """The error of an engine that has not answered for so long."""
        return EngineAway(
            f"Docker's engine at {self._host} has not answered for {seconds:.0f} s",
            "It may be overloaded, or stuck: look at its log, and restart it",
        )

    def _no_engine(self) -> EngineAway:
        return EngineAway(
            f"what answers at {self._host} is not Docker's engine",
            "Set sandbox.host to the address of Docker's engine",
        )

    def _away(self, error: Exception) -> EngineAway:
        if isinstance(error, requests.Timeout):
            return self.silent(_CALL_S)
        number = _errno(error)
        if number is None:
            return self._no_engine()
        message = f"Docker's engine at {self._host} cannot be reached: {os.strerror(number)}"
        if number in (errno.EACCES, errno.EPERM):
            remedy = (
                "Let occd's user open it (the group docker may), or set sandbox.host to another"
            )
        else:
            remedy = "Start Docker's engine, or set sandbox.host to its address"
        return EngineAway(message, remedy)

    def _start(self, wall: Wall, argv: list[str], wanted: _Wanted) -> Made:
        with self._lock:
            self._begun += 1
            number = self._begun
            self._making.add(number)
        try:
            return self._make(wall, argv, wanted, number)
        finally:
            with self._lock:
                self._making.remove(number)

    def _make(self, wall: Wall, argv: list[str], wanted: _Wanted, number: int) -> Made:
        client = self._client
        container, user = self._create(wall, argv, number)
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
        wanted.made(sock)
        return Made(container, user, sock)

    def _create(self, wall: Wall, argv: list[str], number: int) -> tuple[str, int]:
        """The container's id and its user. The engine gives a name to one container at a time, whoever asks,
        and until all processes of the container have ended: so the name is a lease of the user."""
        for _ in CONTAINER_USERS:
            user = next(self._users)
            try:
                return self._create_as(user, wall, argv, number), user
            except docker.errors.APIError as error:
                if error.status_code != _CONFLICT:
                    raise
        raise SandboxFailed(
            f"all {len(CONTAINER_USERS)} users for containers are taken on Docker's engine at {self._host}"
        )

    def _create_as(self, user: int, wall: Wall, argv: list[str], number: int) -> str:
        client = self._client
        host = client.create_host_config(
            auto_remove=True,
            cap_drop=["ALL"],
            cap_add=_TO_BE_ANOTHER if wall.init_is_root else [],
            security_opt=["no-new-privileges", f"seccomp={wall.seccomp}"],
            read_only=True,
            tmpfs=wall.tmpfs | {"/box": f"{wall.box},uid={user},gid={user}"},
            network_mode="none",
            sysctls={IPV6_OFF: "0"} if wall.ipv6 else {},
            dns=["127.0.0.1"],  # else the container is told the machine's
            dns_search=["."],
            ipc_mode="private",
            cgroupns="private",
            mounts=[_ONE_TERMINAL] if wall.one_terminal else [],
            mem_limit=max(_MEMORY_MIN, wall.bounds.memory),
            memswap_limit=max(_MEMORY_MIN, wall.bounds.memory),
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
            [*argv, str(user)] if wall.init_is_root else argv,
            name=f"{_NAME}{user}",
            hostname="box",
            user="0:0" if wall.init_is_root else f"{user}:{user}",
            working_dir="/box",
            stdin_open=True,
            tty=False,
            environment={},
            labels={LABEL: wall.label, _MAKER: f"{self._name}.{number}"},
            host_config=host,
            entrypoint="",
            stop_signal="SIGKILL",  # init ignores SIGTERM: an engine that stops or starts would wait for it
        )
        container: str = made["Id"]
        return container

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
            if error.status_code != _CONFLICT:  # the engine removes it already
                raise

    def _of(self, label: str) -> list[str]:
        found = self._client.containers(all=True, filters={"label": f"{LABEL}={label}"})
        return [each["Id"] for each in found]

    def _remove_left(self) -> None:
        with self._lock:  # before the engine looks
            begun, making = self._begun, self._making.copy()
        states = ["created", "exited", "dead"]
        found = self._client.containers(all=True, filters={"label": LABEL, "status": states})
        if found:
            until = self._now() - _NOBODYS_S
            ends = monotonic() + _LEFT_S / 2  # a longer call would count as an engine that is away
            random.shuffle(found)  # else one that takes long to fail would come first each time
            for each in found:
                if monotonic() > ends:
                    break
                maker, _, number = each["Labels"].get(_MAKER, "").rpartition(".")
                if maker == self._name:
                    nobodys = int(number) <= begun and int(number) not in making
                else:  # of another machine nobody can know
                    nobodys = is_dead(maker) or each["Created"] < until
                if nobodys:
                    with suppress(docker.errors.APIError):  # the others need not wait for this one
                        self._remove(each["Id"])

    def _process(self, container: str) -> int:
        try:
            number: int = self._client.inspect_container(container)["State"]["Pid"]
        except docker.errors.NotFound:
            return 0
        return number

    def _now(self) -> float:
        """The engine has a clock of its own."""
        return datetime.fromisoformat(self._client.info()["SystemTime"]).timestamp()

    def _gives(self) -> Gives:
        told = self._client.info()
        return Gives(
            told.get("MemoryLimit") is True,
            told.get("CPUShares") is True,
            tuple(told["Runtimes"]),
            1 if told.get("CgroupVersion") == "1" else 2,
        )

    def _told_oom(self, container: str) -> bool:
        # The engine does not end an answer without `until`.
        until = f"{self._now():.6f}"
        wanted = {"container": container, "event": "oom"}
        told = self._client.events(since=0, until=until, filters=wanted, decode=True)
        return bool(list(told))  # to its end, which frees the connection

    def _image(self, name: str) -> Image | None:
        try:
            told = self._client.inspect_image(name)
        except docker.errors.ImageNotFound:
            return None
        return Image(told["Id"], told["Architecture"], told["Config"].get("Labels") or {})

    def _architecture(self) -> str:
        told: str = self._client.version()["Arch"]
        return told


def _refused(error: docker.errors.APIError) -> SandboxFailed:
    said = _one_line(error.explanation or error)
    remedy = ". Free space on the disk of Docker's engine" if "no space left" in said else ""
    return SandboxFailed(f"Docker's engine says: {said}{remedy}")


def _one_line(said: object) -> str:
    """An engine may say many lines."""
    return " ".join(str(said).split())[:_SAID_MAX]


def _numbers(told: Any, name: str) -> tuple[int, ...] | None:
    """The version that an answer tells under this name."""
    try:
        return tuple(int(each) for each in told[name].split("."))
    except (TypeError, KeyError, AttributeError, ValueError):
        return None


def _errno(error: BaseException | None) -> int | None:
    """What the kernel said, which the SDK wraps in errors of its own."""
    while error:
        if isinstance(error, OSError) and isinstance(error.errno, int):
            return error.errno
        error = error.__cause__ or error.__context__
    return None
