"""Run inside the virtual machine, as root: a command in a container that is given what packaging/ gives to
execute: uid 1000, no capability, a read-only root, `packaging/seccomp.json`, an uncovered /proc.

`--writable-cgroups` mounts the container's own control group for writing, as Docker does for
`writable-cgroups=true` and containerd for `cgroup_writable`. runc then makes uid 1000 its owner, if systemd
made the group.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

NAME = "occd-contained"
_USER = 1000
_MEMORY = 700 * 2**20
_KEPT = ("PATH", "HOME", "USER", "LANG", "PYTHONPATH")


def _mount(
    where: str, kind: str, *options: str, source: str | None = None
) -> dict[str, str | list[str]]:
    return {
        "destination": where,
        "type": kind,
        "source": source or kind,
        "options": ["nosuid", *options],
    }


def _configuration(root: Path, command: list[str], *, writable_cgroups: bool) -> dict[str, Any]:
    seccomp = json.loads(Path("/job/packaging/seccomp.json").read_text())
    for each in seccomp["syscalls"]:  # Docker's form allows a word about each
        each.pop("comment", None)
    return {
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": _USER, "gid": _USER},
            "args": command,
            "env": [f"{name}={os.environ[name]}" for name in _KEPT],
            "cwd": "/job",
            "capabilities": {},
            "noNewPrivileges": True,
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 65536, "soft": 65536}],
        },
        "root": {"path": str(root), "readonly": True},
        "mounts": [
            _mount("/proc", "proc", "noexec", "nodev"),
            _mount("/dev", "tmpfs", "strictatime", "mode=755", "size=65536k"),
            _mount("/dev/pts", "devpts", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"),
            _mount("/dev/shm", "tmpfs", "noexec", "nodev", "mode=1777", "size=65536k"),
            _mount("/dev/mqueue", "mqueue", "noexec", "nodev"),
            _mount("/sys", "sysfs", "noexec", "nodev", "ro"),
            _mount(
                "/sys/fs/cgroup", "cgroup", "noexec", "nodev", "rw" if writable_cgroups else "ro"
            ),
            _mount("/tmp", "tmpfs", "nodev", "mode=1777"),
            _mount("/job", "bind", "rbind", "ro", source="/job"),
        ],
        "linux": {
            "namespaces": [
                {"type": kind} for kind in ("pid", "network", "ipc", "uts", "mount", "cgroup")
            ],
            "cgroupsPath": f"system.slice:runc:{NAME}",
            "resources": {"memory": {"limit": _MEMORY, "swap": _MEMORY}, "pids": {"limit": 500}},
            "seccomp": seccomp,
            "maskedPaths": [],
            "readonlyPaths": [],
        },
    }


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--writable-cgroups", action="store_true")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(dir="/run") as bundle:
        root = Path(bundle, "rootfs")
        root.mkdir()
        subprocess.run(["mount", "--bind", "/", root], check=True)
        try:
            told = _configuration(root, asked.command, writable_cgroups=asked.writable_cgroups)
            Path(bundle, "config.json").write_text(json.dumps(told))
            runc = ("runc", "--systemd-cgroup", "run", "--bundle", bundle, NAME)
            return subprocess.run(runc, check=False).returncode
        finally:
            subprocess.run(["umount", root], check=True)


if __name__ == "__main__":
    sys.exit(main())
