"""The names of the request that a piece of work comes from: its `request_id`, and W3C's `traceparent`.

They are bound to the task (`structlog.contextvars`), so that each of its lines in the log has them. A message
takes them along beside its body, and who takes the message binds them again. Nothing depends on them: others
may write to our queues, and a name that breaks its rule is left out.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from structlog.contextvars import bind_contextvars, get_contextvars, unbind_contextvars

from occd.key import without_keys

_REQUEST_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/=+-]{0,127}")
_TRACEPARENT = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
)
_NAMES = {"request_id": _REQUEST_ID, "traceparent": _TRACEPARENT}


def well_formed(names: Mapping[str, object]) -> dict[str, str]:
    """Those that keep their rule."""
    return {
        name: text
        for name, rule in _NAMES.items()
        if isinstance(text := names.get(name), str)
        and rule.fullmatch(text)
        and without_keys(text) == text
    }


def of_task() -> dict[str, str]:
    """Those that are bound to this task."""
    bound = get_contextvars()
    return {name: bound[name] for name in _NAMES if name in bound}


@contextmanager
def coming_from(names: Mapping[str, str]) -> Iterator[None]:
    """Inside, this task has these names instead of its own."""
    before = of_task()
    unbind_contextvars(*_NAMES)
    bind_contextvars(**names)
    try:
        yield
    finally:
        unbind_contextvars(*_NAMES)
        bind_contextvars(**before)
