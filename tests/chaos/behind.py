"""An occd that is one field behind: a copy of the package in which one field of a submission is not written
yet.

What the copy lacks is what the commit that added the field brought: the field itself, and the lines that read
it. When one of these is written otherwise now, `make` says which one. Write it so here as well.
"""

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import occd
from occd.data import data_folder

PACKAGE = Path(occd.__file__).parent
_START = """#!{python}
import sys
sys.path.insert(0, {folder!r})
from occd.__main__ import main
main()
"""


@dataclass(frozen=True)
class Piece:
    """A piece of the package, wherever it stands, and what an earlier version has in its place."""

    now: str
    before: str = ""
    times: int = 1
    """How often it stands there."""


FIELDS: dict[str, tuple[Piece, ...]] = {
    "artifacts": (
        Piece("    artifacts: tuple[str, ...] = ()\n", "    artifacts = ()\n", times=2),
        Piece("    artifacts: Artifacts | None = None\n", "    artifacts = None\n"),
        Piece("| Output | Left |", "| Output |"),
        Piece("    artifacts: Artifacts = Field(default_factory=list)\n"),
        Piece("            artifacts=tuple(self.artifacts),\n"),
        Piece("        artifacts=request.artifacts,\n"),
        Piece("artifacts=left, "),
    ),
    "judging.tests.weight": (
        Piece("    weight: float = 1.0\n", "    weight = 1.0\n", times=2),
        Piece("    weight: Weight = 1.0\n"),
        Piece("            self.weight,\n"),
        Piece("            asked.weight,\n"),
    ),
}


def make(field: str, folder: Path) -> str:
    """The program to start."""
    shutil.copytree(PACKAGE, folder / "occd", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("sandbox", "static", "templates"):
        (folder / name).symlink_to(data_folder(name))
    files = {file: file.read_text() for file in (folder / "occd").rglob("*.py")}
    for piece in FIELDS[field]:
        count = sum(text.count(piece.now) for text in files.values())
        assert count == piece.times, f"{piece.now!r} stands {count} times in the package"
        files = {file: text.replace(piece.now, piece.before) for file, text in files.items()}
    for file, text in files.items():
        file.write_text(text)
    program = folder / "occd-behind"
    program.write_text(_START.format(python=sys.executable, folder=str(folder)))
    program.chmod(0o755)
    return str(program)
