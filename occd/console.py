"""A line that tells what a command does now, and the mounts that its sandbox needs."""

import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import click


@contextmanager
def now() -> Iterator[Callable[[str], None]]:
    """At a terminal, tells in one line what is being done now. The line goes when it is done. Scripts, which
    read stdout by a pipe or a file, find nothing of it."""
    if not (sys.stdout.isatty() and sys.stderr.isatty()):
        yield lambda _: None
        return

    def tell(told: str) -> None:
        room = shutil.get_terminal_size().columns - 1  # a line that is wrapped would stay
        click.echo(f"\r\x1b[K{f'occd: {told} …'[:room]}", err=True, nl=False)

    try:
        yield tell
    finally:
        click.echo("\r\x1b[K", err=True, nl=False)


def enter() -> None:
    """Move to private mounts while there is one thread; what hinders it is told by who needs it."""
    from occd.sandbox.kernel import enter_private_mounts

    with suppress(OSError):
        enter_private_mounts()
