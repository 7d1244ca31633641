"""The part `accounts` of the configuration: who may use occd, and how much."""

import re
from collections import Counter
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_interface, ip_network
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, model_validator

from occd import rules
from occd.key import LIKE_A_KEY
from occd.principal import KEY, Credential, Scope
from occd.quotas import LIMIT_MAX, Allowance
from occd.rules import LEAST, MOST
from occd.settings import Section

Network = IPv4Network | IPv6Network

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")


def fault_of_name(given: str) -> str | None:
    """The fault of a name of a class or an owner, or of the id of a key."""
    if LIKE_A_KEY.search(given):
        return "must be a name, not a key; others may have seen this key now, so replace it"
    if not _NAME.fullmatch(given):
        return "must be 1 to 64 letters, digits, . _ @ and -, a letter or digit first"
    return None


def _name(given: str) -> str:
    if fault := fault_of_name(given):
        raise ValueError(f"{given[:100]!r} is not a name: {fault}")
    return given


def _network(given: object) -> object:
    """Raises ValueError with words for an operator."""
    try:
        return ip_network(given) if isinstance(given, str) else given
    except ValueError:
        raise ValueError(f"{given!r} is not a network{_instead(str(given))}") from None


def _instead(given: str) -> str:
    try:
        return f", but an address in one: write {ip_interface(given).network}"
    except ValueError:
        return ", as in 10.1.0.0/16"


def _sha256(given: str) -> str:
    lower = given.lower()
    if LIKE_A_KEY.search(given):
        raise ValueError(
            "this is the key itself: write its SHA-256, and replace the key where others could see this file"
        )
    if not re.fullmatch("[0-9a-f]{64}", lower):
        raise ValueError(
            "expected the 64 hexadecimal digits of a key's SHA-256; docs/accounts.md says how to get them"
        )
    return lower


Name = Annotated[str, AfterValidator(_name)]
Networks = Annotated[Network, BeforeValidator(_network)]


def _anonymous(given: object) -> object:
    if given == "refuse":
        return None
    if not isinstance(given, dict | AnonymousConfig):
        raise ValueError("expected refuse, or a class, as in {class: visitor}")
    return given


class ClassCeilings(Section):
    """The most that a submission of this class may ask for, instead of the server's `ceilings`. A default
    above a ceiling is lowered to the ceiling."""

    cpu_time: float | None = Field(None, gt=0, le=MOST["cpu_time"])
    wall_time: float | None = Field(None, gt=0, le=MOST["wall_time"])
    memory: int | None = Field(None, ge=16 * 2**20, le=MOST["memory"])
    processes: int | None = Field(None, ge=1, le=MOST["processes"])
    output: int | None = Field(None, ge=1, le=MOST["output"])
    file_size: int | None = Field(None, ge=1, le=MOST["file_size"])
    idle: float | None = Field(None, ge=LEAST["idle"], le=MOST["idle"])


class ClassConfig(Section):
    """The most that one principal of this class may use. None: as much as there is."""

    unfinished: int | None = Field(None, ge=1, le=LIMIT_MAX)
    """Submissions that are queued or run."""
    runs_per_minute: int | None = Field(None, ge=1, le=LIMIT_MAX)
    cpu_seconds_per_hour: float | None = Field(None, ge=1, le=LIMIT_MAX)
    cpu_seconds_per_day: float | None = Field(None, ge=1, le=LIMIT_MAX)
    stored_bytes: int | None = Field(None, ge=1, le=LIMIT_MAX)
    trace: bool = True
    """Whether a submission of this class may ask for a trace."""
    ceilings: ClassCeilings = ClassCeilings()

    @property
    def allowance(self) -> Allowance:
        return Allowance(
            self.unfinished,
            self.runs_per_minute,
            self.cpu_seconds_per_hour,
            self.cpu_seconds_per_day,
            self.stored_bytes,
        )


class KeyConfig(Section):
    """A key that stands in the configuration. Only its SHA-256 does."""

    model_config = ConfigDict(populate_by_name=True)

    id: Name
    sha256: Annotated[str, AfterValidator(_sha256)]
    owner: Name
    class_name: str = Field(alias="class")
    scopes: Annotated[frozenset[Scope], Field(min_length=1)] = frozenset({"run", "read"})

    @property
    def credential(self) -> Credential:
        return Credential(self.id, KEY + self.owner, self.class_name, self.scopes)


class AnonymousConfig(Section):
    model_config = ConfigDict(populate_by_name=True)

    class_name: str = Field(alias="class")


def is_safe_address(url: str) -> bool:
    """Whether secrets may go there: by https, or without leaving the machine."""
    if not re.fullmatch(r"[!-~]{1,2000}", url):
        return False
    try:
        site = urlsplit(url)
        host, _ = site.hostname or "", site.port
    except ValueError:  # brackets or a port that are none
        return False
    try:
        local = ip_address(host).is_loopback
    except ValueError:
        local = host == "localhost" or host.endswith(".localhost")
    return bool(host) and (site.scheme == "https" or (site.scheme == "http" and local))


def _issuer(given: str) -> str:
    if not re.fullmatch(r"https?://[!-z|~]+", given) or set(given) & set("?#"):
        raise ValueError(
            f"{given[:100]!r} is not an issuer, as in https://login.example.org: its address, without ? and #"
        )
    if not is_safe_address(given):
        raise ValueError("the issuer's address must begin with https://")
    return given


class OidcConfig(Section):
    """The provider at which people sign in (OpenID Connect)."""

    issuer: Annotated[str, AfterValidator(_issuer)] = Field(min_length=1, max_length=500)
    client_id: str = Field(min_length=1, max_length=200)
    client_secret_file: Path | None = None
    """None: a public client, which has no secret."""
    ca_file: Path | None = None
    """The authority that vouches for the provider. None: those that the system trusts."""
    scopes: tuple[Annotated[str, Field(pattern=r"^[!#-\[\]-~]{1,100}$")], ...] = (
        "openid",
        "profile",
    )
    """The scopes that are asked of the provider. Some providers give the claim only for a scope of its own,
    such as `groups`."""
    claim: str = Field("groups", min_length=1, max_length=100)
    """The claim that decides on a person's class: text, or a list of texts."""
    class_of: dict[str, str] = Field(default_factory=dict)
    """A class by the value of the claim. The first that fits, in this order."""
    admin: tuple[str, ...] = ()
    """A person with one of these values in the claim is an administrator."""


class AccountsConfig(Section):
    anonymous: Annotated[AnonymousConfig | None, BeforeValidator(_anonymous)]
    """The class of callers without a key who have not signed in. None: they are refused."""
    networks: dict[Networks, str] = Field(default_factory=dict)
    """A class for anonymous clients by their network. The smallest network that fits decides."""
    default_class: str
    """The class of people for whom `oidc.class_of` names none."""
    classes: dict[Name, ClassConfig]
    keys: tuple[KeyConfig, ...] = ()
    oidc: OidcConfig | None = None

    @model_validator(mode="after")
    def _refuse_what_does_not_fit(self) -> "AccountsConfig":
        asked = {"default_class": self.default_class}
        if self.anonymous:
            asked["anonymous"] = self.anonymous.class_name
        asked |= {f"networks: {network}": name for network, name in self.networks.items()}
        asked |= {f"keys: {key.id}": key.class_name for key in self.keys}
        if self.oidc:
            asked |= {f"oidc.class_of: {each}": to for each, to in self.oidc.class_of.items()}
        for where, name in asked.items():
            if name not in self.classes:
                there_are = ", ".join(self.classes)
                raise ValueError(
                    f"{where}: there is no class {name[:100]!r} in classes, which has {there_are or 'none'}"
                )
        for field in ("id", "sha256"):
            counts = Counter(getattr(key, field) for key in self.keys)
            if twice := [value for value, count in counts.items() if count > 1]:
                raise ValueError(f"keys: the {field} {twice[0]} is there twice")
        return self

    def class_in(self, address: Network) -> str | None:
        """The class of the smallest network that has this address (a network of one address)."""
        fitting = [each for each in self.networks if is_within(address, each)]
        return self.networks[max(fitting, key=lambda each: each.prefixlen)] if fitting else None


def is_within(inner: Network, outer: Network) -> bool:
    return outer.version == inner.version and outer.supernet_of(inner)  # type: ignore[arg-type]


def owner_of_person(issuer: str, subject: str) -> str:
    """Raises Broken for a subject that cannot be one."""
    owner = f"oidc:{issuer}#{subject}"
    rules.check("subject", rules.owner, owner)
    return owner
