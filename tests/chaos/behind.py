"""An occd that is one field behind: a copy of the package in which one field of a submission is not written
yet.

What the copy lacks is what the commit that added the field brought: the field itself, and the lines that read
it. Where these lines are written otherwise now, `make` says which one it did not find.
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
class Line:
    """A piece of a file that stands there once, and what an earlier version has in its place."""

    file: str
    now: str
    before: str = ""


FIELDS: dict[str, tuple[Line, ...]] = {
    "artifacts": (
        Line("model.py", "    artifacts: tuple[str, ...] = ()\n", "    artifacts = ()\n"),
        Line("model.py", "    artifacts: Artifacts | None = None\n", "    artifacts = None\n"),
        Line("model.py", "Output | Left | Tested", "Output | Tested"),
        Line("request.py", "    artifacts: tuple[str, ...] = ()\n", "    artifacts = ()\n"),
        Line("web/submission.py", "    artifacts: Artifacts = Field(default_factory=list)\n"),
        Line("web/submission.py", "            artifacts=tuple(self.artifacts),\n"),
        Line("admission.py", "        artifacts=request.artifacts,\n"),
        Line("execution/attempt.py", ", artifacts=await self._keep(done))", ")"),
    ),
    "judging.tests.weight": (
        Line("judging.py", "    weight: float = 1.0\n", "    weight = 1.0\n"),
        Line("request.py", "    weight: float = 1.0\n", "    weight = 1.0\n"),
        Line("web/tests.py", "    weight: Weight = 1.0\n"),
        Line("web/tests.py", "            self.weight,\n"),
        Line("admission.py", "            asked.weight,\n"),
    ),
}


def make(field: str, folder: Path) -> str:
    """The program to start."""
    shutil.copytree(PACKAGE, folder / "occd", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("sandbox", "static", "templates"):
        (folder / name).symlink_to(data_folder(name))
    for line in FIELDS[field]:
        file = folder / "occd" / line.file
        text = file.read_text()
        assert text.count(line.now) == 1, f"{line.file} has not one {line.now!r}"
        file.write_text(text.replace(line.now, line.before))
    program = folder / "occd-behind"
    program.write_text(_START.format(python=sys.executable, folder=str(folder)))
    program.chmod(0o755)
    return str(program)
