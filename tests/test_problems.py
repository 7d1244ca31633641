"""What a client is told when something goes wrong on our side (`occd/web/problems.py`)."""

import re
from pathlib import Path

import pytest

from occd.errors import BrokerError, BrokerUnavailable, OccdError, QueueFull, Unreadable
from occd.web import problems
from occd.web.problems import problem_of


@pytest.mark.parametrize(
    ("error", "retry_after"),
    [
        (BrokerError("RabbitMQ refuses: NOT_FOUND"), 5),
        (BrokerUnavailable("it is away", 7), 7),
        (QueueFull("submission_queue", 3), 3),
    ],
)
def test_where_waiting_helps_a_client_is_told_how_long(error: OccdError, retry_after: int) -> None:
    problem = problem_of(error)
    assert (problem.status, problem.retry_after) == (503, retry_after)


def test_where_waiting_does_not_help_nobody_is_told_to_wait() -> None:
    problem = problem_of(Unreadable("submission.id"))
    assert (problem.status, problem.type, problem.retry_after) == (500, "unreadable", None)


def test_the_page_about_the_api_lists_every_type() -> None:
    page = Path(__file__).parent.parent.joinpath("docs", "api.md").read_text()
    listed = set(re.findall(r"`([a-z-]+)`", page.partition("## Problem types")[2]))
    known = {kind for _, kind, _ in problems._TABLE.values()} | problems._REJECTED.keys()
    assert known <= listed
