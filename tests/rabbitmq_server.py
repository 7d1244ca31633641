"""A real RabbitMQ of our own for tests: a private node on free loopback ports in a folder of its own,
which can be killed, stopped (as by Ctrl-Z), continued and started again.

Everything of it (the node, and the epmd it registers with) is a child of ours and ends with us; nothing
that somebody else started is touched.
"""

import atexit
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from itertools import count
from pathlib import Path

from redis_server import free_port
from servers import chosen

_SERVER = "/usr/lib/rabbitmq/bin/rabbitmq-server"
PATIENCE_S = 60.0

_TIED = (
    "import ctypes, os, signal, sys; "
    "ctypes.CDLL(None).prctl(1, signal.SIGKILL); "  # PR_SET_PDEATHSIG, kept over exec
    "os.getppid() == int(sys.argv[1]) or sys.exit(1); "
    "os.execvp(sys.argv[2], sys.argv[2:])"
)


class RabbitmqServer:
    """`start` returns when it can be used. `settings` are lines of rabbitmq.conf; `prefix` comes before
    every command, to put it elsewhere on this machine, where `host` is."""

    user, password = "occd-test", "s3cret-of-the-test"

    def __init__(
        self,
        folder: Path,
        *settings: str,
        host: str = "127.0.0.1",
        prefix: Sequence[str] = (),
    ) -> None:
        self.folder = folder
        self.host = host
        self._prefix = prefix
        self._servers = chosen()
        self.port, self.tls_port, self._dist, self._epmd = (free_port() for _ in range(4))
        self._settings = settings
        self.certificates = folder / "certificates"
        self._vhosts = count(1)
        self._node: subprocess.Popen[bytes] | None = None
        self._names: subprocess.Popen[bytes] | None = None
        self._prepare()

    @property
    def tls_url(self) -> str:
        """It wants a certificate of the client, too: `client.pem` and `client.key`."""
        return f"amqps://{self.user}:{self.password}@localhost:{self.tls_port}/"

    @property
    def url(self) -> str:
        return f"amqp://{self.user}:{self.password}@{self.host}:{self.port}/"

    def start(self) -> None:
        self.launch()
        self.wait_open()

    def launch(self) -> None:
        """Call it from the main thread: what it starts dies with the thread that started it."""
        if self._names is None:
            self._names = self._spawn("epmd", "-port", f"{self._epmd}")
        self._node = self._spawn("/bin/sh", _SERVER)

    def kill(self) -> None:
        """SIGKILL, as the kernel does when memory runs out."""
        if self._node:
            self._node.send_signal(signal.SIGKILL)
            self._node.wait(PATIENCE_S)
            self._node = None

    def pause(self) -> None:
        """It is alive and says nothing any more."""
        assert self._node
        self._node.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._node
        self._node.send_signal(signal.SIGCONT)

    def close(self) -> None:
        self.kill()
        if self._names:
            self._names.kill()
            self._names.wait(PATIENCE_S)
            self._names = None

    def evaluate(self, expression: str) -> str:
        """What the node answers to an Erlang expression; a tenth of a second, unlike rabbitmqctl."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            done = subprocess.run(
                [*self._prefix, "erl_call", "-c", "occdtest", "-n", self._name, "-e"],
                input=f"{expression}.\n".encode(),
                capture_output=True,
                env=self._environment,
                timeout=PATIENCE_S,
                check=False,
            )
            if done.returncode == 0:
                return done.stdout.decode()
            # One of 200 calls fails so, at a node that is well.
            assert b"failed to connect" in done.stderr, done.stderr
            assert time.monotonic() < deadline, done.stderr

    def add_vhost(self) -> str:
        """The URL of a new virtual host: what one test does, no other sees."""
        name = f"test{next(self._vhosts)}"
        self.evaluate(
            f'rabbit_vhost:add(<<"{name}">>, <<"test">>), '
            f'rabbit_auth_backend_internal:set_permissions(<<"{self.user}">>, <<"{name}">>, '
            '<<".*">>, <<".*">>, <<".*">>, <<"test">>)'
        )
        return f"{self.url}{name}"

    def delete_vhost(self, url: str) -> None:
        name = url.rpartition("/")[2]
        self.evaluate(f'rabbit_vhost:delete(<<"{name}">>, <<"test">>)')

    @property
    def _name(self) -> str:
        return f"occd{self._dist}@localhost"

    @property
    def _environment(self) -> dict[str, str]:
        home = str(self.folder)
        return {
            "PATH": os.environ["PATH"],
            "HOME": home,
            "LANG": "C.UTF-8",
            "RUNNING_UNDER_SYSTEMD": "true",  # the child is the node itself, no shell around it
            "RABBITMQ_NODENAME": self._name,
            "RABBITMQ_CONFIG_FILE": f"{home}/rabbitmq",
            "RABBITMQ_MNESIA_BASE": f"{home}/mnesia",
            "RABBITMQ_LOG_BASE": f"{home}/log",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{home}/plugins",
            "RABBITMQ_DIST_PORT": str(self._dist),
            "ERL_EPMD_PORT": str(self._epmd),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
        }

    def _prepare(self) -> None:
        assert not self._servers.lacks(_SERVER), (
            "RabbitMQ is missing: apt-get install rabbitmq-server"
        )
        self.folder.mkdir(parents=True, exist_ok=True)
        cookie = self.folder / ".erlang.cookie"
        cookie.write_text("occdtest")
        cookie.chmod(0o400)
        (self.folder / "plugins").write_text("[].")
        lines = (
            f"listeners.tcp.1 = {self.host}:{self.port}",
            f"default_user = {self.user}",
            f"default_pass = {self.password}",
            "loopback_users.guest = false",
            "disk_free_limit.absolute = 10MB",
            "vm_memory_high_watermark.absolute = 2GB",
            f"listeners.ssl.1 = 127.0.0.1:{self.tls_port}",
            f"ssl_options.cacertfile = {self.certificates}/ca.pem",
            f"ssl_options.certfile = {self.certificates}/server.pem",
            f"ssl_options.keyfile = {self.certificates}/server.key",
            "ssl_options.verify = verify_peer",
            "ssl_options.fail_if_no_peer_cert = true",
            "max_message_size = 33554432",
            *self._settings,
        )
        _make_certificates(self.certificates)
        (self.folder / "rabbitmq.conf").write_text("\n".join(lines) + "\n")

    def _spawn(self, *argv: str) -> subprocess.Popen[bytes]:
        command = (*self._prefix, *self._servers.command(*argv))
        with (self.folder / "output").open("ab") as output:
            return subprocess.Popen(
                [sys.executable, "-S", "-c", _TIED, str(os.getpid()), *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self._environment,
                start_new_session=True,
            )

    def wait_open(self) -> None:
        node = self._node
        assert node
        deadline = time.monotonic() + PATIENCE_S
        while True:
            assert node.poll() is None, (self.folder / "output").read_text()[-2000:]
            assert time.monotonic() < deadline, "RabbitMQ does not come up"
            with suppress(OSError), socket.create_connection((self.host, self.port), 1) as it:
                it.settimeout(5)
                it.sendall(b"AMQP\x00\x00\x09\x01")
                if it.recv(1) == b"\x01":
                    return
            time.sleep(0.05)


def _make_certificates(folder: Path) -> None:
    """A CA and what it signed for the server and a client; `other.pem` is a CA that signed nothing."""
    folder.mkdir(exist_ok=True)

    def openssl(*args: str) -> None:
        subprocess.run(["openssl", *args], cwd=folder, capture_output=True, check=True)

    new = ("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    for ca in ("ca", "other"):
        openssl(*new, "-keyout", f"{ca}.key", "-out", f"{ca}.pem", "-subj", f"/CN={ca}")
    signed = ("-CA", "ca.pem", "-CAkey", "ca.key", "-addext", "subjectAltName=DNS:localhost")
    for name in ("server", "client"):
        openssl(
            *new, *signed, "-keyout", f"{name}.key", "-out", f"{name}.pem", "-subj", f"/CN={name}"
        )


@contextmanager
def rabbitmq(folder: Path, *settings: str) -> Iterator[RabbitmqServer]:
    server = RabbitmqServer(folder, *settings)
    try:
        server.start()
        yield server
    finally:
        server.close()


@cache
def shared() -> RabbitmqServer:
    """The one of this session, for tests that leave it running."""
    folder = Path(tempfile.mkdtemp(prefix="occd-rabbitmq-"))
    server = RabbitmqServer(folder)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    atexit.register(server.close)
    server.start()
    return server
