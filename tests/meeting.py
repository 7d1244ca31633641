"""Where the daemons of one installation meet: a virtual host of a real RabbitMQ, and a prefix of their own in
a real Redis."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rabbitmq_server import shared
from redis_server import RedisServer, shared_redis


@contextmanager
def meeting(redis: RedisServer | None = None) -> Iterator[dict[str, Any]]:
    """Settings. Without `redis` it is the Redis of this session."""
    rabbitmq = shared()
    url = rabbitmq.add_vhost()
    yield {
        "rabbitmq__url": url,
        "redis__url": (redis or shared_redis()).url,
        "redis__prefix": url.rpartition("/")[2],
    }
    rabbitmq.delete_vhost(url)
