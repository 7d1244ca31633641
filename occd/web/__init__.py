"""The HTTP and WebSocket edge. It knows no broker, state or sandbox: roles hand it services."""

from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Protocol

from occd.events import LogEntry
from occd.key import Issued, Key, Revoked
from occd.languages.installed import Offer
from occd.model import Accepted, DeadLetter, Record, Status, Submission, Summary, Terminal
from occd.principal import Principal
from occd.quotas import Quota
from occd.request import Request


class EventService(Protocol):
    """What is needed to follow a submission: each role whose clients follow has it."""

    async def get(self, id: str) -> Record: ...

    async def watch(self, id: str, after: int) -> Sequence[LogEntry]: ...

    def following(self, id: str) -> AbstractContextManager[None]:
        """A follower enters this, and counts as present while inside."""


class SubmitService(Protocol):
    """The calls that the API makes to the role submit."""

    async def submit(
        self, request: Request, principal: Principal, *, key: str | None, digest: str
    ) -> Accepted: ...

    async def admit(self, request: Request, principal: Principal) -> Submission: ...

    async def accept(
        self, submission: Submission, principal: Principal, *, key: str | None, digest: str
    ) -> Accepted: ...

    def taking(self) -> AbstractContextManager[None]:
        """Around `admit` and all of `accept` in one request."""

    def reserving(
        self, submissions: Sequence[Submission], principal: Principal, keys: Sequence[str | None]
    ) -> AbstractAsyncContextManager[None]:
        """The quotas of all of these, which are accepted inside, or of none: raises QuotaUsedUp."""

    async def quotas(self, principal: Principal) -> Sequence[Quota]: ...

    async def rerun(self, id: str, principal: Principal, *, key: str | None) -> Accepted: ...

    async def erase(self, id: str, principal: Principal) -> None: ...

    async def get(self, id: str, output_max: int = 0) -> Record: ...

    async def entries(self, id: str, after: int, bytes_max: int) -> Sequence[LogEntry]:
        """Events behind `after`, in order: about `bytes_max` and at least one, if there are any."""

    async def watch(self, id: str, after: int) -> Sequence[LogEntry]: ...

    def following(self, id: str) -> AbstractContextManager[None]: ...

    async def blob(self, id: str, sha256: str) -> bytes | None:
        """Bytes that belong to a submission; None when they are gone."""

    async def owned(self, owner: str, before: str | None, limit: int) -> Sequence[Summary]: ...

    async def settled(self, id: str, output_max: int = 0) -> Record: ...

    async def cancel(self, id: str, output_max: int = 0) -> tuple[Record, bool]:
        """The record, and whether there was anything to cancel."""

    async def languages(self) -> Sequence[Offer]:
        """The languages that some node can run now."""


class FollowService(Protocol):
    """The calls that a WebSocket and a stream of events make to the role ws."""

    async def submit(
        self, request: Request, principal: Principal, *, key: str | None, digest: str
    ) -> Accepted: ...

    async def get(self, id: str) -> Record: ...

    async def status(self, id: str) -> Status:
        """Raises UnknownSubmission."""

    async def entries(self, id: str, after: int) -> Sequence[LogEntry]: ...

    async def watch(self, id: str, after: int) -> Sequence[LogEntry]: ...

    def following(self, id: str) -> AbstractContextManager[None]: ...

    async def send_stdin(
        self, id: str, data: bytes, offset: int | None, *, end: bool, writer: str
    ) -> None: ...

    async def send_signal(self, id: str, signal: str) -> None: ...

    async def send_resize(self, id: str, window: Terminal) -> None: ...

    async def cancel(self, id: str) -> None: ...

    def connected(self) -> AbstractContextManager[None]:
        """While a connection is there; it is counted."""


class KeyService(Protocol):
    """The keys that were created, for administrators. Raises UnknownKey, Rejected, StateUnavailable, or
    DataFolderError."""

    async def all(self) -> Sequence[Key]: ...

    async def create(
        self, owner: str, class_name: str, scopes: Collection[str], expires_s: float | None
    ) -> Issued: ...

    async def rotate(self, id: str, keep_s: float) -> Issued: ...

    async def revoke(self, id: str, *, cancel: bool) -> Revoked: ...


class Draining(Protocol):
    """Whether this process takes no more."""

    @property
    def on(self) -> bool: ...

    @property
    def held(self) -> int:
        """How many submissions this process has in hand."""

    @property
    def done(self) -> bool:
        """Whether it has none, and none may come any more."""

    def tell(self, *, on: bool) -> None: ...


class AdminService(Protocol):
    @property
    def draining(self) -> Draining: ...

    async def letters(self) -> Sequence[DeadLetter]:
        """The dead letters that are kept."""

    async def requeue(self, id: str) -> str:
        """Submit a kept dead letter anew; the new submission's id. Raises Rejected."""

    async def cancel(self, id: str) -> tuple[Record, bool]:
        """The record, and whether there was anything to cancel. Raises UnknownSubmission."""

    async def backup(self) -> AsyncIterator[bytes]:
        """All pieces of a backup. Raises Rejected when none can be made."""


class Health(Protocol):
    @property
    def holds(self) -> Sequence[str] | None:
        """The properties of this process's sandbox (`levels.py`); None where it runs no programs."""

    async def problems(self) -> list[str]:
        """Why a job would not run now, with what mends it; empty when one would."""

    async def warnings(self) -> list[str]:
        """Settings that would lose submissions in a disaster, although a job would run now."""


class StatusService(Protocol):
    async def status(self, *, whole: bool) -> bytes:
        """What goes on in the server, in JSON, at most a second old. `whole`: with each node."""
