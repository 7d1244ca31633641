"""Clients in a process of their own, so that they delay nobody by themselves."""

import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


@contextmanager
def apart(clients: Callable[..., Awaitable[None]], *args: object) -> Iterator[IO[str]]:
    """Run `clients`, a function of a module in this folder, until the end of the context. Gives what it
    prints. `args` are read again from their representation."""
    module = clients.__module__
    code = f"import trio, {module}; trio.run({module}.{clients.__name__}, *{args!r})"
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=Path(__file__).parent, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        try:
            yield process.stdout
        finally:
            process.kill()
