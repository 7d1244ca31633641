"""Everything of this version of occd that programs see, at one place of every root."""

import importlib.util
import shutil
from pathlib import Path

from occd.data import data_folder

PLACE = "/opt/occd"
"""The commands of languages name it."""


def has_tracing() -> bool:
    """Whether what traces programs was installed with this occd."""
    return importlib.util.find_spec("ptrace") is not None


def put_shown(target: Path) -> None:
    """Make the folder `target`, so that programs can read all of it, whatever umask it was installed with."""
    _copy(data_folder("sandbox") / "shown", target)
    # Found, not imported: its licence is the GPL, so the one file comes without it (packaging/binary).
    if (tracing := importlib.util.find_spec("ptrace")) and tracing.origin:
        _copy(Path(tracing.origin).parent, target / "trace/ptrace")


def _copy(source: Path, target: Path) -> None:
    target.mkdir()
    target.chmod(0o755)
    for each in source.iterdir():
        if each.name == "__pycache__":
            continue
        if each.is_dir():
            _copy(each, target / each.name)
        else:
            shutil.copyfile(each, target / each.name)
            (target / each.name).chmod(0o644)
