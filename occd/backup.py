"""Makes a backup of the data folder: one tar, while others read and write the folder.

The tar has a copy of `occd.db` as it was at one moment, then the files that programs left
(`blobs/ID/SHA256`), and last `checksum`, the SHA-256 of the first. A tar without it was cut off. What a
submission names among the files was there before it was named, so all of it is there when none is removed
meanwhile.
"""

import os
import tarfile
from collections.abc import AsyncIterator, Iterator
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

import trio

from occd.config import Config
from occd.errors import DataFolderError, Rejected
from occd.sqlite import Database

DATABASE, BLOBS, CHECKSUM = "occd.db", "blobs", "checksum"

_PIECE = 2**18
_BLOCK = tarfile.BLOCKSIZE


def refuse_servers(config: Config) -> None:
    """Raises Rejected where not all lies in the data folder."""
    servers = [
        name for name, each in (("RabbitMQ", config.rabbitmq), ("Redis", config.redis)) if each
    ]
    if servers:
        raise Rejected(
            "elsewhere",
            f"what this server keeps lies in {' and '.join(servers)}: back up the append-only file of Redis, "
            "the queues of RabbitMQ and, without Redis, the data folder of the stopped daemon (Backup in "
            "docs/operating.md)",
        )


async def backup(database: Database, folder: Path) -> AsyncIterator[bytes]:
    """The tar, piece by piece. Before the first piece raises DataFolderError when no copy can be made."""
    copy = await database.copy()
    try:
        whole = sha256()
        yield _head(DATABASE, copy.seek(0, os.SEEK_END))
        copy.seek(0)
        while piece := await trio.to_thread.run_sync(copy.read, _PIECE):
            whole.update(piece)
            yield piece
        yield _padding(copy.tell())
    finally:
        copy.close()
    for path in await trio.to_thread.run_sync(list, _files(folder / BLOBS)):
        file = await trio.to_thread.run_sync(_open, path)
        try:
            yield _head(str(path.relative_to(folder)), os.fstat(file.fileno()).st_size)
            while piece := await trio.to_thread.run_sync(file.read, _PIECE):
                yield piece
            yield _padding(file.tell())
        finally:
            file.close()
    said = f"{whole.hexdigest()}  {DATABASE}\n".encode()
    yield _head(CHECKSUM, len(said)) + said + _padding(len(said)) + bytes(2 * _BLOCK)


def _files(blobs: Path) -> Iterator[Path]:
    """Those that are whole."""
    for subject in sorted(blobs.iterdir()) if blobs.is_dir() else ():
        yield from sorted(path for path in subject.iterdir() if path.suffix != ".part")


def _open(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise DataFolderError(f"{path} cannot be read: {error.strerror}") from error


def _head(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o600
    return info.tobuf(tarfile.GNU_FORMAT)


def _padding(size: int) -> bytes:
    return bytes(-size % _BLOCK)
