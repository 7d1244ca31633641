"""The file systems of which jails show one: the machine's, or those of images."""

import os
import platform
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from occd import images
from occd.config import Config
from occd.data import data_folder
from occd.errors import SandboxUnavailable, refuse_faults
from occd.sandbox import kernel
from occd.sandbox.find import remedy
from occd.sandbox.rootfs import MACHINE, build_rootfs, proc_mounts, shown_folders, shows_machine


@dataclass(frozen=True, slots=True)
class Root:
    """`proc` are nsjail's arguments for /proc. `own`: none of the machine's folders was found in it. `image`
    tells the image that is shown from others of its name; None: the machine's files are."""

    path: Path
    proc: list[str]
    own: bool
    image: str | None = None


@contextmanager
def open_roots(config: Config, workspace: Path) -> Iterator[Mapping[str, Root]]:
    """By their names (`Sandbox.roots`), the best first, in a folder of our private mounts. An image that is
    built anew meanwhile is found at the next opening; until then its old files stay.

    Raises SandboxUnavailable for all that cannot be shown.
    """
    with ExitStack() as ours:
        roots: dict[str, Root] = {}
        faults: list[SandboxUnavailable] = []
        for name in config.sandbox.roots:
            try:
                roots[name] = ours.enter_context(_root(config, workspace, name))
            except SandboxUnavailable as error:
                faults.append(error)
        refuse_faults(faults)
        yield roots


@contextmanager
def _root(config: Config, workspace: Path, name: str) -> Iterator[Root]:
    with ExitStack() as ours:
        path = workspace / (f"root-{name}" if name else "root")
        path.mkdir(mode=0o755)
        ours.callback(kernel.unmount_all, str(path))
        try:
            image = ours.enter_context(_image(config, name)) if name else None
            source = image.root if image else MACHINE
            _refuse_exposed_folders(config, source)
            build_rootfs(path, source)
        except OSError as error:
            raise SandboxUnavailable(
                f"the file system of jails cannot be made ({error})",
                remedy(name)
                if name
                else "Install occd again with a C compiler; `occd doctor` tells more",
            ) from error
        told = f"{image.digest} {image.built_at}" if image else None
        yield Root(path, proc_mounts(path), own=not shows_machine(path), image=told)


@contextmanager
def _image(config: Config, name: str) -> Iterator[images.Image]:
    with images.opened(config.data_dir, name) as image:
        shell = _architecture(image.root, "/bin/sh")
        if shell is None:
            raise SandboxUnavailable(f"the image {name} has no /bin/sh", remedy(name))
        if shell != _architecture(data_folder("sandbox"), "bin/occd-init"):
            raise SandboxUnavailable(
                f"the image {name} is for {image.architecture}, and this machine is {platform.machine()}",
                remedy(name),
            )
        yield image


def _architecture(root: Path, program: str) -> bytes | None:
    """What a program's header says, for comparison. None when there is no such program."""
    with ExitStack() as ours:
        try:
            folder = os.open(root, os.O_PATH | os.O_CLOEXEC)
            ours.callback(os.close, folder)
            opened = kernel.open_within(folder, program)
            ours.callback(os.close, opened)
        except FileNotFoundError:
            return None
        header = ours.enter_context(open(kernel.shown(opened), "rb")).read(20)
        return header[4:6] + header[18:]  # of ELF: the class, the order of bytes, the machine


def _refuse_exposed_folders(config: Config, source: Path) -> None:
    """Raises SandboxUnavailable when the data folder or the configuration lies where programs can read."""
    for secret in (config.data_dir, config.config_dir):
        for shown in shown_folders(source):
            if secret.resolve().is_relative_to(shown):
                raise SandboxUnavailable(
                    f"{secret} lies below {shown}, which every program can read",
                    "Choose another folder",
                )
