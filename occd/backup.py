"""Makes a backup of the data folder: one tar, while others read and write the folder.

The tar has a copy of `occd.db` as it was at one moment, then the files that programs left
(`blobs/ID/SHA256`), and last `checksum`, the SHA-256 of the first. A tar without it was cut off. What a
submission names among the files was there before it was named, so all of it is there when none is removed
meanwhile. `restore.py` takes nothing else: so what is damaged already, and what others left among the files,
stays out.
"""

import os
import re
import tarfile
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, suppress
from hashlib import file_digest, sha256
from pathlib import Path
from typing import BinaryIO

import structlog
import trio

from occd.config import Config
from occd.errors import DataFolderError, Rejected
from occd.sqlite import Database

DATABASE, BLOBS, CHECKSUM = "occd.db", "blobs", "checksum"
BLOB = re.compile(rf"{BLOBS}/([0-9A-Za-z_-]{{1,100}})/([0-9a-f]{{64}})")

log = structlog.get_logger()

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
    for name in await trio.to_thread.run_sync(list, _names(folder)):
        file = await trio.to_thread.run_sync(_whole, folder / name)
        if file is None:
            continue
        try:
            yield _head(name, os.fstat(file.fileno()).st_size)
            while piece := await trio.to_thread.run_sync(file.read, _PIECE):
                yield piece
            yield _padding(file.tell())
        finally:
            file.close()
    said = f"{whole.hexdigest()}  {DATABASE}\n".encode()
    yield _head(CHECKSUM, len(said)) + said + _padding(len(said)) + bytes(2 * _BLOCK)


def _names(folder: Path) -> Iterator[str]:
    """Of the files that programs left."""
    found = (f"{BLOBS}/{subject}" for subject in _listed(folder / BLOBS))
    for name in (f"{each}/{file}" for each in found for file in _listed(folder / each)):
        if BLOB.fullmatch(name):
            yield name


def _listed(folder: Path) -> list[str]:
    with suppress(FileNotFoundError, NotADirectoryError):
        return sorted(os.listdir(folder))
    return []


def _whole(path: Path) -> BinaryIO | None:
    """None when it was removed a moment before the copy was made, or is damaged."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DataFolderError(f"{path} cannot be read: {error.strerror}") from error
    with ExitStack() as stack:
        stack.enter_context(file)
        if file_digest(file, "sha256").hexdigest() != path.name:
            log.warning("a damaged file is not in the backup", path=str(path))
            return None
        file.seek(0)
        stack.pop_all()
    return file


def _head(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o600
    return info.tobuf(tarfile.GNU_FORMAT)


def _padding(size: int) -> bytes:
    return bytes(-size % _BLOCK)
