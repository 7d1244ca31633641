"""What the tests of brokers send and take."""

import trio

from occd.broker import Broker, Delivery

Q = "submission_queue"
Deliveries = trio.MemoryReceiveChannel[Delivery]


async def put(broker: Broker, *bodies: str, owner: str | None = None, queue: str = Q) -> None:
    for body in bodies:
        await broker.publish(queue, body.encode(), key=f"key-{body}", owner=owner)


async def take(deliveries: Deliveries, count: int = 1, *, within: float = 30.0) -> list[Delivery]:
    """`within`: seconds for each."""
    found = []
    for _ in range(count):
        with trio.fail_after(within):
            found.append(await deliveries.receive())
    return found
