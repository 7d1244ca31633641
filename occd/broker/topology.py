"""Which queues there are in RabbitMQ, and how they are declared.

q, q.1 … q.7    the lanes of the submission queue; other queues have one
q.dead          what nobody could serve, with the reason
q.kept          the last dead letters that were dealt with, for `occd queues`
"""

from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from occd.broker import DEAD, DELIVERY_LIMIT, KEPT, KEPT_MAX
from occd.config import Config, RabbitmqConfig

_NO_LIMIT = 1_000_000
"""RabbitMQ 4 has a limit of 20 where none is given, and drops what passes it."""


@dataclass(frozen=True, slots=True)
class Topology:
    rabbitmq: RabbitmqConfig
    length_max: int

    @classmethod
    def of(cls, config: Config) -> "Topology":
        assert config.rabbitmq
        return cls(config.rabbitmq, config.queue.length_max)

    @property
    def queues(self) -> tuple[str, ...]:
        return self.rabbitmq.submission_queue, self.rabbitmq.execution_queue

    def lanes(self, queue: str) -> tuple[str, ...]:
        if queue != self.rabbitmq.submission_queue:
            return (queue,)
        return queue, *(f"{queue}.{number}" for number in range(1, self.rabbitmq.lanes))

    def lane(self, queue: str, owner: str | None) -> str:
        """An owner's lane, the same in every process and release. Nobody is an owner, too."""
        lanes = self.lanes(queue)
        digest = blake2b(owner.encode(errors="surrogatepass")).digest() if owner else bytes(8)
        return lanes[int.from_bytes(digest[:8], "big") % len(lanes)]

    def declarations(self, queue: str) -> dict[str, dict[str, Any]]:
        """A queue with all that belongs to it, and their arguments."""
        kind = {"x-queue-type": self.rabbitmq.queue_type}
        quorum = self.rabbitmq.queue_type == "quorum"
        lasting = kind | ({"x-delivery-limit": _NO_LIMIT} if quorum else {})
        kept = lasting | {"x-max-length": KEPT_MAX, "x-overflow": "drop-head"}
        if queue.endswith(KEPT):
            return {queue: kept}
        if queue.endswith(DEAD):
            return {queue: lasting, queue.removesuffix(DEAD) + KEPT: kept}
        work = kind | {
            "x-max-length": self.length_max,
            "x-overflow": "reject-publish",
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": queue + DEAD,
        }
        if quorum:
            # It delivers once more than the limit says.
            work |= {
                "x-delivery-limit": DELIVERY_LIMIT - 1,
                "x-dead-letter-strategy": "at-least-once",
            }
        return {
            queue + DEAD: lasting,
            queue + KEPT: kept,
            **dict.fromkeys(self.lanes(queue), work),
        }
