"""How many files this process may have open, and how many of them connections may take.

Each connection takes a descriptor. The descriptors that running programs need are reserved, so that no number
of clients costs a submission its attempt.
"""

import resource

import structlog

from occd.config import Config
from occd.errors import ConfigError

log = structlog.get_logger()

_OURS = 128
"""For the data folder, the servers of queues and state, listeners, and short-lived files."""

_A_SLOT = 64
"""A running program takes 8 descriptors, and a test that is made ready beside it as many. Its start takes a
few more for a moment, and each of 4 checkers takes 4 for each of its jails until all tests are over (56 were
seen)."""

_A_SEAT = 8
"""A program moves to a seat after its start."""

_LOGS = 64
"""The logs that attempts keep until their results are stored (`execution/lingering.py`)."""

_CONNECTIONS_MIN = 16


def share_descriptors(config: Config) -> int:
    """Raise this process's limit as far as needed; returns the number of connections that fit.

    Raises ConfigError when fewer connections fit than the operator set.
    """
    wanted = config.http.connections_max
    reserve = _OURS
    if "execute" in config.roles:
        reserve += _A_SLOT * config.execute.slots + _A_SEAT * config.execute.interactive
        reserve += _LOGS if config.redis else 0
    limit = _raise_limit(wanted + reserve)
    fitting = limit - reserve
    if fitting >= wanted:
        return wanted
    remedy = f"raise the limit of open files, which is {limit} (ulimit -n, LimitNOFILE=)"
    if "connections_max" in config.http.model_fields_set:
        raise ConfigError(
            f"http.connections_max: {wanted} do not fit, {max(fitting, 0)} do: {remedy}, or set fewer"
        )
    if fitting < _CONNECTIONS_MIN:
        raise ConfigError(
            f"no connections fit beside what execute.slots and execute.interactive need: {remedy} to "
            f"{reserve + wanted} or so"
        )
    log.warning("fewer connections are taken than usual", connections_max=fitting, remedy=remedy)
    return fitting


def _raise_limit(needed: int) -> int:
    """The soft limit, after raising it towards the hard one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    goal = needed if hard == unlimited else min(needed, hard)
    if soft != unlimited and soft < goal:
        resource.setrlimit(resource.RLIMIT_NOFILE, (goal, hard))
        soft = goal
    return needed if soft == unlimited else soft
