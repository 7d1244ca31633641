"""Prepares a new root for its packages, and cleans and furnishes the root afterwards."""

import json
import os
import re
import shutil
import ssl
import stat
import subprocess
from pathlib import Path

from occd.data import data_folder
from occd.images import written
from occd.images.source import Source
from occd.images.users import naming
from occd.languages.installing import FOLDER
from occd.shown import put_shown

AUTHORITIES = "/run/occd-authorities.pem"
"""Whom this machine trusts, for apt, pip and npm within the root."""
_APT = f"""\
Acquire::https::CAInfo "{AUTHORITIES}";
Acquire::Languages "none";
Acquire::Retries "3";
APT::Keep-Downloaded-Packages "false";
"""
_DPKG = """\
force-unsafe-io
path-exclude=/usr/share/doc/*
path-exclude=/usr/share/info/*
path-exclude=/usr/share/lintian/*
path-exclude=/usr/share/locale/*
path-exclude=/usr/share/man/*
"""
_BUILDING = {
    "etc/apt/apt.conf.d/90occd": _APT,
    "etc/dpkg/dpkg.cfg.d/occd": _DPKG,
    "usr/sbin/policy-rc.d": "#!/bin/sh\nexit 101\n",  # no service is started
}
_USELESS = (
    "boot", "etc/apt/sources.list", "etc/group-", "etc/gshadow", "etc/gshadow-", "etc/hostname",
    "etc/machine-id", "etc/passwd-", "etc/resolv.conf", "etc/shadow", "etc/shadow-", "etc/subgid",
    "etc/subuid", "home", "media", "mnt", "root", "srv", "usr/share/doc", "usr/share/info",
    "usr/share/lintian", "usr/share/locale", "usr/share/man", "var/backups", "var/cache/apt",
    "var/cache/debconf", "var/lib/apt/lists", "var/log", "var/mail", "var/spool",
)  # fmt: skip
_EMPTY = ("box", "dev", "dev/pts", "dev/shm", "opt/occd", "proc", "root", "run", "tmp")


def prepare(root: Path, release: str, source: Source) -> None:
    """For apt, pip and npm, which work within the root."""
    lines = [
        f"deb {source.mirror} {release} main",
        f"deb {source.mirror} {release}-updates main",
        f"deb {source.security} {release}-security main",
    ]
    (root / "etc/apt/sources.list").write_text("\n".join([*lines, ""]))
    for name, text in _BUILDING.items():
        (root / name).write_text(text)
    (root / "usr/sbin/policy-rc.d").chmod(0o755)
    with (root / "etc/apt/apt.conf.d/90occd").open("a") as apt:
        apt.writelines(_proxies())
    if trusted := ssl.get_default_verify_paths().cafile:
        shutil.copyfile(trusted, root / AUTHORITIES.lstrip("/"))
    for name in ("etc/hosts", "etc/resolv.conf"):
        if Path("/", name).exists():
            (root / name).unlink(missing_ok=True)
            shutil.copyfile(Path("/", name), root / name)


def _proxies() -> list[str]:
    """The lines of this machine's apt that name proxies."""
    if not shutil.which("apt-config"):
        return []
    asked = ["apt-config", "dump", "--format", '%F "%v";%n', "Acquire"]
    settings = subprocess.run(asked, capture_output=True, text=True, check=True).stdout
    return re.findall(r"^Acquire::(?:https?|ftp)::Proxy\S* .*\n", settings, re.MULTILINE)


def installed(root: Path) -> dict[str, dict[str, str]]:
    """Versions by the names of packages: of apt, pip and npm."""
    apt = _said(root, "dpkg-query", "-W", "-f", "${Package} ${Version}\n")
    private = FOLDER.lstrip("/") + "/*/*"
    pip = (
        path.stem.split("-", 1)
        for of in ("usr/local/lib", f"{private}/lib")
        for path in root.glob(f"{of}/python3*/*/*.dist-info")
    )
    npm = (
        json.loads(path.read_text())
        for of in ("usr/local/lib", private)
        for path in root.glob(f"{of}/node_modules/**/package.json")
        if "node_modules" in (path.parents[1].name, path.parents[2].name)
    )
    return {
        "apt": dict(line.split() for line in apt.splitlines()),
        "pip": dict(sorted((name, version) for name, version in pip)),
        "npm": dict(sorted((each["name"], each["version"]) for each in npm if "version" in each)),
    }


def architecture(root: Path) -> str:
    """As Debian calls it: amd64, arm64."""
    return _said(root, "dpkg", "--print-architecture").strip()


def _said(root: Path, *argv: str) -> str:
    within = ["chroot", os.fspath(root), *argv]
    return subprocess.run(within, capture_output=True, text=True, check=True).stdout


def clean(root: Path) -> None:
    """Remove what programs do not need, what tells of this machine, and every right that a file gives."""
    for name in (*_USELESS, *_BUILDING, "dev", "run", "tmp", "var/tmp"):
        path = root / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    for path in root.rglob("*"):
        mode = path.lstat().st_mode
        if stat.S_ISREG(mode) and mode & (stat.S_ISUID | stat.S_ISGID):
            path.chmod(stat.S_IMODE(mode) & 0o1777)


def furnish(root: Path) -> None:
    """Give it the places that a sandbox needs, empty, and the files that are ours to write."""
    for name in _EMPTY:
        (root / name).mkdir(parents=True, exist_ok=True)
        (root / name).chmod(0o1777 if name == "tmp" else 0o755)
    (root / "var/tmp").symlink_to("/tmp")
    for name, text in written().items():
        (root / name.lstrip("/")).write_text(text)
    (root / ".occd-init").touch()


def add_ours(folder: Path) -> list[str]:
    """Put what belongs to the running version of occd into an empty folder. Returns the paths in there that
    have a place in every root of containers."""
    sandbox = data_folder("sandbox")
    folder.chmod(0o755)
    (folder / "opt").mkdir(0o755)
    shutil.copyfile(sandbox / "bin/occd-init", folder / ".occd-init")
    (folder / ".occd-init").chmod(0o755)
    put_shown(folder / "opt/occd")
    (folder / "etc").mkdir(0o755)
    for name, text in (users := naming()).items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o644)
    return [".occd-init", "opt/occd", *users]
