"""Readiness: cheap to ask for, however many ask."""

from typing import Any

import trio

from occd.draining import Draining
from occd.errors import BrokerError
from occd.health import Health


class Counted:
    """A broker, or a state, that counts how often it is checked."""

    def __init__(self, problem: str | None = None) -> None:
        self.checks = 0
        self.problem = problem
        self.store = self  # where a state is checked

    async def check(self) -> None:
        self.checks += 1
        await trio.sleep(0.1)
        if self.problem:
            raise BrokerError(self.problem)


async def test_many_who_ask_at_once_share_a_check() -> None:
    broker, state = Counted("the queue is away"), Counted()
    answers: list[list[str]] = []
    health = Health(_any(broker), _any(state), None, None, Draining())

    async def ask() -> None:
        answers.append(await health.problems())

    async with trio.open_nursery() as nursery:
        for _ in range(1000):
            nursery.start_soon(ask)
        await trio.sleep(
            0.05
        )  # while the first is checked: a check of the others is still to begin
        for _ in range(1000):
            nursery.start_soon(ask)
    assert broker.checks == state.checks <= 3
    assert answers == [["the queue is away"]] * 2000


async def test_an_answer_is_never_older_than_its_question() -> None:
    broker = Counted("the queue is away")
    health = Health(_any(broker), _any(Counted()), None, None, Draining())
    assert await health.problems() == ["the queue is away"]
    broker.problem = None
    assert await health.problems() == []


def _any(each: object) -> Any:
    return each
