"""The dashboards are what Grafana reads, as far as that can be known without Grafana: its image cannot be had
here. The model is of Grafana's own library. `tests/test_alerts.py` has Prometheus run each query."""

import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from grafana_foundation_sdk.cog import encoder, plugins
from grafana_foundation_sdk.models.dashboard import Dashboard
from packaged import PACKAGING

ROOT = Path(__file__).parent.parent
BOARDS = {
    path.stem: json.loads(path.read_text()) for path in (PACKAGING / "grafana").glob("*.json")
}
VARIABLES = {"datasource", "job", "instance", "__rate_interval"}


def test_there_are_three() -> None:
    assert set(BOARDS) == {"occd-overview", "occd-node", "occd-queue"}


def lost(given: Any, read: Any, at: str = "") -> Iterator[str]:
    """What Grafana's model did not take over."""
    if isinstance(given, dict) and isinstance(read, dict):
        for name, value in given.items():
            yield from lost(value, read.get(name, "nothing"), f"{at}.{name}")
    elif isinstance(given, list) and isinstance(read, list) and len(given) == len(read):
        for number, (one, other) in enumerate(zip(given, read, strict=True)):
            yield from lost(one, other, f"{at}.{number}")
    elif given != read:
        yield f"{at}: {read!r} for {given!r}"


def read(board: dict[str, Any]) -> dict[str, Any]:
    plugins.register_default_plugins()
    text = encoder.JSONEncoder(sort_keys=True).encode(Dashboard.from_json(board))
    found: dict[str, Any] = json.loads(text)
    return found


@pytest.mark.parametrize("name", BOARDS)
def test_grafanas_model_knows_every_field(name: str) -> None:
    assert list(lost(BOARDS[name], read(BOARDS[name]))) == []


def test_a_field_that_the_model_does_not_know_is_found() -> None:
    board = json.loads(json.dumps(BOARDS["occd-queue"]))
    board["panels"][0]["targets"][0]["expression"] = "up"
    assert list(lost(board, read(board))) == [".panels.0.targets.0.expression: 'nothing' for 'up'"]


@pytest.mark.parametrize("name", BOARDS)
def test_a_board_has_what_grafana_needs(name: str) -> None:
    board = BOARDS[name]
    assert board["uid"] == name
    assert board["schemaVersion"] == 38
    assert board["title"].startswith("occd: ")
    variables = {each["name"] for each in board["templating"]["list"]}
    assert {"datasource", "job"} <= variables <= VARIABLES
    assert len({each["id"] for each in board["panels"]}) == len(board["panels"])
    for panel in board["panels"]:
        assert panel["title"]
        assert panel["type"] in {"stat", "timeseries"}
        assert len({each["refId"] for each in panel["targets"]}) == len(panel["targets"]) > 0
        for each in (panel, *panel["targets"]):
            assert each["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        used = {name for each in panel["targets"] for name in re.findall(r"\$(\w+)", each["expr"])}
        assert used <= variables | {"__rate_interval"}


@pytest.mark.parametrize("name", BOARDS)
def test_no_panel_lies_on_another(name: str) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in BOARDS[name]["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        here = set(
            itertools.product(range(at["x"], at["x"] + at["w"]), range(at["y"], at["y"] + at["h"]))
        )
        assert not here & taken, panel["title"]
        taken |= here


def test_each_metric_is_on_a_board_or_in_an_alert() -> None:
    """What nobody looks at need not be measured."""
    names = re.findall(r"^\| `(occd_\w+)` \|", (ROOT / "docs/metrics.md").read_text(), re.MULTILINE)
    shown = "".join(
        path.read_text()
        for folder in ("grafana", "prometheus")
        for path in (PACKAGING / folder).iterdir()
    )
    assert [name for name in names if name not in shown] == []
