"""A root file system that jails of a process share: built once from `policy/rootfs.toml` by bind mounts, then
shown to each jail with a single mount instead of twenty. Its files come from a source, which is the machine's
root or an image's. Links of the source lead to the source's files."""

import errno
import glob
import os
import shutil
import tomllib
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from occd.data import data_folder
from occd.sandbox import kernel
from occd.sandbox.init import INIT
from occd.shown import PLACE, put_shown

_OURS = Path(PLACE)
_NOTHING = "/.occd-empty"
COVERED = f"{PLACE}/hold/covered"
"""The file in which init finds what to cover in the /proc of a jail that it furnishes."""
BARE_PROC = ["--disable_proc", "--mount", "none:/proc:proc:"]
_EMPTY = ("proc", "tmp", "dev", "dev/shm", "dev/pts", "box", "etc", "run", "var")
_SHOWN = kernel.MS_RDONLY | kernel.MS_NOSUID | kernel.MS_NODEV
# Read-only, so that nobody changes a device's times; one can write to a device all the same.
_DEVICE = kernel.MS_RDONLY | kernel.MS_NOSUID | kernel.MS_NOEXEC
_NOWHERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
"""Why a link cannot be followed that leads nowhere: to nothing, through a file, in a circle."""
MACHINE = Path("/")


def build_rootfs(root: Path, source: Path) -> None:
    """Make the root at `root`, an empty folder in our private mounts."""
    policy = _policy()
    # No flags here: nsjail makes its copy read-only, and may not where another flag is locked.
    kernel.mount("tmpfs", str(root), "tmpfs", 0, "mode=755,size=16m")
    for name in _EMPTY:
        (root / name).mkdir(parents=True)
    (root / "var/tmp").symlink_to("/tmp")
    _at(root, Path(_NOTHING)).touch()
    for link in _present(source, policy["links"]):
        inside = _in(source, link)
        if inside.is_symlink():
            _at(root, link).symlink_to(inside.readlink())
    for folder, opened in _opened(source, _folders(source)):
        target = _at(root, folder)
        target.mkdir(exist_ok=True)
        kernel.bind(kernel.shown(opened), str(target), _SHOWN)
    for file, opened in _opened(source, policy["files"]):
        # With its mode: what is private stays so.
        shutil.copy(kernel.shown(opened), _at(root, file))
    for device in policy["devices"]:
        _at(root, Path("/dev", device)).touch()
        kernel.bind(f"/dev/{device}", f"{root}/dev/{device}", _DEVICE)
    for name, leads_to in (
        ("fd", "/proc/self/fd"),
        ("stdin", "fd/0"),
        ("stdout", "fd/1"),
        ("stderr", "fd/2"),
        ("ptmx", "pts/ptmx"),
    ):
        (root / "dev" / name).symlink_to(leads_to)
    for name, text in policy["written"].items():
        _at(root, Path(name)).write_text(text.lstrip())
    init = _at(root, Path(INIT))
    shutil.copyfile(data_folder("sandbox") / "bin/occd-init", init)
    init.chmod(0o755)
    put_shown(_at(root, _OURS))
    _at(root, Path(COVERED)).write_text(covers_as_lines())


def show_more(root: Path, folder: Path, place: str) -> None:
    """Show one more folder in a root that was built. No program may write to it, or run what lies in it."""
    target = _in(root, Path(place))
    target.mkdir(parents=True, exist_ok=True)
    kernel.unmount_all(str(target))  # what was shown there before
    kernel.bind(str(folder), str(target), _SHOWN | kernel.MS_NOEXEC)


def hide(root: Path, place: str) -> None:
    kernel.unmount_all(str(_in(root, Path(place))))


def proc_mounts(root: Path) -> list[str]:
    """nsjail's arguments for a jail's /proc. Its processes are its user's to write to, as everywhere; the
    machine's settings are read-only, and what tells of the machine alone is covered."""
    mounts = [*BARE_PROC, "--bindmount_ro", "/proc/sys:/proc/sys"]
    for path, cover in _covers():
        mounts += ["--bindmount_ro", f"{root}{cover}:{path}"]
    return mounts


def covers_as_lines() -> str:
    """What the file COVERED tells the init of a template: a path and its cover on each line."""
    return "".join(f"{path} {cover}\n" for path, cover in _covers())


def _covers() -> Iterator[tuple[str, str]]:
    """What a jail's /proc does not show, and what lies there instead."""
    policy = _policy()
    for names, cover in ((policy["proc_files"], _NOTHING), (policy["proc_folders"], "/run")):
        for name in names:
            if Path("/proc", name).exists():
                yield f"/proc/{name}", cover


def covered_paths() -> list[str]:
    """What a container's /proc and /sys do not show. A container has a /sys, for its control group alone."""
    policy = _policy()
    return [
        *(f"/proc/{name}" for name in policy["proc_files"] + policy["proc_folders"]),
        *(f"/sys/{name}" for name in policy["sys_folders"]),
    ]


def shown_folders(source: Path) -> list[Path]:
    """The folders of a source that every program can read: nothing secret may lie below them."""
    return [
        Path(kernel.shown(opened)).readlink() for _, opened in _opened(source, _folders(source))
    ]


def shows_machine(root: Path) -> bool:
    """Whether a folder of the machine is found in a root that was built, at the place where the machine has
    it."""
    folders = (_in(root, path) for path in _present(MACHINE, _folders(MACHINE)))
    return any(
        folder.exists() and folder.samefile(MACHINE / folder.relative_to(root))
        for folder in folders
    )


def _policy() -> dict[str, Any]:
    return tomllib.loads((data_folder("sandbox") / "policy/rootfs.toml").read_text())


def _folders(source: Path) -> list[str]:
    """Patterns."""
    policy = _policy()
    links = [link for link in policy["links"] if not _in(source, Path(link)).is_symlink()]
    more = [] if source == MACHINE else policy["image_folders"]
    return [*links, *policy["folders"], *more]


def _present(source: Path, patterns: list[str]) -> Iterator[Path]:
    for pattern in patterns:
        yield from (Path("/", path) for path in glob.glob(pattern[1:], root_dir=source))


def _opened(source: Path, patterns: list[str]) -> Iterator[tuple[Path, int]]:
    """What a source has, open as long as the caller looks at it."""
    with ExitStack() as ours:
        folder = os.open(source, os.O_PATH | os.O_CLOEXEC)
        ours.callback(os.close, folder)
        for path in _present(source, patterns):
            if path == _OURS:
                continue
            try:
                opened = kernel.open_within(folder, str(path))
            except OSError as error:
                if error.errno not in _NOWHERE:
                    raise
                continue
            try:
                yield path, opened
            finally:
                os.close(opened)


def _in(folder: Path, path: Path) -> Path:
    return folder / path.relative_to("/")


def _at(root: Path, path: Path) -> Path:
    target = _in(root, path)
    target.parent.mkdir(parents=True, exist_ok=True)
    return target
