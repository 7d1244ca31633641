"""`occd queues`: what waits, and the dead letters that were dealt with; `requeue` gives one another try."""

import time
from collections.abc import Iterator

from occd import rules, wire
from occd.admission import Gate
from occd.broker import DEAD, KEPT, Broker, Kept, Look, open_look
from occd.config import Config
from occd.errors import OccdError, Poisoned, UnknownSubmission
from occd.languages.loading import load_languages
from occd.log import printable
from occd.model import DeadLetter, Submission
from occd.origin import coming_from, of_task
from occd.principal import Principal
from occd.state import State


async def show(config: Config) -> list[str]:
    """Lines to print. A daemon may be running; nothing of it is touched."""
    async with open_look(config) as look:
        depths = await look.depths()
        letters = await kept_letters(config, look)
    names = [queue + suffix for queue in _queues(config) for suffix in ("", DEAD, KEPT)]
    names += sorted(depths.keys() - set(names))
    return [*(f"{name:36} {depths.get(name, 0):8}" for name in names), *_describe(letters)]


async def kept_letters(config: Config, look: Look) -> list[DeadLetter]:
    """The dead letters that are kept, oldest first in each queue."""
    return [
        DeadLetter(each.key, queue, rules.moment_or_none(each.time), each.size, each.reason)
        for queue in _queues(config)
        for each in await look.kept(queue)
    ]


async def requeue(config: Config, broker: Broker, state: State, id: str) -> str:
    """Submit the kept dead letter of this id anew; gives the new submission's id.

    Raises UnknownSubmission or Poisoned when there is nothing that could be submitted, and Rejected when this
    server would not take it now.
    """
    queue, letter, message = await _find(config, broker, id)
    submission = await _submission(config, state, queue, letter, message)
    gate = Gate(config, load_languages(), state.nodes.live)
    retry = await gate.again(submission, Principal(submission.owner), may_wait=True)
    await state.submissions.create(retry, None, "")
    try:
        body = wire.encode_submission(retry)
        target = config.submission_queue
        with coming_from(letter.names or of_task()):  # who asked for the program looks for it
            await broker.publish(target, body, key=retry.id, owner=retry.turn)
    except OccdError:
        await state.submissions.discard(retry.id)  # noqa: ASYNC120  (its callers shield it, or only end cancels them)
        raise
    await state.submissions.published(retry.id)
    await broker.take_kept(queue, id)
    return retry.id


async def _find(config: Config, broker: Broker, id: str) -> tuple[str, Kept, bytes]:
    """The queue and the body of a kept dead letter. Raises UnknownSubmission."""
    for queue in _queues(config):
        if found := await broker.one_kept(queue, id):
            return queue, *found
    raise no_letter(id)


def no_letter(id: str) -> UnknownSubmission:
    return UnknownSubmission(f"no dead letter {id} is kept; those that are: occd queues")


async def _submission(
    config: Config, state: State, queue: str, letter: Kept, body: bytes
) -> Submission:
    """From the message itself where that can be read: it is complete, and state may have forgotten."""
    unread = f"{printable(letter.reason or 'it was given up')}; and nothing is known of it any more"
    if queue == config.submission_queue:
        try:
            return wire.decode_submission(body)
        except Poisoned as error:
            unread = f"{error}; and nothing is known of it any more"
    try:
        return await state.submissions.submission(letter.key)
    except UnknownSubmission:
        raise Poisoned(f"{letter.key} cannot be submitted again: {unread}") from None


def _queues(config: Config) -> tuple[str, str]:
    return config.submission_queue, config.execution_queue


def _describe(letters: list[DeadLetter]) -> Iterator[str]:
    if letters:
        yield ""
        yield "dead letters that are kept; to run one again: occd queues requeue ID"
    for each in letters:
        reason = printable(each.reason or "-")
        yield (
            f"{printable(each.id) or '-':24} {_clock(each.time)}  {each.queue}  {each.size} bytes  {reason}"
        )


def _clock(seconds: float | None) -> str:
    if seconds is None:
        return f"{'-':19}"
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
