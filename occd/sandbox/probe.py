"""Which language versions and formatters answer, inside the jail. What the jail does not show does not
count."""

import glob
import hashlib
import json
import os
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import trio

from occd.errors import SandboxFailed
from occd.languages import (
    Available,
    Formatter,
    Formatters,
    Installed,
    InstalledFormatter,
    Language,
)
from occd.model import File, Limits, Outcome
from occd.sandbox import Feed, Run, Sandbox, Sink

_AT_ONCE = 4
_PROBE_LIMITS = Limits(cpu_time=10.0, wall_time=20.0, memory=2**30)
_FORMATS = "formats"


async def probe(
    sandbox: Sandbox, root: Path, cache: Path | None, only: str | None = None
) -> tuple[Available, Formatters]:
    """Ask every candidate of every language (or of `only`) for its version, and every formatter to format the
    language's hello.

    Answers are kept in the file `cache` under a fingerprint of the binary and the question, so that
    only what has changed is asked again.
    """
    known = _load(cache)
    versions: dict[str, dict[str, str]] = {}
    formatters: dict[str, list[InstalledFormatter]] = {}
    limiter = trio.CapacityLimiter(_AT_ONCE)

    async def ask(language: Language, binary: str) -> None:
        key = _fingerprint(root, language, binary)
        version = known.get(key)
        if version is None:
            async with limiter:
                version = await _version(sandbox, language, binary)
        if version is not None:
            known[key] = version
            versions.setdefault(language.id, {})[binary] = version

    async def try_to_format(language: Language, found: InstalledFormatter) -> None:
        key = _fingerprint(root, language, found.binary, found.formatter)
        if key not in known:
            async with limiter:
                if not await _formats(sandbox, language, found):
                    return
        known[key] = _FORMATS
        formatters.setdefault(language.id, []).append(found)

    async with trio.open_nursery() as nursery:
        for language in sandbox.languages.values():
            if only not in (None, language.id):
                continue
            for binary in _candidates(root, language.candidates):
                nursery.start_soon(ask, language, binary)
            for each in _formatters(root, language):
                nursery.start_soon(try_to_format, language, each)
    if cache:
        _save(cache, known)
    return (
        {name: _newest_first(each) for name, each in versions.items()},
        {
            name: next(each for each in _formatters(root, sandbox.languages[name]) if each in found)
            for name, found in formatters.items()
            if name in versions
        },
    )


def _candidates(root: Path, patterns: Iterable[str]) -> list[str]:
    found = [path for pattern in patterns for path in sorted(glob.glob(str(root) + pattern))]
    return ["/" + str(Path(path).relative_to(root)) for path in found]


def _formatters(root: Path, language: Language) -> list[InstalledFormatter]:
    """Those that may answer, the best first."""
    return [
        InstalledFormatter(formatter, binary)
        for formatter in language.formatters
        for binary in _candidates(root, formatter.candidates)
    ]


def _newest_first(answers: dict[str, str]) -> tuple[Installed, ...]:
    """One binary for each version: of two names for the same, the shorter."""
    by_version: dict[str, Installed] = {}
    for binary in sorted(answers, key=len):
        by_version.setdefault(answers[binary], Installed(answers[binary], binary))
    return tuple(sorted(by_version.values(), key=lambda each: each.order, reverse=True))


async def _version(sandbox: Sandbox, language: Language, binary: str) -> str | None:
    outcome = await _ended(sandbox, language, language.version, binary)
    if not outcome or not outcome.succeeded:
        return None
    text = (outcome.stdout.head + outcome.stderr.head).decode(errors="replace")
    answer = re.search(language.version_pattern, text)
    return answer[1] if answer else None


async def _formats(sandbox: Sandbox, language: Language, found: InstalledFormatter) -> bool:
    hello = File(language.file_name, language.hello.encode())
    outcome = await _ended(sandbox, language, found.formatter.command, found.binary, hello)
    return outcome is not None and outcome.succeeded and outcome.stdout.size > 0


async def _ended(
    sandbox: Sandbox,
    language: Language,
    command: Sequence[str],
    binary: str,
    file: File | None = None,
) -> Outcome | None:
    """How a command ended that reads this file. None when no jail could be made."""
    argv = language.argv(command, binary, language.file_name, (), (), _PROBE_LIMITS.memory)
    sink = Sink(_PROBE_LIMITS.output)
    send, receive = trio.open_memory_channel[bytes](1)
    with send:
        if file:
            send.send_nowait(file.content)
    run = Run(argv, tuple(language.env.items()), _PROBE_LIMITS, sink, sink, Feed(receive))
    try:
        async with sandbox.cell(language, [file] if file else (), Limits()) as cell:
            return (await cell.run(run)).outcome
    except SandboxFailed:
        return None


def _fingerprint(
    root: Path, language: Language, binary: str, formatter: Formatter | None = None
) -> str:
    # Links like /etc/alternatives are absolute, so they are followed on the machine, not in `root`.
    real = os.path.realpath(binary)
    found = os.stat(real)
    parts: list[object] = [binary, real, found.st_mtime_ns, found.st_size, asdict(language)]
    if formatter:
        parts.append(asdict(formatter))
    return hashlib.sha256(json.dumps(parts, default=str).encode()).hexdigest()


def _load(cache: Path | None) -> dict[str, str]:
    with suppress(OSError, ValueError):  # absent or damaged: ask again
        if cache:
            loaded: dict[str, str] = json.loads(cache.read_text())
            return loaded
    return {}


def _save(cache: Path, known: dict[str, str]) -> None:
    with suppress(OSError):  # it only saves time
        cache.write_text(json.dumps(known))
