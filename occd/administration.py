"""The work of administrators from the command line.

Beside a running daemon, which has locked the data folder, a command goes over the daemon's control socket.
Without a daemon the command opens the data folder itself. The command reaches Redis and RabbitMQ directly in
both cases.
"""

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import trio

from occd.backup import backup, refuse_servers
from occd.broker import Broker, open_broker
from occd.cancelling import cancel, cancel_all
from occd.config import Config
from occd.control import reach
from occd.datafile import refuse_absent, refuse_anothers
from occd.draining import Draining
from occd.errors import (
    DataFolderError,
    OccdError,
    Poisoned,
    Rejected,
    StateUnavailable,
    UnknownSubmission,
)
from occd.key import Issued
from occd.keyring import Keyring, no_key
from occd.model import DeadLetter, Record
from occd.queues import kept_letters, no_letter, requeue
from occd.sqlite import open_database
from occd.state import State, open_state
from occd.web.schema import configured_key_json, key_json, revoked_json
from occd.wholefile import written

T = TypeVar("T")

_LOOK_S = 0.2
_STEP_S = 30.0
_RETRY_AFTER_S = 5


@dataclass(frozen=True, slots=True)
class Administration:
    """The part of a daemon that works for administrators, beside the keys."""

    config: Config
    broker: Broker
    state: State
    draining: Draining = field(default_factory=Draining)
    _requeueing: trio.Lock = field(default_factory=trio.Lock)
    """One at a time: of one letter that is asked for twice one submission is made."""

    async def letters(self) -> list[DeadLetter]:
        return await kept_letters(self.config, self.broker)

    async def requeue(self, id: str) -> str:
        """The id of the new submission. Raises Rejected."""
        with trio.move_on_after(_STEP_S, shield=True):
            try:
                async with self._requeueing:
                    return await requeue(self.config, self.broker, self.state, id)
            except UnknownSubmission as error:
                raise Rejected("unknown-letter", str(error)) from error
            except Poisoned as error:
                raise Rejected("not-kept", str(error)) from error
        raise StateUnavailable("state and broker took too long", _RETRY_AFTER_S)

    async def backup(self) -> AsyncIterator[bytes]:
        """All pieces of a backup. Raises Rejected when none can be made."""
        refuse_servers(self.config)
        assert self.state.backup is not None
        pieces = self.state.backup()
        try:
            first = await anext(pieces)
        except DataFolderError as error:
            raise Rejected("no-backup", str(error)) from error
        return _with(first, pieces)

    async def cancel(self, id: str) -> tuple[Record, bool]:
        """The record, and whether there was anything to cancel. Raises UnknownSubmission."""
        with trio.move_on_after(_STEP_S, shield=True):
            return await cancel(self.state, self.broker, self.config.submission_queue, id)
        raise StateUnavailable("state and broker took too long", _RETRY_AFTER_S)


def drain(config: Config, timeout_s: float, tell: Callable[[int], None]) -> bool:
    """Tell the daemon to take no more, and wait until it has no submission in hand; False when it still has
    some after the time. `tell` is told how many, whenever the number has changed, and 0 at the end."""
    deadline, told = time.monotonic() + timeout_s, 0
    with reach(config) as control:
        if control is None:
            raise _no_daemon(config)
        said = control.ask("POST", "drain")
        while True:
            if not said["draining"]:
                raise OccdError("the drain was undone")
            if said["done"]:
                tell(0)
                return True
            if said["held"] not in (0, told):
                tell(told := said["held"])
            if time.monotonic() >= deadline:
                return False
            time.sleep(_LOOK_S)
            said = control.ask("GET", "drain")


def undo_drain(config: Config) -> None:
    with reach(config) as control:
        if control is None:
            raise _no_daemon(config)
        control.ask("DELETE", "drain")


def _no_daemon(config: Config) -> OccdError:
    return OccdError(
        f"no daemon listens at {config.control_socket}; name the daemon's folder with --data-dir before the "
        "command, or its control.socket"
    )


def make_backup(config: Config, path: Path, *, replace: bool) -> int:
    """Make a backup, which is there when it is whole and on the disk; its size in bytes. Raises OccdError."""
    with written(path, replace=replace) as file, reach(config) as control:
        if control is None:
            refuse_servers(config)
            refuse_absent(config.data_dir)
            trio.run(_copy_folder, config.data_dir, file)
        else:
            for piece in control.read("backup"):
                file.write(piece)
        return file.tell()


async def _copy_folder(folder: Path, file: BinaryIO) -> None:
    async with open_database(folder) as database:
        async for piece in backup(database, folder):
            file.write(piece)


async def _with(first: bytes, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for piece in pieces:
        yield piece


def requeue_letter(config: Config, id: str) -> str:
    """Submit a kept dead letter anew; the new submission's id."""

    async def here() -> str:
        async with _opened(config) as (broker, state):
            return await requeue(config, broker, state, id)

    with reach(config) as control:
        if control is None or _is_remote(config):
            return trio.run(here)
        answer = control.ask("POST", "queues", "kept", id, "requeue", unknown=no_letter(id))
        return str(answer["id"])


def cancel_submission(config: Config, id: str) -> bool:
    """Whether there was anything to cancel."""
    unknown = UnknownSubmission(f"nothing is known of a submission {id} (any more)")

    async def here() -> bool:
        async with _opened(config) as (broker, state):
            try:
                _, cancelled = await cancel(state, broker, config.submission_queue, id)
            except UnknownSubmission:
                raise unknown from None
            return cancelled

    with reach(config) as control:
        if control is None or _is_remote(config):
            return trio.run(here)
        return bool(control.ask("DELETE", "submissions", id, unknown=unknown)["cancelled"])


def list_keys(config: Config) -> list[dict[str, Any]]:
    """As the API lists them."""

    async def here(keyring: Keyring) -> list[dict[str, Any]]:
        listed = config.accounts.keys if config.accounts else ()
        return [*map(configured_key_json, listed), *map(key_json, await keyring.all())]

    with reach(config) as control:
        if control is None or config.redis:
            return _with_keyring(config, here)
        found: list[dict[str, Any]] = control.ask("GET", "keys")["keys"]
        return found


def begins_folder(config: Config) -> bool:
    """Whether a new key would be the first that lies in the data folder."""
    return config.redis is None and not (config.data_dir / "occd.db").exists()


def create_key(
    config: Config, owner: str, class_name: str, scopes: Collection[str], expires_s: float | None
) -> dict[str, Any]:
    """As the API answers it."""
    wanted = {
        "owner": owner,
        "class": class_name,
        "scopes": list(scopes),
        "expires_s": expires_s,
    }
    with reach(config) as control:
        if control is None or config.redis:
            return _with_keyring(
                config,
                lambda keyring: _told(keyring.create(owner, class_name, scopes, expires_s)),
                may_be_new=True,
            )
        return dict(control.ask("POST", "keys", body=wanted))


def rotate_key(config: Config, id: str, keep_s: float) -> dict[str, Any]:
    """As the API answers it."""
    with reach(config) as control:
        if control is None or config.redis:
            return _with_keyring(config, lambda keyring: _told(keyring.rotate(id, keep_s)))
        query = f"?keep_s={keep_s}"
        return dict(control.ask("POST", "keys", id, "rotate", query=query, unknown=no_key(id)))


def revoke_key(config: Config, id: str, *, cancel: bool) -> dict[str, Any]:
    """As the API answers it."""

    async def here(keyring: Keyring) -> dict[str, Any]:
        return revoked_json(id, await keyring.revoke(id, cancel=cancel))

    with reach(config) as control:
        if control is None or config.redis:
            return _with_keyring(config, here)
        query = "?cancel=true" if cancel else ""
        return dict(control.ask("DELETE", "keys", id, query=query, unknown=no_key(id)))


async def _told(issuing: Awaitable[Issued]) -> dict[str, Any]:
    issued = await issuing
    return {"key": issued.secret} | key_json(issued.key)


def _is_remote(config: Config) -> bool:
    """Whether a daemon locks nothing that is needed."""
    return bool(config.rabbitmq and config.redis)


def _with_keyring(
    config: Config, use: Callable[[Keyring], Awaitable[T]], *, may_be_new: bool = False
) -> T:
    async def here() -> T:
        async with AsyncExitStack() as stack:
            database = broker = None
            if config.redis is None:
                (refuse_anothers if may_be_new else refuse_absent)(config.data_dir)
                database = await stack.enter_async_context(open_database(config.data_dir))
                broker = await stack.enter_async_context(open_broker(config, database))
            state = await stack.enter_async_context(open_state(config, database))
            one = partial(cancel, state, broker, config.submission_queue)
            keyring = Keyring(config, state.keys, partial(cancel_all, state.submissions, one))
            return await use(keyring)

    return trio.run(here)


@asynccontextmanager
async def _opened(config: Config) -> AsyncIterator[tuple[Broker, State]]:
    async with AsyncExitStack() as stack:
        database = None
        if not _is_remote(config):
            refuse_absent(config.data_dir)
            database = await stack.enter_async_context(open_database(config.data_dir))
        broker = await stack.enter_async_context(open_broker(config, database))
        yield broker, await stack.enter_async_context(open_state(config, database))
