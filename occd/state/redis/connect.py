"""How Redis is reached: one server or the master that Sentinel names, TLS, the password; and what its
refusals mean in words that say what to do.

Here alone the driver is named. Its errors leave this module as `Lost`, where trying again is the answer,
as Unreadable, where a key of ours was damaged, and else as StateUnavailable.
"""

import re
import socket
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import unquote, urlsplit

from redis.backoff import NoBackoff
from redis.connection import Connection as PlainConnection
from redis.connection import SSLConnection
from redis.exceptions import RedisError, ResponseError
from redis.retry import Retry

from occd.config import RedisConfig
from occd.errors import ConfigError, StateUnavailable, Unreadable
from occd.settings import check_readable, read_password

Command = tuple[str | bytes | int | float, ...]
Reply = Any

_CONNECT_S = 2.0
_ANSWER_S = 3.0
"""Seconds of silence after which the connection counts as lost."""

RETRY_AFTER_S = 5
_SCHEMES = ("redis", "rediss", "redis+sentinel", "rediss+sentinel")

_PASSING = re.compile(
    r"\b(LOADING|READONLY|MASTERDOWN|TRYAGAIN|CLUSTERDOWN|BUSY|UNBLOCKED|max number of clients)\b"
)
"""Refusals that a moment, or another server, mends: the command is sent again."""

_REMEDIES = {
    "OOM": "is at its maxmemory and takes nothing more: raise maxmemory, or lower results.keep_s",
    "MISCONF": "cannot save to its disk and takes nothing more: make room there, see its log",
    "NOAUTH": "wants a password: set redis.password_file, or put it into redis.url",
    "WRONGPASS": "refuses our password: mend redis.password_file or redis.url",
    "NOPERM": "forbids our user what we need: its ACL must allow ~PREFIX* &PREFIX* +@all -@admin",
    "NOREPLICAS": "has too few replicas to take anything (min-replicas-to-write)",
    "CROSSSLOT": "is a cluster whose slots we do not follow: name one server, or use Sentinel",
    "MOVED": "is a part of a cluster, whose slots we do not follow: name one server, or use Sentinel",
}
_FINAL = {"NOAUTH", "WRONGPASS", "NOPERM", "CROSSSLOT", "MOVED"}


class Lost(Exception):
    """No connection, or a server that is not ready: what was asked may or may not have happened."""


class Forgotten(Exception):
    """The server does not have our scripts (any more)."""


class Connection:
    """Sends commands and reads replies. Raises what the driver raises; see `Redis.answering`."""

    def __init__(self, driver: Any) -> None:
        self._driver = driver

    def send(self, commands: Sequence[Command]) -> None:
        packed = self._driver.pack_commands(commands)
        self._driver.send_packed_command(packed, check_health=False)

    def read(self) -> Reply:
        """The next reply, which may be a ResponseError."""
        try:
            return self._driver.read_response()
        except ResponseError as error:
            return error

    def exchange(self, commands: Sequence[Command]) -> list[Reply]:
        self.send(commands)
        return [self.read() for _ in commands]

    def pending(self) -> bool:
        """Whether something has come that was not read."""
        return bool(self._driver.can_read(0))

    @property
    def socket(self) -> socket.socket:
        found: socket.socket = self._driver._sock
        return found

    def close(self) -> None:
        with suppress(Exception):
            self._driver.disconnect()


class Redis:
    """Where Redis is. `connect` is called anew after each loss, so that a new master, a new address
    and a changed password file are seen."""

    def __init__(self, config: RedisConfig) -> None:
        self._config = config
        url = config.url.get_secret_value()
        parts = urlsplit(url)
        if parts.scheme not in _SCHEMES or not parts.netloc:
            wanted = ", ".join(f"{scheme}://" for scheme in _SCHEMES)
            raise ConfigError(f"redis.url: must begin with one of {wanted} and name a host")
        self._tls = parts.scheme.startswith("rediss")
        self._sentinel = parts.scheme.endswith("+sentinel")
        self._user, self._url_password, hosts = _split(parts.netloc)
        try:
            self._hosts = [_address(host, 26379 if self._sentinel else 6379) for host in hosts]
            self._name, self._db = self._path(parts.path.strip("/"))
        except ValueError:
            raise ConfigError(
                "redis.url: must be redis://HOST:PORT/DB or redis+sentinel://HOST:PORT,HOST:PORT/NAME"
            ) from None
        self._password()  # a missing file is a mistake to be told at once
        self._verify = self._tls_options() if self._tls else {}
        self.at = ", ".join(f"{host}:{port}" for host, port in self._hosts)
        """For messages; after `connect` the one that answered."""

    def connect(self) -> Connection:
        """Raises Lost, or StateUnavailable when the server refuses us."""
        if not self._sentinel:
            return self._open(self._hosts[0], self._password())
        host, port = self._master()
        connection = self._open((host, port), self._password())
        try:
            with self.answering():
                role = connection.exchange([("ROLE",)])[0]
            if isinstance(role, Exception) or role[0] != b"master":
                raise Lost(f"{host}:{port} is not the master (yet)")
        except BaseException:
            connection.close()
            raise
        return connection

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Translate what the driver raises."""
        try:
            yield
        except ResponseError as error:
            raise self.refusal(error) from None
        except (RedisError, OSError) as error:
            refused = self.refusal(error)
            if isinstance(refused, StateUnavailable):
                raise refused from None  # a wrong password is a ConnectionError to the driver
            raise Lost(f"Redis at {self.at} cannot be reached: {error}") from None

    def refusal(self, error: Exception) -> Exception:
        """Our error for an error that Redis answered with."""
        code = str(getattr(error, "status_code", "") or "")
        text = f"{code} {error}"
        if "NOSCRIPT" in text:
            return Forgotten()
        if "WRONGTYPE" in text:  # no repetition mends that
            return Unreadable(
                "Redis holds something of another type under a key of ours (WRONGTYPE)"
            )
        if _PASSING.search(text):
            return Lost(f"Redis at {self.at} is not ready: {text.strip()}")
        for word, remedy in _REMEDIES.items():
            if word in text:
                remedy = remedy.replace("PREFIX", self._config.prefix)
                final = word in _FINAL
                return StateUnavailable(f"Redis at {self.at} {remedy}", RETRY_AFTER_S, final=final)
        if "user_script" in text:  # nor that
            return Unreadable("what Redis holds under a key of ours is not what occd wrote")
        if isinstance(error, ResponseError):
            return StateUnavailable(f"Redis at {self.at} refuses: {text.strip()}", RETRY_AFTER_S)
        return Lost(str(error))

    def _master(self) -> tuple[str, int]:
        """The master's address by the first Sentinel that knows."""
        said = []
        for host, port in self._hosts:
            self.at = f"{host}:{port} (Sentinel)"
            try:
                found = self._ask_sentinel((host, port))
            except (Lost, StateUnavailable) as error:
                said.append(str(error))
                continue
            if found:
                return found[0].decode(), int(found[1])
            said.append(f"the Sentinel at {host}:{port} knows no master called {self._name}")
        raise Lost("; ".join(said))

    def _ask_sentinel(self, address: tuple[str, int]) -> Sequence[bytes] | None:
        """Sentinels mostly have no password; one that has shares Redis's."""
        try:
            return self._ask_sentinel_as(address, None)
        except StateUnavailable:
            if not (password := self._password()):
                raise
        return self._ask_sentinel_as(address, password)

    def _ask_sentinel_as(
        self, address: tuple[str, int], password: str | None
    ) -> Sequence[bytes] | None:
        connection = self._open(address, password, db=0)
        try:
            with self.answering():
                command = ("SENTINEL", "get-master-addr-by-name", self._name)
                found: Sequence[bytes] | Exception | None = connection.exchange([command])[0]
                if isinstance(found, Exception):
                    raise found
        finally:
            connection.close()
        return found

    def _open(
        self, address: tuple[str, int], password: str | None, db: int | None = None
    ) -> Connection:
        host, port = address
        self.at = f"{host}:{port}"
        kind: Any = SSLConnection if self._tls else PlainConnection
        driver = kind(
            host=host,
            port=port,
            db=self._db if db is None else db,
            username=self._user if password else None,
            password=password,
            socket_connect_timeout=_CONNECT_S,
            socket_timeout=_ANSWER_S,
            socket_keepalive=True,
            retry=Retry(NoBackoff(), 0),  # `Link` tries again, and knows what for
            protocol=2,
            driver_info=None,
            **self._verify,
        )
        connection = Connection(driver)
        try:
            with self.answering():
                driver.connect()
        except BaseException:
            connection.close()
            raise
        return connection

    def _password(self) -> str | None:
        path = self._config.password_file
        return read_password(path, "redis.password_file") if path else self._url_password

    def _tls_options(self) -> dict[str, Any]:
        config = self._config
        files = {
            "ca_file": config.ca_file,
            "cert_file": config.cert_file,
            "key_file": config.key_file,
        }
        for name, path in files.items():
            if path is not None:
                check_readable(path, f"redis.{name}")
        return {
            "ssl_cert_reqs": ssl.CERT_REQUIRED,
            "ssl_check_hostname": True,
            "ssl_ca_certs": config.ca_file and str(config.ca_file),
            "ssl_certfile": config.cert_file and str(config.cert_file),
            "ssl_keyfile": config.key_file and str(config.key_file),
        }

    def _path(self, path: str) -> tuple[str, int]:
        """Sentinel's name of the master, and the number of the database."""
        if self._sentinel:
            name, _, db = path.partition("/")
            if not name:
                raise ValueError(path)
            return unquote(name), int(db or 0)
        return "", int(path or 0)


def _split(netloc: str) -> tuple[str | None, str | None, list[str]]:
    """User, password and hosts."""
    credentials, at, hosts = netloc.rpartition("@")
    user, _, password = credentials.partition(":")
    return (
        unquote(user) or None,
        unquote(password) or None if at else None,
        [host for host in hosts.split(",") if host],
    )


def _address(host: str, default_port: int) -> tuple[str, int]:
    parts = urlsplit(f"//{host}")
    if not parts.hostname:
        raise ValueError(host)
    return parts.hostname, parts.port or default_port
