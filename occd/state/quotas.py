"""What a finished submission costs its payer."""

from dataclasses import dataclass

from occd.model import Result

LEFT_S = 120.0
"""A member of a payer's record whose submission is not known is removed when it is so old: it may be about to
be created before."""


@dataclass(frozen=True, slots=True)
class Cost:
    cpu_s: float
    stored: int
    """Bytes of output and files. The submission itself comes on top."""
    until: float
    """When these bytes go by themselves, as a Unix time."""


def cost_of(result: Result, keep_s: float) -> Cost:
    """Of a result that an older version made, the tests and checkers cost nothing."""
    spent, left = result.spent, result.artifacts
    if spent is None:
        outcomes = result.outcomes.values()
        cpu_s = sum(each.cpu_time for each in outcomes)
        output = sum(each.stdout.size + each.stderr.size for each in outcomes)
    else:
        cpu_s, output = spent.cpu_time, spent.output
    files = sum(each.size for each in left.kept) if left else 0
    files += result.trace.stored if result.trace else 0
    return Cost(cpu_s, output + files, result.finished_at + keep_s)
