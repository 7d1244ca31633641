"""Writes sandbox/languages/sizes.json: `make sizes`, where all languages are installed. A language is counted
as if it were installed alone on a Debian of this release that has no more than its base and Python."""

import json
import re
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from occd.languages import Language
from occd.languages.debian import of_machine
from occd.languages.installing import FOLDER, SIZES, has_packages
from occd.languages.installing import sizes as read_sizes
from occd.languages.loading import load_languages
from occd.languages.packages import Packages

BASE = ["apt", "bash", "ca-certificates", "coreutils", "dpkg", "login", "python3", "util-linux"]
MB = 10**6
_UNITS = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9}
_TOLD = re.compile(r"(?:get|/) ?([\d.,]+) ([kMG]?B) of archives\.|operation, ([\d.,]+) ([kMG]?B)")


def of_debian(packages: tuple[str, ...]) -> tuple[int, int]:
    """Bytes to download, and on the disk, of these packages and all that they need."""
    argv = ["apt-get", "-o", "Dir::State::status=/dev/null", "-o", "Debug::NoLocking=1"]
    argv += [
        "install",
        "--no-install-recommends",
        "--download-only",
        "--assume-no",
        *BASE,
        *packages,
    ]
    said = subprocess.run(argv, env={"LC_ALL": "C", "PATH": "/usr/bin:/bin"}, capture_output=True)
    found = _TOLD.findall(said.stdout.decode())
    if len(found) != 2:
        sys.exit(said.stdout.decode() + said.stderr.decode())
    (archives, unit, *_), (*_, disk, disk_unit) = found
    return _bytes(archives, unit), _bytes(disk, disk_unit)


def _bytes(number: str, unit: str) -> int:
    return round(float(number.replace(",", "")) * _UNITS[unit])


def of_folder(id: str, packages: Packages) -> tuple[int, int]:
    """As `of_debian`, of the packages of pip and npm in the language's folder."""
    if not packages.pip and not packages.npm:
        return 0, 0
    installed = Path(FOLDER) / id / "main"
    with tempfile.TemporaryDirectory() as folder:
        if packages.pip:
            pip = ["-m", "pip", "-q", "download", "--only-binary", ":all:", "-d", f"{folder}/pip"]
            subprocess.run([installed / "bin/python", *pip, *packages.pip], check=True)
        if packages.npm:
            argv = ["npm", "install", "--silent", "--ignore-scripts", "--no-audit", "--no-fund"]
            argv += ["--cache", f"{folder}/npm", "--prefix", f"{folder}/installed", *packages.npm]
            subprocess.run(argv, check=True)
        downloaded = sum(_size(Path(folder) / name) for name in ("pip", "npm/_cacache"))
    return downloaded, _size(installed)


def _size(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*"))


def size(language: Language) -> dict[str, int]:
    own = of_folder(language.id, language.install)
    node = ("nodejs",) if language.install.npm else ()
    debian = of_debian((*language.install.apt, *node))
    download, disk = (a + b - c for a, b, c in zip(own, debian, base, strict=True))
    return {"download": round(download / MB), "disk": round(disk / MB)}


if __name__ == "__main__":
    base = of_debian(())
    debian, known = of_machine(), read_sizes()
    sizes = {}
    for language in load_languages().values():
        if has_packages(debian, language):
            sizes[language.id] = size(language)
        else:  # it was counted by hand, in an image of that Debian
            sizes[language.id] = asdict(known[language.id])
        print(language.id, sizes[language.id], flush=True)
    lines = (f" {json.dumps(id)}: {json.dumps(each)}" for id, each in sorted(sizes.items()))
    SIZES.write_text("{\n" + ",\n".join(lines) + "\n}\n")
