"""Embedded set-ups and clusters to measure side by side, and how what they take is shown."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rabbitmq_server import RabbitmqServer
from redis_server import redis_server

from bench.measure import daemon, percentile

RUNNING = ["notify", "execute", "submit"]


@dataclass
class Setup:
    """Where clients go, by role, and the ids of all processes, by name."""

    folder: Path
    environment: dict[str, str]
    stack: ExitStack
    ports: dict[str, list[int]] = field(default_factory=dict)
    pids: dict[str, int] = field(default_factory=dict)

    def start(self, role: str) -> None:
        ports = self.ports.setdefault(role, [])
        name = f"{role}{len(ports) + 1}"
        data = str(self.folder / name)
        port, self.pids[name] = self.stack.enter_context(daemon(data, role, self.environment))
        ports.append(port)

    @property
    def submit(self) -> list[int]:
        return self.ports.get("submit") or self.ports["all"]

    @property
    def ws(self) -> list[int]:
        return self.ports.get("ws") or self.ports["all"]


class Servers:
    """RabbitMQ and Redis, for clusters with a virtual host and keys of their own."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        self._rabbitmq = RabbitmqServer(folder / "rabbitmq")
        stack.callback(self._rabbitmq.close)
        self._rabbitmq.start()
        self._redis = stack.enter_context(redis_server())
        self._setups = 0

    @contextmanager
    def setup(self, roles: Sequence[str], **settings: str) -> Iterator[Setup]:
        """Roles in the order in which they are started; `["all"]` is the embedded set-up."""
        self._setups += 1
        environment = {f"OCCD_{name.upper()}": value for name, value in settings.items()}
        if roles != ["all"]:
            environment |= {
                "OCCD_RABBITMQ__URL": self._rabbitmq.add_vhost(),
                "OCCD_REDIS__URL": self._redis.url,
                "OCCD_REDIS__PREFIX": f"bench{self._setups}",
                "OCCD_LANGUAGES": '["python"]',
            }
        with ExitStack() as stack:
            setup = Setup(self.folder / str(self._setups), environment, stack)
            for role in roles:
                setup.start(role)
            yield setup


def title(text: str) -> None:
    print(f"\n{text}", flush=True)


def show(times: Mapping[str, list[float]]) -> None:
    for name, each in times.items():
        p50, p95, p99 = (percentile(each, share) for share in (0.5, 0.95, 0.99))
        print(f"{name:10} p50 {p50:6.1f}  p95 {p95:6.1f}  p99 {p99:6.1f} ms")
