"""What the tests of a submission earn together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import fsum

from occd.judging import Group, Judging, TestVerdict


@dataclass(frozen=True, slots=True)
class Score:
    """`share` is between 0 and 1."""

    share: float
    points_max: float

    @property
    def points(self) -> float:
        return self.share * self.points_max


@dataclass(frozen=True, slots=True)
class Earned:
    total: Score
    groups: Mapping[str, Score]


@dataclass(frozen=True, slots=True)
class _Part:
    """A test or a group, as what holds it sees it."""

    score: Score
    accepted: bool


def earned(
    judging: Judging, verdicts: Sequence[TestVerdict], shares: Mapping[int, float]
) -> Earned:
    """`verdicts` are those of all tests, in their order. `shares` are what checkers gave, by index, above
    0 and up to 1. An accepted test without a share earns all, and any other test earns nothing."""
    inside: dict[str | None, list[_Part]] = {None: []}
    for at, (test, verdict) in enumerate(zip(judging.tests, verdicts, strict=True)):
        accepted = verdict == TestVerdict.ACCEPTED
        share = shares.get(at, 1.0) if accepted else 0.0
        inside.setdefault(test.group, []).append(_Part(Score(share, test.weight), accepted))
    scores: dict[str, Score] = {}
    paths = judging.paths
    for group in sorted(judging.groups, key=lambda each: len(paths[each.name]), reverse=True):
        parts = inside[group.name]
        accepted = all(part.accepted for part in parts)
        scores[group.name] = Score(_share(group, parts, accepted), group.points)
        inside.setdefault(group.group, []).append(_Part(scores[group.name], accepted))
    whole = [part.score for part in inside[None]]
    total = Score(_sum(whole), fsum(score.points_max for score in whole))
    return Earned(total, {group.name: scores[group.name] for group in judging.groups})


def _share(group: Group, parts: list[_Part], accepted: bool) -> float:
    match group.rule:
        case "sum":
            return _sum([part.score for part in parts])
        case "min":
            return min(part.score.share for part in parts)
        case "all":
            return float(accepted)


def _sum(scores: list[Score]) -> float:
    """By weight. Rounding does not depend on the order, and nothing exceeds 1."""
    most = fsum(score.points_max for score in scores)
    return fsum(score.points for score in scores) / most if most else 0.0
