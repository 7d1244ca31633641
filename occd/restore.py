"""Makes a data folder of a backup (`backup.py`).

The parts of the backup lie in `restore.part` until all are there and were compared with their
checksums. While `restore.part` is there no occd opens the folder, and a further restore begins anew.
"""

import os
import shutil
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

from occd.backup import BLOB, BLOBS, CHECKSUM, DATABASE
from occd.datafile import RESTORING, locked, make_folder, refuse_anothers
from occd.errors import DataFolderError
from occd.wholefile import sync_folder

_PIECE = 2**18
_BLOCK = tarfile.BLOCKSIZE
_HARMLESS = {"lock", "lost+found"}


def restore(backup: Path, folder: Path) -> None:
    """`folder` is new or empty. Raises DataFolderError."""
    with _explained(backup, folder), backup.open("rb") as file:
        refuse_anothers(folder)
        make_folder(folder)
        with locked(folder):
            part = folder / RESTORING
            theirs = _HARMLESS | ({RESTORING, BLOBS, DATABASE} if part.exists() else set())
            if found := sorted(set(os.listdir(folder)) - theirs):
                raise DataFolderError(
                    f"{folder} is not empty (it has {found[0]}); restore into a new folder, with --data-dir"
                )
            _clear(folder)
            part.mkdir(mode=0o700)
            sync_folder(folder)
            try:
                _unpack(file, part)
                for name in (BLOBS, DATABASE):
                    if (part / name).exists():
                        (part / name).rename(folder / name)
                sync_folder(folder)
            except BaseException:
                _clear(folder)
                raise
            part.rmdir()
            sync_folder(folder)


def _unpack(file: BinaryIO, part: Path) -> None:
    """Raises DataFolderError unless this is a backup from its first to its last byte."""
    told = whole = None
    for name, pieces in _files(file):
        if told is not None:
            raise _no_backup(name)
        if name == CHECKSUM and whole:
            told = next(pieces, b"")
        elif name == DATABASE and whole is None:
            whole = _write(pieces, part / DATABASE)
        elif whole and (blob := BLOB.fullmatch(name)):
            (part / BLOBS / blob[1]).mkdir(parents=True, exist_ok=True, mode=0o700)
            if _write(pieces, part / name) != blob[2]:
                raise DataFolderError(f"the backup is damaged: {name} is another file")
        else:
            raise _no_backup(name)
    if told is None:
        raise _cut_off()
    if told != f"{whole}  {DATABASE}\n".encode():
        raise DataFolderError(f"the backup is damaged: {DATABASE} is another file")
    for each in (*(part / BLOBS).glob("*"), part / BLOBS, part):
        if each.exists():
            sync_folder(each)


def _files(file: BinaryIO) -> Iterator[tuple[str, Iterator[bytes]]]:
    """The name and the pieces of each file of a tar, which has nothing but plain files. tarfile itself would
    follow all that a tar may have: a few bytes of it take any memory, any disk, or all of the stack."""
    while (block := file.read(_BLOCK)).strip(b"\0"):
        head = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        if head.type != tarfile.REGTYPE or head.size < 0:
            raise _no_backup(head.name)
        yield head.name, _pieces(file, head.size)


def _pieces(file: BinaryIO, size: int) -> Iterator[bytes]:
    left = size
    while left:
        piece = file.read(min(left, _PIECE))
        if not piece:
            raise _cut_off()
        left -= len(piece)
        yield piece
    file.read(-size % _BLOCK)


def _cut_off() -> DataFolderError:
    return DataFolderError("the backup is not whole: its end is missing")


def _no_backup(name: str) -> DataFolderError:
    return DataFolderError(f"this is no backup of occd: it has {name[:100]!r}")


def _write(pieces: Iterator[bytes], path: Path) -> str:
    """The file is on the disk. Gives its SHA-256."""
    digest = sha256()
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        for piece in pieces:
            digest.update(piece)
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


def _clear(folder: Path) -> None:
    """Of what an earlier restore left, the mark goes last."""
    (folder / DATABASE).unlink(missing_ok=True)
    for name in (BLOBS, RESTORING):
        if (folder / name).exists():
            shutil.rmtree(folder / name)


@contextmanager
def _explained(backup: Path, folder: Path) -> Iterator[None]:
    try:
        yield
    except DataFolderError as error:
        raise DataFolderError(f"{backup} is not restored: {error}") from error
    except (tarfile.TarError, ValueError) as error:  # of a number in a header
        raise DataFolderError(
            f"{backup} is not restored: it is no backup of occd, or not whole ({error})"
        ) from error
    except OSError as error:
        where = error.filename or folder
        raise DataFolderError(f"{backup} is not restored: {where}: {error.strerror}") from error
