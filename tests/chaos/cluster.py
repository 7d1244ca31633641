"""A whole installation on one machine: RabbitMQ, Redis and every role in processes of their own, each in
a network namespace of its own, so that it can be killed, held, and cut off from the others.

The driver itself runs in a private network and mount namespace (`unshare --net --mount`): nothing of
this is seen outside, and all of it is gone when the driver is.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import trio
from rabbitmq_server import RabbitmqServer
from redis_server import RedisServer

OCCD = str(Path(sys.executable).with_name("occd"))
START_S = 180.0
STOP_S = 60.0
_NETWORK = "10.213.77"


class Server(Protocol):
    """What is disturbed: nodes, and RabbitMQ and Redis as their test modules start them."""

    def launch(self) -> None: ...
    def kill(self) -> None: ...
    def pause(self) -> None: ...
    def resume(self) -> None: ...


def run(*command: str) -> None:
    subprocess.run(command, check=True)


def enter_private_network() -> None:
    """Called by the driver in its new namespaces: one bridge, on which it stands itself."""
    run("mount", "-t", "tmpfs", "none", "/run/netns") if Path("/run/netns").is_dir() else None
    run("ip", "link", "set", "lo", "up")
    run("ip", "link", "add", "hub", "type", "bridge")
    run("ip", "addr", "add", f"{_NETWORK}.1/24", "dev", "hub")
    run("ip", "link", "set", "hub", "up")


@dataclass
class Host:
    """A network namespace with one address; what runs in it is started with `prefix` before it."""

    number: int

    def __post_init__(self) -> None:
        name = f"occd{self.number}"
        run("ip", "netns", "add", name)
        run("ip", "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name)
        run("ip", "link", "set", name, "master", "hub", "up")
        run("ip", "-n", name, "addr", "add", f"{self.address}/24", "dev", "eth0")
        for link in ("lo", "eth0"):
            run("ip", "-n", name, "link", "set", link, "up")

    @property
    def address(self) -> str:
        return f"{_NETWORK}.{10 + self.number}"

    @property
    def prefix(self) -> tuple[str, ...]:
        # `ip netns exec` would hide the control groups below a new /sys.
        return ("/usr/bin/nsenter", f"--net=/run/netns/occd{self.number}", "--")

    def cut(self) -> None:
        run("ip", "link", "set", f"occd{self.number}", "down")

    def mend(self) -> None:
        run("ip", "link", "set", f"occd{self.number}", "up")


@dataclass
class Node:
    """One occd process after another, with one role."""

    role: str
    host: Host
    folder: Path
    environment: dict[str, str]
    lives: int = 0
    process: subprocess.Popen[bytes] | None = None
    program: str = OCCD

    @property
    def name(self) -> str:
        return f"{self.role}{self.host.number}"

    @property
    def url(self) -> str:
        return f"http://{self.host.address}:8000"

    def launch(self) -> None:
        self.lives += 1
        self.folder.mkdir(exist_ok=True)
        command = [
            *self.host.prefix, self.program, "--roles", self.role, "--listen", f"{self.host.address}:8000",
            "--data-dir", str(self.folder / "data"),
        ]  # fmt: skip
        environment = {"OCCD_NODE": f"{self.name}-{self.lives}"}
        # It takes a minute of a processor, once a folder.
        environment["OCCD_PRECOMPILED__BYTES"] = "0"
        with (self.folder / "output").open("wb") as out, (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=log,
                env=os.environ | self.environment | environment,
                cwd=self.folder,
            )

    async def ready(self) -> None:
        """Until it says that it serves."""
        with trio.fail_after(START_S):
            while "occd: " + ("open" if self.role == "submit" else "ready") not in self.said():  # noqa: ASYNC110
                assert self.process
                assert self.process.poll() is None, f"{self.name}: {self.told()}"
                await trio.sleep(0.05)

    def said(self) -> str:
        return (self.folder / "output").read_text()

    def told(self) -> str:
        return (self.folder / "log").read_text()[-3000:]

    @property
    def pid(self) -> int:
        assert self.process
        return self.process.pid

    def kill(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait()

    def pause(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGCONT)

    async def stop(self) -> int:
        """The orderly stop; its exit code."""
        assert self.process
        self.process.terminate()
        with trio.fail_after(STOP_S):
            while (code := self.process.poll()) is None:  # noqa: ASYNC110
                await trio.sleep(0.02)
        return code


@dataclass
class Cluster:
    rabbitmq: RabbitmqServer
    redis: RedisServer
    hosts: dict[str, Host]
    nodes: list[Node] = field(default_factory=list)

    def of(self, role: str) -> list[Node]:
        return [node for node in self.nodes if node.role == role]

    async def start(self) -> None:
        for node in self.nodes:
            node.launch()
        for node in self.nodes:
            await node.ready()


ROLES = {"submit": 2, "execute": 3, "notify": 2, "ws": 2}


@contextmanager
def cluster(
    folder: Path,
    roles: dict[str, int] = ROLES,
    languages: Sequence[str] = ("python", "c"),
    **settings: str,
) -> Iterator[Cluster]:
    """Servers that run, and nodes that are to be started. `settings` as in `execute__slots="1"`."""
    with ExitStack() as stack:
        hosts = iter(Host(number) for number in range(1, 200))
        rabbit_host, redis_host = next(hosts), next(hosts)
        rabbitmq = RabbitmqServer(
            folder / "rabbitmq", host=rabbit_host.address, prefix=rabbit_host.prefix
        )
        stack.callback(rabbitmq.close)
        rabbitmq.start()
        (folder / "redis").mkdir()
        redis = RedisServer(folder / "redis", host=redis_host.address, prefix=redis_host.prefix)
        stack.callback(redis.kill)
        redis.start()
        environment = {
            "OCCD_RABBITMQ__URL": rabbitmq.url,
            "OCCD_REDIS__URL": redis.url,
            "OCCD_LANGUAGES": "[" + ",".join(f'"{name}"' for name in languages) + "]",
            **{f"OCCD_{name.upper()}": value for name, value in settings.items()},
        }
        made = Cluster(rabbitmq, redis, {"rabbitmq": rabbit_host, "redis": redis_host})
        for role, count in roles.items():
            for _ in range(count):
                host = next(hosts)
                made.nodes.append(Node(role, host, folder / f"{role}{host.number}", environment))
        for node in made.nodes:
            stack.callback(node.kill)
        yield made
