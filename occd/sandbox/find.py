"""Finds programs where others will see them: init looks, as a program in a cell (`sandbox/init/find.c`)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from occd.errors import SandboxFailed, SandboxUnavailable
from occd.model import Limits
from occd.sandbox import Run, Sandbox, Sink
from occd.sandbox.init import INIT


@dataclass(frozen=True, slots=True)
class Found:
    """A file that programs see in `root` (`Sandbox.roots`). `mark` changes when the file does."""

    path: str
    mark: str
    root: str


async def find(sandbox: Sandbox, patterns: Sequence[str]) -> Mapping[str, Sequence[Found]]:
    """The files that match each pattern: those of the first root first, and then in the order of their names.

    Raises SandboxUnavailable."""
    found: dict[str, list[Found]] = {pattern: [] for pattern in patterns}
    for root in sandbox.roots:
        told = iter(await _told(sandbox, root, patterns))
        matches = sorted(
            (int(at), path, mark) for at, path, mark in zip(told, told, told, strict=True)
        )
        for at, path, mark in matches:
            found[patterns[at]].append(Found(path, mark, root))
    return found


async def _told(sandbox: Sandbox, root: str, patterns: Sequence[str]) -> list[str]:
    told, limits = bytearray(), Limits()
    run = Run(
        [INIT, "find", *patterns], (), limits, Sink(limits.output, told.extend), Sink(limits.output)
    )
    try:
        async with sandbox.cell(next(iter(sandbox.languages.values())), (), limits, root) as cell:
            outcome = (await cell.run(run)).outcome
    except SandboxFailed as error:
        raise SandboxUnavailable(
            f"no program can look for languages: {error}", "See `occd doctor`"
        ) from error
    if not outcome.succeeded:
        raise SandboxUnavailable(f"looking for languages ended with {outcome}", "See `occd doctor`")
    return told.decode(errors="surrogateescape").split("\0")[:-1]
