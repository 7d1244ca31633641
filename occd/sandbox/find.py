"""Finds programs where others will see them: init looks, as a program in a cell (`sandbox/init/find.c`)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from occd.errors import SandboxFailed, SandboxUnavailable
from occd.model import Limits
from occd.sandbox import Run, Sandbox, Sink
from occd.sandbox.init import INIT

_SHELL = "/bin/sh"
_RELAY = "occd-init: relay: "
"""So begins what the relay says (`sandbox/init/relay.c`)."""


@dataclass(frozen=True, slots=True)
class Found:
    """A file that programs see in `root` (`Sandbox.roots`). `mark` changes when the file does."""

    path: str
    mark: str
    root: str


class TooLong(SandboxUnavailable):
    """Looking for the files met a limit of programs."""


async def find(sandbox: Sandbox, patterns: Sequence[str]) -> Mapping[str, Sequence[Found]]:
    """The files that match each pattern: those of the first root first, and then in the order of their names.

    Raises SandboxUnavailable, also for an image without a shell, and TooLong."""
    found: dict[str, list[Found]] = {pattern: [] for pattern in (*patterns, _SHELL)}
    numbered = list(found)
    for root in sandbox.roots:
        told = iter(await _told(sandbox, root, numbered))
        for at, path, mark in sorted(zip(map(int, told), told, told, strict=True)):
            found[numbered[at]].append(Found(path, mark, root))
        if root and all(each.root != root for each in found[_SHELL]):
            raise SandboxUnavailable(f"the image {root} has no {_SHELL}", remedy(root))
    return {pattern: found[pattern] for pattern in patterns}


async def _told(sandbox: Sandbox, root: str, patterns: Sequence[str]) -> list[str]:
    told, limits = bytearray(), Limits()
    argv = [INIT, "find", *patterns]
    run = Run(argv, (), limits, Sink(limits.output, told.extend), Sink(limits.output))
    try:
        async with sandbox.cell(next(iter(sandbox.languages.values())), (), limits, root) as cell:
            outcome = (await cell.run(run)).outcome
    except SandboxFailed as error:
        raise SandboxUnavailable(
            f"no program runs in {named(root)}: {error}", remedy_of(error, root)
        ) from error
    if not outcome.succeeded:
        raise (TooLong if outcome.limit else SandboxUnavailable)(
            f"looking for languages in {named(root)} ended with "
            f"{outcome.limit or outcome.signal or f'exit code {outcome.exit_code}'}",
            remedy(root),
        )
    return told.decode(errors="surrogateescape").split("\0")[:-1]


def remedy(root: str) -> str:
    """For a root in which nothing runs."""
    return f"Build it anew, as root: occd images {root}" if root else "See `occd doctor`"


def remedy_of(error: SandboxFailed, root: str) -> str:
    """For a failure in this root. An engine that is away, or a full disk, is not the root's fault."""
    said = str(error)
    return remedy(root if INIT in said or _RELAY in said else "")


def named(root: str) -> str:
    return f"the image {root}" if root else "the machine's files"
