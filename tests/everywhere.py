"""A real daemon over each kind of sandbox: what its clients see is the same, or `places.toml` tells."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest
from engine import Reached
from places import RUNTIMES, Place
from serving import API, Server, serving
from shared_engine import IMAGE


def at(*places: Place, **more: Any) -> list[Any]:
    """Parameters of a fixture `server`. `more` may have marks."""
    return [pytest.param(place, id=f"@{place}", **more) for place in places]


EVERYWHERE: Sequence[Any] = at("nsjail", "docker", "gvisor")
EVERYWHERE_IN_ALL: Sequence[Any] = [*at("nsjail"), *at("docker", "gvisor", marks=pytest.mark.long)]
"""`make test` tries them with nsjail alone, and `make test-all` everywhere."""


@contextmanager
def serving_at(
    request: pytest.FixtureRequest, data_dir: Path, place: Place, **settings: Any
) -> Iterator[Server]:
    if place in RUNTIMES:
        engine = cast(Reached, request.getfixturevalue("docker_engine"))
        settings |= {
            "sandbox__kind": "docker",
            "sandbox__host": engine.host,
            "sandbox__images": f'["{IMAGE.removeprefix("occd/")}"]',
        }
        if runtime := RUNTIMES[place]:
            settings["sandbox__runtime"] = runtime
    with serving(data_dir, **settings) as server:
        yield server


def may_lack(server: Server, language: str) -> bool:
    """Whether it is missing in an image of the tests, which has few. This machine has all."""
    found = server.get(f"{API}/languages").json()["languages"]
    has_image = "own-root" in server.get("/readyz").json()["sandbox"]["holds"]
    return has_image and language not in {each["id"] for each in found}
