"""Hatch build hook: compiles the jail's init, so that wheels and checkouts carry it alike.

The result is a static executable (it must start where the jail shows no library), hence the
wheel is for one architecture but for no particular libc.
"""

import os
import platform
import subprocess
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class InitBuildHook(BuildHookInterface[Any]):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if self.target_name != "wheel":
            return
        source = Path(self.root) / "sandbox/init/init.c"
        target = Path(self.root) / "sandbox/bin/occd-init"
        target.parent.mkdir(exist_ok=True)
        compiler = os.environ.get("CC", "cc")
        flags = ["-std=c11", "-O2", "-static", "-s", "-Wall", "-Wextra", "-Werror"]
        try:
            subprocess.run([compiler, *flags, "-o", str(target), str(source)], check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise SystemExit(
                f"occd: cannot compile {source.name}: {error}. It needs a C compiler and the "
                "static C library (Debian: gcc libc6-dev; Fedora: gcc glibc-static); CC= names another."
            ) from error
        build_data["tag"] = f"py3-none-linux_{platform.machine()}"
        build_data["pure_python"] = False
        build_data["artifacts"].append("/sandbox/bin/occd-init")
