"""How a program ended."""

from occd.model import LimitName, Outcome, Written


def ended(
    exit_code: int | None = 0, *, signal: str | None = None, limit: LimitName | None = None
) -> Outcome:
    return Outcome(None if signal else exit_code, signal, limit, Written(), Written(), 0.0, 0.0, 0)
