"""The output of one step on its way: to the log, which may take only its beginning, and whole to whoever
checks it."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from occd.execution.eventlog import EventLog
from occd.execution.tail import Tail
from occd.model import ACCOUNTS, Account, Outcome, Step, Stream, account_of
from occd.utf8 import unfinished

Said = tuple[tuple[Stream, bytes], ...]
"""Pieces of output, in their order: neighbours are of different streams."""


class Recorder:
    def __init__(
        self,
        log: EventLog,
        step: Step,
        log_max: int | None,
        *,
        keep: bool = False,
        keep_said: bool = False,
    ) -> None:
        """The log gets at most `log_max` bytes of each stream, None for all. `keep`: all of stdout is kept
        in memory. `keep_said`: all output is, in its order."""
        self._log = log
        self._step = step
        self._log_max = log_max
        self._keep = keep
        self._keep_said = keep_said
        self._said: list[tuple[Stream, bytearray]] = []
        self._tail = Tail()
        self._logged: dict[Account, int] = dict.fromkeys(ACCOUNTS, 0)
        self._cut: set[Account] = set()
        self.stdout = bytearray()

    def told(self, stream: Stream) -> Callable[[bytes], None]:
        """Takes each piece of a stream."""
        return partial(self._take, stream)

    @property
    def said(self) -> Said:
        return tuple((stream, bytes(piece)) for stream, piece in self._said)

    @property
    def end_of_stderr(self) -> str:
        return self._tail.text

    @property
    def logged(self) -> int:
        """In bytes, of both streams."""
        return sum(self._logged.values())

    def accounted(self, outcome: Outcome) -> Outcome:
        """The outcome, which counts what the log has."""
        if not self._cut:
            return outcome
        changed = {}
        for account in self._cut:
            written = outcome.written(account)
            changed[account] = replace(
                written, size=self._logged[account], truncated=True, head=b""
            )
        return replace(
            outcome,
            stdout=changed.get("stdout", outcome.stdout),
            stderr=changed.get("stderr", outcome.stderr),
        )

    def _take(self, stream: Stream, data: bytes) -> None:
        self._tail.add(stream, data)
        if self._keep_said:
            if not self._said or self._said[-1][0] != stream:
                self._said.append((stream, bytearray()))
            self._said[-1][1].extend(data)
        account = account_of(stream)
        if self._keep and account == "stdout":
            self.stdout += data
        if account in self._cut:
            return
        if self._log_max is not None and self._logged[account] + len(data) > self._log_max:
            self._cut.add(account)
            data = data[: self._log_max - self._logged[account]]
            data = data[: len(data) - unfinished(data)]
        self._logged[account] += len(data)
        if data:
            self._log.emit(self._step, stream, data)
