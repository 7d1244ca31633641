"""A real Redis for tests: private, on a free port of loopback, in a folder of its own.

It can be killed, held, started again over what it has on its disk, emptied and told any setting. Only
what was started here is ever ended, by its process id, and it does not outlive the tests.
"""

import atexit
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import cast

import redis
from servers import chosen

_PATIENCE_S = 20.0
_EMPTY = """
local finished = {}
for _, key in ipairs(redis.call('KEYS', '*')) do
  local id = string.match(key, '{(.+)}$')
  if id and redis.call('TYPE', key).ok == 'hash' and redis.call('HGET', key, 'status') == 'finished' then
    finished[#finished + 1] = id
  end
end
redis.call('FLUSHALL')
return finished
"""


class RedisServer:
    """Use `redis_server`, or the session's own by `shared_redis`. `settings` are lines of redis.conf;
    `prefix` comes before its command, to put it elsewhere on this machine, where `host` is."""

    def __init__(
        self,
        folder: Path,
        *settings: str,
        tls: bool = False,
        sentinel: bool = False,
        host: str = "127.0.0.1",
        prefix: Sequence[str] = (),
    ):
        self._servers = chosen()
        lacks = self._servers.lacks(self._servers.redis)
        assert not lacks, "redis-server is missing; to have it: apt-get install redis-server"
        self.folder = folder
        self.host = host
        self._prefix = prefix
        self.port = free_port()
        self._tls = tls
        self._sentinel = sentinel
        self._process: subprocess.Popen[bytes] | None = None
        port = f"port 0\ntls-port {self.port}" if tls else f"port {self.port}"
        lines = [port, f"bind {host}", "protected-mode no", f"dir {folder}", "save ''", *settings]
        if not sentinel:
            lines += ["appendonly yes", "appendfsync always", "enable-debug-command yes"]
        self._conf = folder / "redis.conf"
        self._conf.write_text("\n".join([*lines, ""]))

    @property
    def url(self) -> str:
        return f"{'rediss' if self._tls else 'redis'}://{self.host}:{self.port}/0"

    @property
    def pid(self) -> int:
        assert self._process
        return self._process.pid

    def start(self) -> None:
        """Return when it answers. What it had on its disk is there."""
        self.launch()
        assert self._process
        deadline = time.monotonic() + _PATIENCE_S
        while not self._answers():
            assert self._process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < deadline, "it does not come up"
            time.sleep(0.005)

    def launch(self) -> None:
        argv = [self._servers.redis, str(self._conf), *["--sentinel"] * self._sentinel]
        command = [*self._prefix, *self._servers.command(*argv)]
        with (self.folder / "log").open("ab") as output:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )

    def kill(self) -> None:
        """SIGKILL: what it promised is on its disk."""
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def command(self, *words: str) -> str:
        """What it says, undressed: enough for settings and for counting."""
        with socket.create_connection((self.host, self.port), timeout=_PATIENCE_S) as client:
            parts = [f"*{len(words)}\r\n", *(f"${len(w.encode())}\r\n{w}\r\n" for w in words)]
            client.sendall("".join(parts).encode())
            answer = client.recv(65536).decode()
        return answer.strip()

    def empty(self) -> set[str]:
        """FLUSHALL; the submissions that were finished at that moment."""
        with redis.Redis.from_url(self.url) as client:
            found = client.eval(_EMPTY, 0)
        return {id.decode() for id in cast(list[bytes], found)}

    def do(self, *words: str) -> None:
        answer = self.command(*words)
        assert answer.startswith("+OK"), answer

    def _answers(self) -> bool:
        try:
            if self._tls:
                socket.create_connection((self.host, self.port), timeout=1).close()
                return True
            return self.command("PING").startswith(("+PONG", "-NOAUTH"))
        except OSError:
            return False


@contextmanager
def redis_server(
    *settings: str, tls: bool = False, sentinel: bool = False
) -> Iterator[RedisServer]:
    folder = Path(tempfile.mkdtemp(prefix="occd-redis-"))
    server = RedisServer(folder, *settings, tls=tls, sentinel=sentinel)
    try:
        server.start()
        yield server
    finally:
        server.kill()
        shutil.rmtree(folder)


@cache
def shared_redis() -> RedisServer:
    """The session's: tests keep apart by prefixes, and leave it as it was."""
    context = redis_server()
    server = context.__enter__()
    atexit.register(context.__exit__, None, None, None)
    return server


def free_port() -> int:
    """Below those that the kernel gives to whoever asks for any: a server binds it seconds later."""
    while True:
        port = 15_000 + secrets.randbelow(15_000)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
