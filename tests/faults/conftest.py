"""Programs that once failed. Each `.json` in this folder is the body of a POST to /submissions, sent to a
real daemon; a test says what is right. Programs that can disturb the whole machine run in the virtual
machine only (`tests/vm`)."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from serving import Server, serving

Run = Callable[..., dict[str, Any]]


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("faults") / "data") as server:
        yield server


@pytest.fixture
def run_fault(server: Server) -> Run:
    """The result of the program of that name. Further arguments replace fields of the submission."""

    def run(name: str, **changes: Any) -> dict[str, Any]:
        body = json.loads((Path(__file__).parent / f"{name}.json").read_text()) | changes
        answer = server.post(body)
        assert answer.status == 202, answer.body
        return server.result(answer.json()["id"])

    return run
