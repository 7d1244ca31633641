"""Real daemons, and many clients at once: never one more than a quota admits."""

import json
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from rabbitmq_server import shared
from redis_server import shared_redis
from serving import API, Answer, Server, serving

from occd import wire
from occd.config import Config
from occd.execution.storing import most_stored
from occd.languages.loading import load_languages
from occd.model import Submission

CLIENTS, SECONDS = 50, 3.0
LIMIT = 10


def accounts(**limits: float) -> str:
    classes = {"visitor": limits}
    value = {"anonymous": {"class": "visitor"}, "default_class": "visitor", "classes": classes}
    return json.dumps(value)


def apart(folder: Path, stack: ExitStack, limits: str, **more: Any) -> list[Server]:
    """Two submit nodes on one RabbitMQ and one Redis. Nothing runs what they accept."""
    common: dict[str, Any] = {
        "accounts": limits,
        "languages": '["python"]',
        "rabbitmq__url": shared().add_vhost(),
        "redis__url": shared_redis().url,
        "redis__prefix": f"at-once-{uuid4().hex[:8]}",
    }
    return [
        stack.enter_context(serving(folder / name, roles="submit", node=name, **common, **more))
        for name in ("one", "two")
    ]


def embedded(folder: Path, stack: ExitStack, limits: str, **more: Any) -> list[Server]:
    return [stack.enter_context(serving(folder / "one", accounts=limits, **more))]


@pytest.fixture(params=[embedded, apart], ids=lambda made: made.__name__)
def nodes(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Sequence[Server]]:
    limits = accounts(runs_per_minute=LIMIT, unfinished=1000)
    with ExitStack() as stack:
        yield request.param(tmp_path, stack, limits)


def left(server: Server, quota: str) -> float:
    found: float = server.get(f"{API}/me").json()["quotas"][quota]["left"]
    return found


def test_fifty_clients_at_once_get_what_the_bucket_has_and_not_one_more(
    nodes: Sequence[Server],
) -> None:
    """What they say of their address changes nothing: there is no trusted proxy."""
    statuses: Counter[int] = Counter()
    counting, ready = threading.Lock(), threading.Barrier(CLIENTS + 1)

    def storm(number: int) -> None:
        server, until = nodes[number % len(nodes)], time.monotonic() + SECONDS
        ready.wait()
        turn = 0
        while not turn or time.monotonic() < until:
            turn += 1
            forwarded = f"192.0.2.{number}, 198.51.100.{turn % 256}"
            answer = server.post(
                {"language": "python", "source": "print(1)"}, x_forwarded_for=forwarded
            )
            with counting:
                statuses[answer.status] += 1

    threads = [threading.Thread(target=storm, args=[number]) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    began = time.monotonic()
    ready.wait()
    for thread in threads:
        thread.join()
    took = time.monotonic() - began
    assert statuses.keys() == {202, 429}
    assert LIMIT <= statuses[202] <= LIMIT + took * LIMIT / 60
    assert statuses[429] >= CLIENTS - LIMIT


@pytest.mark.parametrize("made", [embedded, apart], ids=lambda made: made.__name__)
def test_a_site_of_ipv6_gets_what_sixteen_households_may_and_not_one_more(
    made: Any, tmp_path: Path
) -> None:
    """Each call comes from another /64 of one /48, by the word of a trusted proxy."""
    statuses: Counter[int] = Counter()
    counting = threading.Lock()
    limits = accounts(runs_per_minute=2, unfinished=1000)
    with ExitStack() as stack:
        nodes = made(tmp_path, stack, limits, trusted_proxies="127.0.0.0/8")
        began = time.monotonic()

        def storm(number: int) -> None:
            for turn in range(10):
                server = nodes[(number + turn) % len(nodes)]
                answer = server.post(
                    {"language": "python", "source": "print(1)"},
                    x_forwarded_for=f"2001:db8:7:{number:x}{turn:02x}::{turn}",
                )
                with counting:
                    statuses[answer.status] += 1

        threads = [threading.Thread(target=storm, args=[number]) for number in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        took = time.monotonic() - began
        neighbour = {"x_forwarded_for": "2001:db8:8::1"}
        assert nodes[0].post({"language": "python", "source": "1"}, **neighbour).status == 202
        told = nodes[0].get(f"{API}/me", x_forwarded_for="2001:db8:7:ffff::1").json()["quotas"]
    assert statuses.keys() == {202, 429}
    assert 32 <= statuses[202] <= 32 + took * 32 / 60
    assert told["runs_per_minute"]["limit"] == 32


def test_a_full_queue_takes_nothing(tmp_path: Path) -> None:
    limits = accounts(unfinished=1000, runs_per_minute=1000)
    with ExitStack() as stack:
        one, two = apart(tmp_path, stack, limits, queue__length_max="3")
        statuses = Counter(
            server.post({"language": "python", "source": "1"}).status
            for _ in range(20)
            for server in (one, two)
        )
        assert statuses.keys() == {202, 503}
        assert left(one, "unfinished") == left(two, "unfinished") == 1000 - statuses[202]
        assert left(one, "runs_per_minute") >= 1000 - statuses[202]


def test_what_is_under_way_stores_no_more_than_the_limit_together(tmp_path: Path) -> None:
    """All that came at once passed together before. Each stream has 1 MiB, and nothing runs."""
    answers: list[Answer] = []
    body = {"language": "python", "source": "print(1)"}
    with ExitStack() as stack:
        nodes = apart(tmp_path, stack, accounts(stored_bytes=10 * 2**20))
        threads = [
            threading.Thread(
                target=lambda number=number: answers.append(nodes[number % 2].post(body))
            )
            for number in range(20)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        refused = [each.json() for each in answers if each.status != 202]
        assert {each["quota"]["name"] for each in refused} == {"stored_bytes"}
        assert {each["retry_after"] for each in refused} == {5}
        assert len(refused) == 15
        for each in answers:
            if each.status == 202:
                nodes[0].request("DELETE", f"{API}/submissions/{each.json()['id']}")
        assert 10 * 2**20 - 5000 < left(nodes[1], "stored_bytes") < 10 * 2**20


@pytest.mark.parametrize(
    "program",
    [
        {"source": "import os; os.write(1, b'x' * 2**21); os.write(2, b'x' * 2**21)"},
        {"source": "import os; os.write(2, b'x' * 2**20); os.write(1, b'x' * 2**21)"},
        {"source": "open('a', 'w').write('x' * 2**20)", "artifacts": ["a"]},
        {
            "source": "print('x' * 2**20)",
            "tests": [{"stdin": "1", "expected_stdout": "2"} for _ in range(20)],
        },
        {"language": "c", "source": "wrong " * 10_000},
    ],
)
def test_nothing_stores_more_than_was_reserved(tmp_path: Path, program: dict[str, Any]) -> None:
    limit = 2**30
    with serving(tmp_path / "data", accounts=accounts(stored_bytes=limit)) as server:
        asked = {"language": "python"} | program
        id = server.post(asked).json()["id"]
        least = left(server, "stored_bytes")
        if server.look(id)["status"] != "finished":
            assert limit - least > 2**20
            server.result(id)
        submission = submitted(server, id)
        language = load_languages()[submission.language]
        most = most_stored(submission, language, Config())
        assert 0 < limit - left(server, "stored_bytes") <= most


def submitted(server: Server, id: str) -> Submission:
    with closing(sqlite3.connect(server.data_dir / "occd.db", timeout=10)) as db:
        (body,) = db.execute("SELECT body FROM submissions WHERE id = ?", [id]).fetchone()
    return wire.decode_submission(body)
