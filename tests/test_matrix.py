"""Every promise and every attack in every place. The table is printed, and is as `places.toml` says."""

import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
from apart_places import tried
from engine import Reached
from places import PLACES, Outcome, Place, known_rows

# A place takes an hour on a machine that does nothing else, and whose memory is slow.
pytestmark = [pytest.mark.long, pytest.mark.timeout(3 * 3600)]

_WORDS: dict[Outcome, str] = {
    "held": "held",
    "not_applicable": "-",
    "not_held": "NOT HELD",
    "failed": "FAILED",
}
_WORST: tuple[Outcome, ...] = ("failed", "not_held", "held", "not_applicable")
_MACHINES_OWN: tuple[Place, ...] = ("nsjail", "nsjail-user")
"""Here programs see the machine's files, which have all languages."""
_TRIED: dict[Place, dict[str, Outcome]] = {}


@pytest.mark.parametrize("where", PLACES)
def test_a_place_is_as_the_table_says(docker_engine: Reached, where: Place) -> None:
    with tempfile.TemporaryDirectory() as folder:
        image = None if where in _MACHINES_OWN else "debian-12"
        outcomes, said = tried(where, docker_engine, Path(folder), image=image)
    _TRIED[where] = outcomes
    assert "held" in outcomes.values(), said[-5000:]
    failed = [name for name, outcome in outcomes.items() if outcome == "failed"]
    assert not failed, "\n".join([*failed, said[-20000:]])
    for row in known_rows():
        if where in row.places:
            assert any(row.names(name, where) for name in outcomes), (
                f"this row names no test: {row}"
            )


def test_the_table_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """After the places were tried, and also of those that are not as the table says."""
    with capsys.disabled():
        print("", *_table(), sep="\n")
    assert set(_TRIED) == set(PLACES)


def _table() -> Iterator[str]:
    """A line for each test, whatever its parameters. What differs among them is told by its worst."""
    lines: dict[str, dict[Place, set[Outcome]]] = defaultdict(lambda: defaultdict(set))
    notes: dict[tuple[str, str], int] = {}
    for place, outcomes in _TRIED.items():
        for name, outcome in outcomes.items():
            lines[name.partition("[")[0]][place].add(outcome)
    width = max(map(len, lines), default=0)
    yield "  ".join([" " * width, *(f"{place:16}" for place in _TRIED)])
    for line, found in sorted(lines.items()):
        cells = []
        for place in _TRIED:
            worst: Outcome = next(
                (each for each in _WORST if each in found[place]), "not_applicable"
            )
            numbers = {
                notes.setdefault((row.kind, row.why), len(notes) + 1)
                for row in known_rows()
                for name in _TRIED[place]
                if name.partition("[")[0] == line and row.names(name, place)
            }
            cells.append(
                f"{' '.join([_WORDS[worst], *(f'({each})' for each in sorted(numbers))]):16}"
            )
        yield "  ".join([f"{line:{width}}", *cells])
    yield ""
    for (kind, why), number in notes.items():
        yield f"({number}) {kind.replace('_', ' ')}: {why}"
