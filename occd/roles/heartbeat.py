"""Each role announces itself to the other nodes every few seconds. A silent role is forgotten."""

from collections.abc import Callable

import structlog
import trio

from occd.errors import OccdError
from occd.state import Node, Nodes
from occd.trouble import Trouble

log = structlog.get_logger()

_EVERY_S = 5.0
_WITHDRAW_S = 1.0


async def announce(
    nodes: Nodes,
    describe: Callable[[], Node | None],
    forgotten: Callable[[], None] = lambda: None,
    news: Callable[[], trio.Event] = trio.Event,
    *,
    task_status: trio.TaskStatus[None],
) -> None:
    """Announce the node that `describe` returns, every few seconds until cancelled. Then withdraw the node,
    if state answers at once.

    While `describe` returns None, the node can do no work, and stays withdrawn. `forgotten` is called when
    state did not know the node: at the first announcement, and after state was emptied. The node is announced
    at once when the event of `news` is set.
    """
    trouble = Trouble("the others were not told of this node")
    told: Node | None = None
    try:
        while True:
            changed = news()
            with trouble.survived():
                node = describe()
                if told and (node is None or node.roles != told.roles):
                    await nodes.withdraw(told)
                if node and not await nodes.announce(node):
                    forgotten()
                told = node
            task_status.started()
            task_status = trio.TASK_STATUS_IGNORED
            with trio.move_on_after(_EVERY_S):
                await changed.wait()
    finally:
        with trio.move_on_after(_WITHDRAW_S, shield=True):
            try:
                if told:
                    await nodes.withdraw(told)
            except OccdError as error:
                log.info("this node is forgotten when its time is up", reason=str(error))
