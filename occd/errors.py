"""Errors on our side. A failure of a client's program is an `Outcome`, never one of these errors.

    OccdError
    ├── ConfigError            the configuration cannot work; the message names the setting
    ├── SandboxUnavailable     no isolation is possible on this machine; `remedy` mends it
    │   └── SeveralFaults      and there are several reasons
    ├── SandboxFailed          a jail could not be made or watched; the attempt may be repeated
    ├── BrokerError
    │   ├── QueueFull          the queue is at its bound; retry after `retry_after_s`
    │   ├── BrokerUnavailable  the server of queues cannot be reached now; retry after `retry_after_s`
    │   ├── MessageTooLarge    the server of queues will never take a message of this size
    │   └── Poisoned           a message that is not ours, or no longer readable
    ├── StateError
    │   ├── UnknownSubmission  nothing is known under this id
    │   ├── UnknownKey         no key of this id was created, or it was revoked
    │   ├── UnknownArtifact    the submission left no such file, or the file is gone
    │   ├── Unreadable         what is stored was damaged, or a later version of occd wrote it
    │   ├── AlreadyFinished    the submission has its result; drop what you were doing
    │   ├── Stale              a later attempt has begun; this one may write no more
    │   ├── Exhausted          all attempts are used up
    │   ├── EventsReset        `after` lies beyond the log: start again at 0
    │   ├── Conflict           the idempotency key was used with another body
    │   ├── NotInteractive     stdin for a submission that takes none, or whose stdin has ended
    │   ├── NoTerminal         a window's size for a program without a terminal
    │   ├── NotRunning         a signal, or a window's size, for a program that does not run now
    │   ├── StdinFull          the program has not read what it was sent; `unread` bytes wait
    │   ├── NodeGone           no process reads the inbox of this node
    │   ├── InboxFull          the node has not read what it was told
    │   └── StateUnavailable   it cannot be reached or takes nothing; retry after `retry_after_s`
    ├── OverBudget
    │   ├── BudgetFull         this process holds as many bytes for strangers as it may; try again
    │   └── ShareFull          this client or connection has used up its share of them
    ├── ProviderAway           the provider at which people sign in does not answer as it should
    ├── QuotaUsedUp            this principal has used what it may; tells which quota and when it frees
    ├── Rejected               the client asked for something that cannot be; lists fields
    └── DataFolderError        the data folder is in use, too new, full, or unusable
        └── DataFileDamaged    what is in its file is not what was written

`occd/web/problems.py` maps those that a client can cause to HTTP statuses and problem types.
"""

import errno
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from occd.quotas import Lack, Quota, whole_seconds


class OccdError(Exception):
    pass


class ConfigError(OccdError):
    pass


class SandboxUnavailable(OccdError):
    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(f"{message}. {remedy}")
        self.message = message
        self.remedy = remedy

    @property
    def each(self) -> Sequence["SandboxUnavailable"]:
        """The faults that were found at once, one by one."""
        return [self]


class SeveralFaults(SandboxUnavailable):
    """A line for each."""

    def __init__(self, faults: Sequence[SandboxUnavailable]) -> None:
        OccdError.__init__(self, "\n".join(map(str, faults)))
        self.message = "; ".join(each.message for each in faults)
        self.remedy = "; ".join(each.remedy for each in faults)
        self._faults = tuple(faults)

    @property
    def each(self) -> Sequence[SandboxUnavailable]:
        return self._faults


class SandboxFailed(OccdError):
    pass


class BrokerError(OccdError):
    pass


class QueueFull(BrokerError):
    def __init__(self, queue: str, retry_after_s: int) -> None:
        super().__init__(f"{queue} is full")
        self.retry_after_s = retry_after_s


class BrokerUnavailable(BrokerError):
    """The message may be in the queue all the same: no confirmation came."""

    def __init__(self, message: str, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class MessageTooLarge(BrokerError):
    pass


class Poisoned(BrokerError):
    pass


class StateError(OccdError):
    pass


class UnknownSubmission(StateError):
    pass


class UnknownKey(StateError):
    pass


class UnknownArtifact(StateError):
    pass


class Unreadable(StateError):
    pass


class AlreadyFinished(StateError):
    pass


class Stale(StateError):
    pass


class Exhausted(StateError):
    def __init__(self, id: str, attempts: int) -> None:
        super().__init__(f"{id} was begun {attempts} times")
        self.attempts = attempts


class EventsReset(StateError):
    pass


class Conflict(StateError):
    pass


class NotInteractive(StateError):
    pass


class NoTerminal(StateError):
    pass


class NotRunning(StateError):
    pass


class StdinFull(StateError):
    def __init__(self, unread: int) -> None:
        super().__init__(f"{unread} bytes of stdin wait to be read by the program")
        self.unread = unread


class NodeGone(StateError):
    pass


class InboxFull(StateError):
    pass


class StateUnavailable(StateError):
    """The message is one line that says what to do about it. Whether the step happened is unknown; it
    can be repeated. `final`: waiting alone will not mend it."""

    def __init__(self, message: str, retry_after_s: int, *, final: bool = False) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.final = final


class OverBudget(OccdError):
    pass


class BudgetFull(OverBudget):
    pass


class ShareFull(OverBudget):
    pass


class QuotaUsedUp(OccdError):
    """`quota` is the one that is used up, `quotas` are all. `retry_after_s` is None when waiting does not
    help."""

    def __init__(self, lack: Lack, quotas: Sequence[Quota]) -> None:
        super().__init__(lack.words)
        self.quota = lack.quota
        self.quotas = tuple(quotas)
        self.retry_after_s = None if lack.wait_s is None else whole_seconds(lack.wait_s)


@dataclass(frozen=True, slots=True)
class FieldError:
    field: str
    message: str


class ProviderAway(OccdError):
    pass


class Rejected(OccdError):
    """`kind` is the stable problem type, `errors` name each field that is wrong."""

    def __init__(self, kind: str, detail: str, errors: Sequence[FieldError] = ()) -> None:
        super().__init__(detail)
        self.kind = kind
        self.errors = tuple(errors)


class DataFolderError(OccdError):
    pass


class DataFileDamaged(DataFolderError):
    pass


def refuse_faults(faults: Sequence[SandboxUnavailable]) -> None:
    """Raises SandboxUnavailable for all of them, if there are any."""
    if faults:
        raise faults[0] if len(faults) == 1 else SeveralFaults(faults)


def leaves(error: BaseException) -> list[BaseException]:
    """The errors of a group, however deep; any other error is the only one."""
    if isinstance(error, BaseExceptionGroup):
        return [leaf for each in error.exceptions for leaf in leaves(each)]
    return [error]


def in_words(error: BaseException) -> str:
    """The errors inside groups, without the groups."""
    return "; ".join(str(each) or type(each).__name__ for each in leaves(error))


def out_of_descriptors(error: BaseException) -> bool:
    """Whether it came of this process, or this machine, having no descriptor left."""
    return any(
        isinstance(each, OSError) and each.errno in (errno.EMFILE, errno.ENFILE)
        for leaf in leaves(error)
        for each in _history(leaf)
    )


def _history(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
