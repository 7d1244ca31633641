"""Hatch build hook: compiles the jail's init and what makes the output of programs live, so that wheels and
checkouts carry them alike, and writes the commit into wheels and sdists.

The init is a static executable (it must start where the jail shows no library), and live.so names no library
that it needs, hence the wheel is for one architecture but for no particular libc.
"""

import os
import platform
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from runpy import run_path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class InitBuildHook(BuildHookInterface[Any]):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version != "editable":
            self._record_commit(build_data)
        if self.target_name != "wheel":
            return
        sandbox = Path(self.root) / "sandbox"
        init, live = sandbox / "bin/occd-init", sandbox / "shown/live"
        defer, hold = sandbox / "bin/defer.so", sandbox / "shown/hold/hold.so"
        try:
            _compile_init(sandbox / "init", init)
            _compile_live(sandbox / "live/live.c", live)
            _compile_library(defer, sandbox / "hold/defer.c")
            _compile_library(hold, *(sandbox / name for name in _HOLD))
        except (OSError, subprocess.CalledProcessError) as error:
            raise SystemExit(
                f"occd: cannot compile: {error}. It needs a C compiler and the "
                "static C library (Debian: gcc libc6-dev; Fedora: gcc glibc-static); CC= names another."
            ) from error
        _tell_python(live / "python")
        build_data["tag"] = f"py3-none-linux_{platform.machine()}"
        build_data["pure_python"] = False
        made = [init, defer, hold, live / "liblive.a", live / "live.so", live / "python/lib"]
        build_data["artifacts"] += [f"/{path.relative_to(self.root)}" for path in made]

    def _record_commit(self, build_data: dict[str, Any]) -> None:
        """For `occd --version`. SOURCE_COMMIT tells it where the sources come without .git."""
        if (Path(self.root) / _COMMIT).exists():
            return  # an sdist, which has it
        commit = (
            os.environ.get("SOURCE_COMMIT") or run_path(f"{self.root}/occd/commit.py")["commit"]()
        )
        if commit:
            self._made = tempfile.TemporaryDirectory()
            path = Path(self._made.name) / "commit"
            path.write_text(f"{commit}\n")
            build_data["force_include"][str(path)] = _COMMIT


_HOLD = ("hold/hold.c", "hold/pages.c", "hold/python.c", "init/begin.c", "init/drop.c")
_COMMIT = "occd/_data/commit"
_COMPILER = os.environ.get("CC", "cc")
_WARNINGS = ["-Wall", "-Wextra", "-Werror"]


def _compile_init(folder: Path, target: Path) -> None:
    target.parent.mkdir(exist_ok=True)
    flags = ["-std=c11", "-O2", "-static", "-s", *_WARNINGS]
    sources = sorted(folder.glob("*.c"))
    subprocess.run([_COMPILER, *flags, "-o", target, *sources], check=True)


def _compile_library(target: Path, *sources: Path) -> None:
    target.parent.mkdir(exist_ok=True)
    flags = ["-std=gnu11", "-O2", "-fPIC", "-fvisibility=hidden", "-shared", "-s", *_WARNINGS]
    subprocess.run([_COMPILER, *flags, "-o", target, *sources], check=True)
    target.chmod(0o644)


def _compile_live(source: Path, folder: Path) -> None:
    # No builtins, for the compiler makes one of these functions call another.
    flags = ["-std=gnu11", "-O2", "-fPIC", "-fno-builtin", *_WARNINGS]
    with tempfile.TemporaryDirectory() as made:
        objects = []
        for part in re.findall(r"^#ifdef PART_(\w+)$", source.read_text(), re.MULTILINE):
            objects.append(Path(made) / f"{part}.o")
            subprocess.run(
                [_COMPILER, *flags, f"-DPART_{part}", "-c", "-o", objects[-1], source], check=True
            )
        archive, library = Path(made) / "liblive.a", Path(made) / "live.so"
        subprocess.run(["ar", "rcsD", archive, *objects], check=True)
        subprocess.run(
            [_COMPILER, "-shared", "-nostdlib", "-s", "-o", library, *objects], check=True
        )
        for path in (archive, library):
            path.chmod(0o644)
            shutil.move(path, folder / path.name)


_PTH = """\
import sys; sys.path.remove(sitedir); here = sitedir.rpartition("/lib/")[0]; \
exec(open(here + "/stdout.py").read(), {"here": here})
"""


def _tell_python(folder: Path) -> None:
    """Every version of Python looks into a folder of its own."""
    for minor in range(8, 25):
        packages = folder / f"lib/python3.{minor}/site-packages"
        packages.mkdir(parents=True, exist_ok=True)
        (packages / "live.pth").write_text(_PTH)
