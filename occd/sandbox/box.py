"""The working folders of jails. A jail shows as its box the file system that is mounted at its launcher's
`Place` when the jail gets its job. A jail with an interpreter that was held shows what was mounted there
when the jail was made.

A box is a small file system that we fill with files. A run may keep its box: then the box is sealed, and is
a tree. A run that begins with a tree gets a copy of it in a box of its own (`tree.py`), and of a large tree
an overlay, with a fresh file system on top. We write into a box only before a stranger's program can write
there.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from occd import rules
from occd.model import File
from occd.sandbox import kernel
from occd.sandbox.packed import unpack
from occd.sandbox.tree import BYTES_MAX, NEW, Copied, TooLarge, copy_tree, opened
from occd.scopes import Beside

BOX_BYTES, INODES = 64 * 2**20, 65_536
SAFE = kernel.MS_NOSUID | kernel.MS_NODEV


class Place:
    """A mount point. After an unmount the file system lives on in the jails that were made with it."""

    def __init__(self, path: Path, uid: int, *, unprivileged: bool) -> None:
        """`uid` owns the files in the boxes."""
        self.path = path
        self._spent = path.with_name(f"{path.name}-spent")
        self._uid = uid
        self._unprivileged = unprivileged
        self._clearing: Beside | None = None
        path.mkdir()
        self._spent.mkdir()

    def lay_empty(self) -> None:
        _mount_tmpfs(self.path, BOX_BYTES, self._uid)

    def fill(self, files: Sequence[File], size: int) -> None:
        """Write the files into the empty box, and set the size of the box to `size` bytes."""
        if size != BOX_BYTES:
            self._resize(size)
        self._write_all(self.path, files)

    def copy(self, tree: Path, files: Sequence[File], size: int) -> Copied | None:
        """Write the files and a copy of a sealed tree into the empty box, with `size` more bytes for
        changes. The files take the place of files of the tree. None when the tree is too large; the box is
        then of no use."""
        size += rules.room(len(file.content) for file in files)
        self._resize(size + BYTES_MAX)
        self._write_all(self.path, files)
        try:
            copied = copy_tree(tree, self.path, self._uid)
        except TooLarge:
            return None
        self._resize(size + copied.bytes)
        return copied

    def unpack(self, tree: bytes, files: Sequence[File], size: int) -> None:
        """As `copy`, of a packed tree."""
        size += rules.room(len(file.content) for file in files)
        self._resize(size + BYTES_MAX)
        self._write_all(self.path, files)
        self._resize(size + unpack(tree, self.path, self._uid))

    def move_to(self, target: Path) -> None:
        target.mkdir()
        kernel.mount(str(self.path), str(target), None, kernel.MS_MOVE)

    def lay_over(self, lower: Path, files: Sequence[File], size: int) -> None:
        """Mount here, instead of the present box, an overlay over `lower` with the files and `size` bytes
        for changes."""
        layer = self.path
        self._resize(size + rules.room(len(file.content) for file in files))
        for name in ("upper", "work"):
            self._own_folder(layer / name)
        self._write_all(layer / "upper", files)
        options = f"lowerdir={lower},upperdir={layer}/upper,workdir={layer}/work"
        if self._unprivileged:
            options += ",userxattr"
        kernel.mount("overlay", str(self.path), "overlay", SAFE, options)

    def renew(self) -> None:
        """Mount an empty box in place of the present one. The jails keep the boxes that they have."""
        while kernel.moved(str(self.path), str(self._spent)):
            pass
        self.lay_empty()

    def clear_beside(self, also: Callable[[], None]) -> None:
        """Unmount the boxes that were replaced, and do `also`, in a thread: the kernel takes milliseconds for
        it. Wait for `cleared` before the next call."""

        def clear() -> None:
            kernel.unmount_all(str(self._spent))
            also()

        self._clearing = Beside(clear)

    async def cleared(self) -> None:
        """Wait until the last thread has ended. Raises what it has raised."""
        clearing, self._clearing = self._clearing, None
        if clearing:
            await clearing.over()

    def close(self) -> None:
        for each in (self.path, self._spent):
            kernel.unmount_all(str(each))
            each.rmdir()

    def _resize(self, size: int) -> None:
        kernel.mount("none", str(self.path), None, kernel.MS_REMOUNT | SAFE, f"size={size}")

    def _own_folder(self, path: Path) -> None:
        path.mkdir()
        os.chown(path, self._uid, self._uid)

    def _write_all(self, folder: Path, files: Sequence[File]) -> None:
        with opened(folder) as box:
            for file in files:
                self._write(box, file)

    def _write(self, box: int, file: File) -> None:
        """Write a file, part by part from the box's descriptor. No part of a stranger's name is looked up
        from another place, followed as a link, or overwritten."""
        rules.file_name(file.name)
        *folders, name = file.name.split("/")
        with ExitStack() as stack:
            folder = box
            for each in folders:
                folder = stack.enter_context(self._folder(each, folder))
            new = stack.enter_context(opened(name, NEW, folder))
            os.fchmod(new, 0o755 if file.executable or file.content.startswith(b"#!") else 0o644)
            os.fchown(new, self._uid, self._uid)
            unwritten = memoryview(file.content)
            while unwritten:
                unwritten = unwritten[os.write(new, unwritten) :]

    @contextmanager
    def _folder(self, name: str, parent: int) -> Iterator[int]:
        """The folder of this name. Makes the folder if it is absent."""
        with suppress(FileExistsError):
            os.mkdir(name, 0o755, dir_fd=parent)
        with opened(name, folder=parent) as folder:
            os.fchown(folder, self._uid, self._uid)
            yield folder


def seal(tree: Path) -> None:
    """Make the tree read-only. No process that could write is left."""
    kernel.mount("none", str(tree), None, kernel.MS_REMOUNT | kernel.MS_RDONLY | SAFE)


def together(files: Sequence[File], more: Sequence[File]) -> list[File]:
    """All of `more`, and those of `files` that do not stand in their way."""
    names = {file.name for file in more}
    above = {folder for name in names for folder in folders_of(name)}
    kept = (
        file
        for file in files
        if file.name not in names | above and names.isdisjoint(folders_of(file.name))
    )
    return [*kept, *more]


def folders_of(name: str) -> list[str]:
    """`a` and `a/b` for `a/b/c`."""
    parts = name.split("/")
    return ["/".join(parts[:depth]) for depth in range(1, len(parts))]


def _mount_tmpfs(path: Path, size: int, uid: int) -> None:
    owner = f"uid={uid},gid={uid},mode=755"
    kernel.mount("tmpfs", str(path), "tmpfs", SAFE, f"size={size},nr_inodes={INODES},{owner}")
