"""Blobs as files: `blobs/SUBJECT/SHA256` in the data folder."""

import os
import shutil
import sqlite3
from contextlib import suppress
from functools import partial
from pathlib import Path

import trio

from occd.errors import DataFolderError
from occd.state.embedded.shared import Shared
from occd.trouble import Trouble
from occd.wholefile import sync_folder

_RETRY_S = 0.5
_EXPIRE_EVERY_S = 60.0
_AT_ONCE = 500


class EmbeddedBlobs:
    bytes_max = 2**31

    def __init__(self, shared: Shared, folder: Path, keep_s: float) -> None:
        self._keep_s = keep_s
        self._database = shared.database
        self._folder = folder
        self.keepers = 0
        """While there are some, no blob is removed."""
        self._forgotten: set[str] = set()
        """The subjects whose blobs are removed later."""
        self._trouble = Trouble("files that programs left wait for the data folder")

    async def put(self, subject: str, sha256: str, data: bytes) -> None:
        while True:
            try:
                await trio.to_thread.run_sync(_write, self._folder / subject, sha256, data)
            except OSError as error:
                self._trouble.tell(self._explain(error))
                await trio.sleep(_RETRY_S)
            else:
                self._trouble.over()
                return

    async def get(self, subject: str, sha256: str) -> bytes | None:
        if subject in self._forgotten:
            return None
        return await trio.to_thread.run_sync(_read, self._folder / subject / sha256)

    def _explain(self, error: OSError) -> DataFolderError:
        return DataFolderError(f"{self._folder} cannot be used: {error.strerror}")

    async def forget(self, subject: str) -> None:
        if self.keepers:
            self._forgotten.add(subject)
            return
        try:
            await trio.to_thread.run_sync(_remove, self._folder / subject)
            self._forgotten.discard(subject)
        except OSError as error:
            raise self._explain(error) from error

    async def expire(self) -> None:
        """Remove the blobs of subjects that are gone, every now and then until cancelled."""
        trouble = Trouble("files of submissions that are gone stay in the data folder for now")
        while True:
            with trouble.survived():
                try:
                    await self._expire()
                except OSError as error:
                    raise self._explain(error) from error
            await trio.sleep(min(_EXPIRE_EVERY_S, max(1.0, self._keep_s)))

    async def _expire(self) -> None:
        if self.keepers:
            return
        for subject in list(self._forgotten):
            await self.forget(subject)
        subjects = await trio.to_thread.run_sync(_subjects, self._folder)
        for at in range(0, len(subjects), _AT_ONCE):
            some = subjects[at : at + _AT_ONCE]
            known = await self._database.read(partial(_known, ids=some))
            for subject in some:
                if subject not in known:
                    await self.forget(subject)


def _write(folder: Path, name: str, data: bytes) -> None:
    """A file of this name is whole, and on the disk. Nobody else may list the folders: who knows a subject's
    id may read the submission."""
    for each in (folder.parent, folder):
        each.mkdir(exist_ok=True, mode=0o700)
    part = folder / f"{name}.part"
    with part.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    part.rename(folder / name)
    for each in (folder, folder.parent, folder.parent.parent):
        sync_folder(each)


def _read(path: Path) -> bytes | None:
    with suppress(FileNotFoundError):
        return path.read_bytes()
    return None


def _remove(folder: Path) -> None:
    with suppress(FileNotFoundError):
        shutil.rmtree(folder)


def _subjects(folder: Path) -> list[str]:
    with suppress(FileNotFoundError):
        return os.listdir(folder)
    return []


def _known(db: sqlite3.Connection, ids: list[str]) -> set[str]:
    marks = ",".join("?" * len(ids))
    rows = db.execute(f"SELECT id FROM submissions WHERE id IN ({marks})", ids)  # noqa: S608
    return {id for (id,) in rows}
