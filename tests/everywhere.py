"""A real daemon over each kind of sandbox: what its clients see is the same, or `places.toml` tells."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, cast

import pytest
from engine import Reached
from places import Place, sandbox_of, serving_as
from serving import API, Server


def at(*places: Place, **more: Any) -> list[Any]:
    """Parameters of a fixture `server`. `more` may have marks."""
    return [pytest.param(place, id=f"@{place}", **more) for place in places]


EVERYWHERE_IN_ALL: Sequence[Any] = [*at("nsjail"), *at("docker", "gvisor", marks=pytest.mark.long)]
"""`make test` tries them with nsjail alone, and `make test-all` everywhere."""


def serving_at(
    request: pytest.FixtureRequest, data_dir: Path, place: Place, **settings: Any
) -> AbstractContextManager[Server]:
    def engine() -> Reached:
        return cast(Reached, request.getfixturevalue("docker_engine"))

    return serving_as(sandbox_of(place, engine, None), data_dir, **settings)


def may_lack(server: Server, language: str) -> bool:
    """Whether it is missing in an image of the tests, which has few. This machine has all."""
    found = server.get(f"{API}/languages").json()["languages"]
    has_image = "own-root" in server.get("/readyz").json()["sandbox"]["holds"]
    return has_image and language not in {each["id"] for each in found}
