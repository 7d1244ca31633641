"""What a client is told when something goes wrong on our side (`occd/web/problems.py`)."""

import pytest

from occd.errors import BrokerError, BrokerUnavailable, OccdError, QueueFull, Unreadable
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
