"""Quotas: what one principal may use, and the arithmetic of what it has used.

`runs_per_minute`, `cpu_seconds_per_hour` and `cpu_seconds_per_day` are levels. A level rises by what is used,
and sinks evenly, by its limit in its window. A run is admitted when it fits below the limit. Processor time
is known afterwards: a run is admitted while the level is below the limit, and may take it above. Until the
level has sunk below the limit again, nothing is admitted. `stored_bytes` are known afterwards, too. Until
then the most that a submission may store counts, so that those which run together exceed the limit by what
one of them may store, at most.

Both stores do the same arithmetic: SQLite with these functions, Redis in Lua (`state/redis/quotas.py`).
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass, replace

MINUTE_S, HOUR_S, DAY_S = 60.0, 3600.0, 86400.0

LIMIT_MAX = 10**15 - 1
"""The headers `RateLimit` can say no larger number, and each smaller number is exact in Lua."""

LONGEST_S = 100 * 366 * DAY_S
"""No wait is told as longer, so that its end is a time of the calendar."""

ADDRESS = "addr:"
"""Begins the name of a payer that is an address. The name of a network above the address may follow, after a
space: `addr:2001:db8:1:2:: 2001:db8:1::/48`."""

HOUSEHOLDS = 16
"""A network above many addresses may use so many times what one of them may."""

_ENDS_S = 5.0
"""When a submission will end is not known. Ask again after so many seconds."""


@dataclass(frozen=True, slots=True)
class Allowance:
    """The most that one principal may use. None: as much as there is."""

    unfinished: int | None = None
    """Submissions that are queued or run."""
    runs_per_minute: int | None = None
    cpu_seconds_per_hour: float | None = None
    cpu_seconds_per_day: float | None = None
    stored_bytes: int | None = None

    def times(self, count: int) -> "Allowance":
        """At most LIMIT_MAX."""
        each = astuple(self)
        return Allowance(*(one if one is None else min(one * count, LIMIT_MAX) for one in each))


@dataclass(frozen=True, slots=True)
class Payer:
    """Whose quotas are used up, by the name under which they are counted."""

    name: str
    allowance: Allowance

    @property
    def shares(self) -> tuple["Payer", ...]:
        """This payer, and the network above it. Something is admitted when it fits into each, and then uses
        up each."""
        own, *above = records_of(self.name)
        wider = self.allowance.times(HOUSEHOLDS) if above else self.allowance
        return (Payer(own, self.allowance), *(Payer(each, wider) for each in above))


def records_of(payer: str) -> list[str]:
    """The names under which is noted what a payer of this name has used."""
    own, _, above = payer.partition(" ") if payer.startswith(ADDRESS) else (payer, "", "")
    return [own, ADDRESS + above] if above else [own]


@dataclass(frozen=True, slots=True)
class Quota:
    """One quota of a principal, as it is now."""

    name: str
    limit: float
    left: float
    """Below 0 for processor time that is still to be paid."""
    frees_in_s: float | None = None
    """Until a further run frees, or until there is processor time again. None: nothing is used up, or nobody
    knows."""
    window_s: float | None = None


@dataclass(frozen=True, slots=True)
class Lack:
    """Why something is not admitted. `wait_s` is None when it never will be: it is more than the limit."""

    quota: Quota
    wait_s: float | None
    words: str


@dataclass(frozen=True, slots=True)
class Used:
    """What a principal has used, at one moment. `at` and `stored_until` are Unix times."""

    at: float
    unfinished: int = 0
    runs: float = 0.0
    cpu_hour: float = 0.0
    cpu_day: float = 0.0
    stored: int = 0
    reserved: int = 0
    """Bytes that what has not ended may store at most."""
    stored_until: float | None = None
    """When the first of what is stored goes, if the limit is reached."""

    def sunk(self, now: float, allowance: Allowance) -> "Used":
        """What is left of it at a later moment. A clock that was set back changes nothing."""
        passed = max(0.0, now - self.at)
        return replace(
            self,
            at=now,
            runs=_sunk(self.runs, passed, allowance.runs_per_minute, MINUTE_S),
            cpu_hour=_sunk(self.cpu_hour, passed, allowance.cpu_seconds_per_hour, HOUR_S),
            cpu_day=_sunk(self.cpu_day, passed, allowance.cpu_seconds_per_day, DAY_S),
        )

    def empty_at(self, allowance: Allowance) -> float:
        """When all levels have sunk to 0."""
        lasts = (
            _seconds(self.runs, allowance.runs_per_minute, MINUTE_S),
            _seconds(self.cpu_hour, allowance.cpu_seconds_per_hour, HOUR_S),
            _seconds(self.cpu_day, allowance.cpu_seconds_per_day, DAY_S),
        )
        return self.at + max(lasts)

    def quotas(self, allowance: Allowance) -> tuple[Quota, ...]:
        """Those that the allowance limits."""
        found = []
        if (most := allowance.unfinished) is not None:
            found.append(Quota("unfinished", most, most - self.unfinished))
        if (most := allowance.runs_per_minute) is not None:
            left = math.floor(most - self.runs)
            frees = _seconds(self.runs - (most - left - 1), most, MINUTE_S) if left < most else None
            found.append(Quota("runs_per_minute", most, left, frees, MINUTE_S))
        for name, limit, used, window in (
            ("cpu_seconds_per_hour", allowance.cpu_seconds_per_hour, self.cpu_hour, HOUR_S),
            ("cpu_seconds_per_day", allowance.cpu_seconds_per_day, self.cpu_day, DAY_S),
        ):
            if limit is not None:
                frees = _seconds(used - limit, limit, window) if used >= limit else None
                found.append(Quota(name, limit, limit - used, frees, window))
        if (most := allowance.stored_bytes) is not None:
            full = self.stored >= most and self.stored_until is not None
            frees = max(0.0, (self.stored_until or 0.0) - self.at) if full else None
            found.append(Quota("stored_bytes", most, most - self.stored - self.reserved, frees))
        return tuple(found)

    def lack(self, allowance: Allowance, count: int, others: int = 0) -> Lack | None:
        """Why `count` further submissions are not admitted: of several reasons the one that lasts longest.
        `others` are the bytes that all of them but one may store at most."""
        found = [
            lack for quota in self.quotas(allowance) for lack in self._lacks(quota, count, others)
        ]
        return max(
            found, key=lambda each: math.inf if each.wait_s is None else each.wait_s, default=None
        )

    def _lacks(self, quota: Quota, count: int, others: int) -> Iterator[Lack]:
        name, limit = quota.name, quota.limit
        if count > limit and name in ("unfinished", "runs_per_minute"):
            yield Lack(quota, None, f"{name}: {count} at once are more than the limit of {limit}")
        elif name == "unfinished":
            if self.unfinished + count > limit:
                words = f"{self.unfinished} of {limit} have not finished; wait for one to end"
                yield Lack(quota, _ENDS_S, f"{name}: {words}")
        elif name == "runs_per_minute":
            if self.runs + count > limit:
                wait = _seconds(self.runs + count - limit, limit, MINUTE_S)
                yield Lack(quota, wait, f"{name}: {quota.left} of {limit} are left; {_again(wait)}")
        elif name == "stored_bytes":
            if others >= limit:
                words = f"{count} at once may store more than the limit of {limit} bytes"
                yield Lack(quota, None, f"{name}: {words}")
            elif self.stored >= limit:
                words = f"{self.stored} of {limit} bytes are kept; erase some"
                wait = quota.frees_in_s or 0.0
                yield Lack(quota, wait, f"{name}: {words}, or {_again(wait)}")
            elif quota.left <= others:
                unfinished = f"what has not finished may store {self.reserved} more"
                words = f"{self.stored} of {limit} bytes are kept, and {unfinished}"
                yield Lack(quota, _ENDS_S, f"{name}: {words}; wait for one to end")
        elif quota.frees_in_s is not None:
            words = f"all of the {limit:g} s are used up; {_again(quota.frees_in_s)}"
            yield Lack(quota, quota.frees_in_s, f"{name}: {words}")


def quotas_of(shares: Sequence[tuple[Payer, Used]]) -> tuple[Quota, ...]:
    """Of each quota the one of which least is left."""
    if len(shares) == 1:
        share, used = shares[0]
        return used.quotas(share.allowance)
    each = [used.quotas(share.allowance) for share, used in shares]
    return tuple(min(same, key=lambda quota: quota.left) for same in zip(*each, strict=True))


def lack_of(shares: Sequence[tuple[Payer, Used]], stores: Sequence[int]) -> Lack | None:
    """Why further submissions are not admitted. `stores` are the bytes that each may store at most."""
    count, others = len(stores), sum(stores) - max(stores)
    for number, (share, used) in enumerate(shares):
        if lack := used.lack(share.allowance, count, others):
            network = f" (all of {share.name.removeprefix(ADDRESS)} together)" if number else ""
            return replace(lack, words=lack.words + network)
    return None


def _sunk(used: float, passed: float, limit: float | None, window: float) -> float:
    return max(0.0, used - passed * limit / window) if limit else 0.0


def _seconds(used: float, limit: float | None, window: float) -> float:
    """Until a level has sunk by so much."""
    return min(max(0.0, used) * window / limit, LONGEST_S) if limit else 0.0


def _again(wait: float) -> str:
    return f"try again in {whole_seconds(wait)} s"


def whole_seconds(wait: float) -> int:
    """At least 1: nobody is to ask again at once."""
    return max(1, math.ceil(wait))
