"""The root file system that all jails of a process share: built once from `policy/rootfs.toml` by
bind mounts, then shown to each jail with a single mount instead of twenty."""

import glob
import shutil
import stat
import tomllib
from pathlib import Path

from occd.data import data_folder
from occd.sandbox import kernel

INIT = "/.occd-init"
_OURS = Path("/opt/occd")  # what the commands of languages need: `sandbox/shown`
_EMPTY = ("proc", "tmp", "dev", "dev/shm", "box", "etc", "run", "var/tmp")
_SHOWN = kernel.MS_RDONLY | kernel.MS_NOSUID | kernel.MS_NODEV


def build_rootfs(root: Path) -> None:
    """Make the root at `root`, an empty folder in our private mounts."""
    policy = tomllib.loads((data_folder("sandbox") / "policy/rootfs.toml").read_text())
    # No flags here: nsjail makes its copy read-only, and may not where another flag is locked.
    kernel.mount("tmpfs", str(root), "tmpfs", 0, "mode=755,size=16m")
    for name in _EMPTY:
        (root / name).mkdir(parents=True)
    for link in map(Path, policy["links"]):
        if link.is_symlink():
            _at(root, link).symlink_to(link.readlink())
        elif link.is_dir():
            _show(root, link)
    for pattern in policy["folders"] + policy["files"]:
        for path in glob.glob(pattern):
            _show(root, Path(path))
    for device in policy["devices"]:
        _at(root, Path("/dev", device)).touch()
        kernel.bind(f"/dev/{device}", f"{root}/dev/{device}", 0)
    for name, target in (
        ("fd", "/proc/self/fd"),
        ("stdin", "fd/0"),
        ("stdout", "fd/1"),
        ("stderr", "fd/2"),
    ):
        (root / "dev" / name).symlink_to(target)
    for name, text in policy["written"].items():
        _at(root, Path(name)).write_text(text.lstrip())
    shutil.copy(data_folder("sandbox") / "bin/occd-init", _at(root, Path(INIT)))
    _copy_readable(data_folder("sandbox") / "shown", _at(root, _OURS))


def _copy_readable(source: Path, target: Path) -> None:
    """Whatever umask our files were installed with, programs can read these."""
    target.mkdir(mode=0o755)
    for each in source.iterdir():
        if each.is_dir():
            _copy_readable(each, target / each.name)
        else:
            shutil.copyfile(each, target / each.name)
            (target / each.name).chmod(0o644)


def shown_folders() -> list[Path]:
    """The machine's folders that every program can read: nothing secret may lie below them."""
    policy = tomllib.loads((data_folder("sandbox") / "policy/rootfs.toml").read_text())
    return [
        Path(path) for pattern in policy["folders"] + policy["links"] for path in glob.glob(pattern)
    ]


def _at(root: Path, path: Path) -> Path:
    target = root / path.relative_to("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    return target


def _show(root: Path, path: Path) -> None:
    target = _at(root, path)
    if stat.S_ISDIR(path.stat().st_mode):
        target.mkdir(exist_ok=True)
    else:
        target.touch()
    kernel.bind(str(path), str(target), _SHOWN)
