"""The file trees of one cell: what a stage has as its working folder.

Without a compile stage every run gets a small file system of its own with the submission's files.
The compile stage gets such a one too; afterwards it is sealed, and every run's box is an overlay of
it with a fresh file system on top. We write into a tree only before any program of theirs could.
"""

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from occd.model import File, StageName
from occd.sandbox import kernel

INODES = 65_536
SAFE = kernel.MS_NOSUID | kernel.MS_NODEV


class Boxes:
    """`folder` is ours alone; `uid` owns what is in the boxes, each of at most `size` bytes."""

    def __init__(
        self, folder: Path, uid: int, size: int, files: Sequence[File], *, unprivileged: bool
    ) -> None:
        self._folder = folder
        self._uid = uid
        self._size = size
        self._files = files
        self._unprivileged = unprivileged
        self._compiled: Path | None = None
        self._made = 0
        folder.mkdir(mode=0o711)

    def close(self) -> None:
        if self._compiled:
            kernel.unmount(str(self._compiled))
        shutil.rmtree(self._folder)

    @contextmanager
    def box(self, stage: StageName) -> Iterator[Path]:
        """A working folder for one stage. What the compile stage leaves stays until `close`."""
        self._made += 1
        path = self._folder / f"box{self._made}"
        if stage == "compile":
            self._mount(path)
            self._compiled = path
            self._fill(path)
            yield path
            kernel.mount("none", str(path), None, kernel.MS_REMOUNT | kernel.MS_RDONLY | SAFE)
            return
        with self._mounted(path):
            if self._compiled is None:
                self._fill(path)
                yield path
            else:
                with self._overlay(path, self._compiled) as box:
                    yield box

    @contextmanager
    def _overlay(self, layer: Path, lower: Path) -> Iterator[Path]:
        for name in ("upper", "work"):
            self._own_folder(layer / name)
        box = layer / "box"
        box.mkdir()
        options = f"lowerdir={lower},upperdir={layer}/upper,workdir={layer}/work"
        if self._unprivileged:
            options += ",userxattr"
        kernel.mount("overlay", str(box), "overlay", SAFE, options)
        try:
            yield box
        finally:
            kernel.unmount(str(box))

    @contextmanager
    def _mounted(self, path: Path) -> Iterator[None]:
        self._mount(path)
        try:
            yield
        finally:
            kernel.unmount(str(path))

    def _mount(self, path: Path) -> None:
        path.mkdir()
        owner = f"uid={self._uid},gid={self._uid},mode=755"
        kernel.mount(
            "tmpfs", str(path), "tmpfs", SAFE, f"size={self._size},nr_inodes={INODES},{owner}"
        )

    def _fill(self, box: Path) -> None:
        for file in self._files:
            path = box / file.name
            for folder in reversed(path.relative_to(box).parents[:-1]):
                self._own_folder(box / folder)
            path.write_bytes(file.content)
            os.chown(path, self._uid, self._uid)

    def _own_folder(self, path: Path) -> None:
        path.mkdir(exist_ok=True)
        os.chown(path, self._uid, self._uid)
