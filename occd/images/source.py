"""Where Debian's packages come from, and whether this machine can begin a root with them."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from occd.errors import ConfigError
from occd.images import Description

_SCRIPTS = Path("/usr/share/debootstrap/scripts")
_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_TOOLS = {
    "debootstrap": "debootstrap",
    "gpgv": "gpgv",
    "setpriv": "util-linux",
    "unshare": "util-linux",
}


@dataclass(frozen=True, slots=True)
class Source:
    """URLs of Debian's archive and of its security fixes."""

    mirror: str
    security: str


def find_source(mirror: str | None, security: str | None) -> Source:
    """Those that are given, else those from which this machine's own apt gets Debian.

    Raises ConfigError.
    """
    known = [] if mirror and security else _known()
    mirror = mirror or next((url for url in known if "security" not in url), None)
    if mirror is None:
        raise ConfigError(
            "images: this machine's apt knows no source of Debian: run apt-get update, or name one: "
            "--mirror URL"
        )
    security = security or next((url for url in known if "security" in url), None)
    return Source(mirror.rstrip("/"), (security or f"{mirror.rstrip('/')}-security").rstrip("/"))


def _known() -> list[str]:
    if not shutil.which("apt-get"):
        return []
    filters = ["Created-By: Packages", "Component: main", "Origin: Debian"]
    argv = ["apt-get", "indextargets", "--format", "$(REPO_URI)", *filters]
    return subprocess.run(argv, capture_output=True, text=True, check=False).stdout.split()


def refuse_what_cannot_begin(description: Description) -> None:
    """Raises ConfigError when this is not root, or when a tool, or what it needs for the release, is
    missing."""
    release = description.release
    if os.geteuid() != 0:
        raise ConfigError(f"images: they are built by root: sudo occd images {description.name}")
    missing = sorted({package for tool, package in _TOOLS.items() if not tool_path(tool)})
    if missing:
        raise ConfigError(f"images: install what builds them: apt-get install {' '.join(missing)}")
    if not (_SCRIPTS / release).exists():
        raise ConfigError(
            f"images: this machine's debootstrap does not know Debian {release}: a newer one is needed "
            f"({_SCRIPTS / release} is missing)"
        )
    if not _KEYRING.exists():  # without it debootstrap would check nothing
        raise ConfigError(
            "images: the keys with which Debian signs are missing: apt-get install debian-archive-keyring"
        )


def tool_path(tool: str) -> str | None:
    """Also where PATH lacks the folders of the administrator's tools."""
    return shutil.which(tool) or shutil.which(tool, path="/usr/sbin:/sbin")


def debootstrap(release: str, root: Path, source: Source) -> list[str]:
    return [
        tool_path("debootstrap") or "debootstrap",
        *("--variant=minbase", "--force-check-gpg", f"--keyring={_KEYRING}"),
        *(release, os.fspath(root), source.mirror),
    ]
