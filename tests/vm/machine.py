"""A virtual machine with cgroup v2, for what the machine at hand cannot show.

Software emulation, so that it runs anywhere; Python is 13 to 20 times slower inside. A boot changes
nothing in the image.
"""

import compileall
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement
from vm_image import BY_SYSTEMD, Image, pack

_REPOSITORY = Path(__file__).parents[2]
_SENT = ("occd", "sandbox", "templates", "static", "tests", "packaging", "docs", "pyproject.toml")
_NEEDED = ("occd", "pytest", "pytest-trio", "pytest-timeout", "hypothesis")
_EXIT = "occd-vm: exit status"

# The first process may not end, and what it starts must not keep the machine up for ever.
_START = """\
export PATH=/job/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/tmp USER=somebody LANG=C.UTF-8
export PYTHONPATH=/job/packages:/job:/job/tests:/job/tests/vm
(sleep {timeout}; busybox poweroff -f) &
cd /job
sh -u ./command </dev/null
echo "{exit} $?"
busybox poweroff -f
sleep 60
"""
# Beside a python by which they are started, as in a virtual environment.
_OCCD = """\
#!/bin/sh
exec /job/bin/python -m occd "$@"
"""


@dataclass(frozen=True, slots=True)
class Finished:
    """`status` is None when the machine ended without telling one."""

    status: int | None
    output: str


def make_job(folder: Path) -> None:
    """Put into `folder` what a guest needs, seen there as /job: the checkout, the packages it uses,
    and `bin/python` with `bin/occd` beside it."""
    folder.chmod(0o755)
    for name in _SENT:
        source = _REPOSITORY / name
        if source.is_dir():
            shutil.copytree(source, folder / name, symlinks=True)
        else:
            shutil.copy2(source, folder / name)
    for package in _closure(_NEEDED) - {"occd"}:
        _copy_package(package, folder / "packages")
    for name in ("occd", "packages"):  # here it takes a moment, there a minute
        compileall.compile_dir(folder / name, quiet=2, stripdir=str(folder), prependdir="/job")
    (folder / "bin").mkdir()
    (folder / "bin/python").symlink_to("/usr/bin/python3")
    (folder / "bin/occd").write_text(_OCCD)
    (folder / "bin/occd").chmod(0o755)


def run(
    image: Image, job: Path, command: str, timeout_s: int, *, systemd: bool = False
) -> Finished:
    """Boot, run a shell script as root in a copy of the folder `job`, power off. The script is the first
    process, or a service of systemd."""
    (job / "command").write_text(command)
    (job / "start").write_text(_START.format(timeout=timeout_s, exit=_EXIT))
    with tempfile.TemporaryDirectory(prefix="occd-vm-") as work:
        drive = Path(work, "job.ext4")
        pack(job, drive, spare=64 * 2**20)
        output = _boot(image, drive, timeout_s, BY_SYSTEMD if systemd else "")
    found = re.search(rf"^{_EXIT} (\d+)$", output, re.MULTILINE)
    return Finished(int(found[1]) if found else None, output)


def _boot(image: Image, drive: Path, timeout_s: int, kernel_word: str) -> str:
    """What the machine printed until it powered off."""
    argv = [
        "nice", "qemu-system-x86_64", "-M", "q35", "-accel", "tcg,thread=multi",
        "-cpu", "qemu64,+ssse3,+sse4.1,+sse4.2,+popcnt",  # a newer one is slower to emulate
        "-smp", "2", "-m", "1024", "-nic", "none", "-display", "none", "-serial", "stdio",
        "-monitor", "none", "-no-reboot", "-snapshot",
        "-kernel", str(image.kernel), "-initrd", str(image.initramfs),
        "-append",
        f"console=ttyS0 quiet loglevel=3 panic=-1 mitigations=off no_timer_check {kernel_word}",
        "-drive", f"file={image.root},format=raw,if=virtio",
        "-drive", f"file={drive},format=raw,if=virtio",
    ]  # fmt: skip
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=timeout_s + 60,  # it ends by itself before that, unless it hangs
        )
        printed = done.stdout
    except subprocess.TimeoutExpired as error:
        printed = (error.stdout or b"") + b"\nthe machine hung\n"
    return printed.decode(errors="replace").replace("\r\n", "\n")


def _closure(names: tuple[str, ...]) -> set[str]:
    """These packages and all that they need."""
    seen: set[str] = set()
    waiting = [Requirement(name) for name in names]
    while waiting:
        wanted = waiting.pop()
        if wanted.name in seen:
            continue
        seen.add(wanted.name)
        for each in map(Requirement, distribution(wanted.name).requires or ()):
            extras = wanted.extras or {""}
            if not each.marker or any(each.marker.evaluate({"extra": extra}) for extra in extras):
                waiting.append(each)
    return seen


def _copy_package(name: str, target: Path) -> None:
    for file in distribution(name).files or ():
        if ".." in file.parts:
            continue  # a command, outside of the packages
        path = target / file
        path.parent.mkdir(parents=True, exist_ok=True)
        source = Path(str(file.locate()))
        if source.exists():  # what was never imported has no byte code yet
            shutil.copy2(source, path)
