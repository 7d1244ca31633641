"""The image of the test machine: a kernel, a small root, and a first file system that mounts both.

Built once, from the machine's own Debian sources, into a cache folder named after this file's text.
"""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "occd-vm"
_TOOLS = {"qemu-system-x86_64": "qemu-system-x86", "debootstrap": "debootstrap"}
_SUITE, _PYTHON = "bookworm", (3, 11)
_INCLUDED = "python3,libstdc++6,busybox-static,systemd,runc"
_KERNEL = "linux-image-cloud-amd64"
_MODULES = (  # in the order in which they need one another
    "drivers/virtio/virtio_ring",
    "drivers/virtio/virtio",
    "drivers/virtio/virtio_pci_modern_dev",
    "drivers/virtio/virtio_pci_legacy_dev",
    "drivers/virtio/virtio_pci",
    "drivers/block/virtio_blk",
    "fs/overlayfs/overlay",
)
_INIT = """\
#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t devtmpfs none /dev
for module in {modules}; do insmod /modules/$module.ko; done
until [ -b /dev/vda ] && [ -b /dev/vdb ]; do sleep 0.05; done
mount -t ext4 /dev/vda /root
mkdir -p /root/job
mount -t ext4 /dev/vdb /root/job
mount -t devtmpfs none /root/dev
mount -t proc none /root/proc
mount -t sysfs none /root/sys
mount -t cgroup2 none /root/sys/fs/cgroup
mkdir -p /root/dev/shm
for folder in tmp run dev/shm; do mount -t tmpfs -o mode=1777 none /root/$folder; done
chmod 755 /root/run
ip link set lo up
if grep -q {by_systemd} /root/proc/cmdline; then exec switch_root /root /lib/systemd/systemd; fi
exec switch_root /root /bin/sh /job/start
"""
BY_SYSTEMD = "systemd.unit=job.service"
"""A word for the kernel: systemd is the first process then, and starts the job when it has come up."""
_JOB = """\
[Unit]
Requires=basic.target
After=basic.target

[Service]
ExecStart=/bin/sh /job/start
StandardOutput=tty
StandardError=tty
TTYPath=/dev/console
"""
_STEP_TIMEOUT_S = 900
_MIB = 2**20


class ImageUnavailable(Exception):
    """It cannot be built here; the text says what is missing."""


@dataclass(frozen=True, slots=True)
class Image:
    """The built files. They are never written to again."""

    folder: Path

    @property
    def kernel(self) -> Path:
        return self.folder / "vmlinuz"

    @property
    def initramfs(self) -> Path:
        return self.folder / "initramfs"

    @property
    def root(self) -> Path:
        return self.folder / "root.ext4"


def open_image() -> Image:
    """The image, built now if that was not done yet.

    Raises ImageUnavailable.
    """
    if sys.version_info[:2] != _PYTHON:
        raise ImageUnavailable(f"the guest's Python is {_PYTHON}: it uses this one's packages")
    folder = _CACHE / hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:16]
    _CACHE.mkdir(parents=True, exist_ok=True)
    with (_CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _install_tools()
        if not folder.is_dir():
            _remove_older()
            _build(folder)
    return Image(folder)


def pack(source: Path, drive: Path, *, spare: int) -> None:
    """Write the tree `source` as an ext4 file system with `spare` bytes free, without mounting."""
    sizes = (path.lstat().st_size + 4096 for path in source.rglob("*"))
    kib = (sum(sizes) * 11 // 10 + spare + 16 * _MIB) // 1024
    drive.unlink(missing_ok=True)
    options = ["-q", "-F", "-O", "^has_journal", "-E", "root_owner=0:0", "-d", str(source)]
    _call([_sbin("mke2fs"), "-t", "ext4", *options, str(drive), f"{kib}k"])


def _install_tools() -> None:
    missing = [package for tool, package in _TOOLS.items() if not shutil.which(_sbin(tool))]
    if not missing:
        return
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise ImageUnavailable(f"install these: {' '.join(missing)}")
    _apt_get("update")
    _apt_get("install", "--yes", "--no-install-recommends", *missing)


def _remove_older() -> None:
    for each in _CACHE.iterdir():
        if each.is_dir():
            shutil.rmtree(each)


def _build(folder: Path) -> None:
    if os.geteuid() != 0:
        raise ImageUnavailable("the image must be built once by root")
    with _scratch() as work:
        made = work / "made"
        made.mkdir()
        root = _make_root(work)
        kernel = _unpack_kernel(work)
        shutil.copy(next(kernel.glob("boot/vmlinuz-*")), made / "vmlinuz")
        _make_initramfs(work, root, kernel, made / "initramfs")
        pack(root, made / "root.ext4", spare=256 * _MIB)
        made.rename(folder)


@contextmanager
def _scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=_CACHE, prefix="build-") as work:
        path = Path(work)
        path.chmod(0o755)  # apt downloads as a user of its own
        yield path


def _make_root(work: Path) -> Path:
    root = work / "root"
    tools = [_sbin("debootstrap"), "--variant=minbase", f"--include={_INCLUDED}"]
    _call([*tools, _SUITE, str(root), _mirror()])
    for useless in ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/locale"):
        shutil.rmtree(root / useless)
    (root / "etc/systemd/system/job.service").write_text(_JOB)
    return root


def _mirror() -> str:
    """Where this machine itself gets that release from."""
    filters = ["Created-By: Packages", f"Codename: {_SUITE}", "Component: main", "Origin: Debian"]
    found = _call(["apt-get", "indextargets", "--format", "$(REPO_URI)", *filters]).split()
    plain = [each for each in found if "security" not in each]
    if not plain:
        raise ImageUnavailable(f"apt knows no source of Debian {_SUITE}")
    return plain[0]


def _unpack_kernel(work: Path) -> Path:
    _apt_get("update")
    depends = _call(["apt-cache", "depends", _KERNEL])
    found = re.search(r"Depends: (linux-image-\S+)", depends)
    if found is None:
        raise ImageUnavailable(f"apt knows no {_KERNEL}")
    _apt_get("download", found[1], cwd=work)
    unpacked = work / "kernel"
    _call(["dpkg", "-x", str(next(work.glob("linux-image-*.deb"))), str(unpacked)])
    return unpacked


def _make_initramfs(work: Path, root: Path, kernel: Path, target: Path) -> None:
    tree = work / "initramfs"
    for name in ("bin", "modules", "dev", "root"):
        (tree / name).mkdir(parents=True)
    busybox = root / "bin/busybox"
    shutil.copy(busybox, tree / "bin/busybox")
    modules = next(kernel.glob("lib/modules/*/kernel"))
    for module in _MODULES:
        shutil.copy(modules / f"{module}.ko", tree / "modules")
    init = tree / "init"
    modules_named = " ".join(Path(each).name for each in _MODULES)
    init.write_text(_INIT.format(modules=modules_named, by_systemd=BY_SYSTEMD))
    init.chmod(0o755)
    names = "\n".join(str(path.relative_to(tree)) for path in tree.rglob("*"))
    cpio = [str(busybox), "cpio", "--quiet", "-o", "-H", "newc"]
    with target.open("wb") as archive:
        subprocess.run(cpio, input=names.encode(), cwd=tree, stdout=archive, check=True)


def _apt_get(*args: str, cwd: Path | None = None) -> None:
    _call(["apt-get", "-qq", "-o", "DPkg::Lock::Timeout=300", *args], cwd=cwd)


def _call(argv: Sequence[str], cwd: Path | None = None) -> str:
    """Run a tool gently. Raises ImageUnavailable with what it said when it fails."""
    done = subprocess.run(
        ["nice", *argv],
        cwd=cwd,
        env=os.environ | {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_STEP_TIMEOUT_S,
    )
    if done.returncode != 0:
        said = (done.stdout + done.stderr)[-3000:]
        raise ImageUnavailable(f"{' '.join(argv)}: exit code {done.returncode}\n{said}")
    return done.stdout


def _sbin(tool: str) -> str:
    """The tool's path: a normal user's PATH often lacks where the administrator's tools are."""
    return shutil.which(tool) or shutil.which(tool, path="/usr/sbin:/sbin") or tool
