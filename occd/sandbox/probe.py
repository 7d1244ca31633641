"""Which language versions answer, inside the jail. What the jail does not show does not count."""

import glob
import hashlib
import json
import os
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import trio

from occd.errors import SandboxFailed
from occd.languages import Available, Installed, Language
from occd.model import Limits
from occd.sandbox import Run, Sandbox, Sink

_AT_ONCE = 4
_PROBE_LIMITS = Limits(cpu_time=10.0, wall_time=20.0, memory=2**30)


async def probe_languages(
    sandbox: Sandbox, root: Path, cache: Path | None, only: str | None = None
) -> Available:
    """Ask every candidate of every language (or of `only`) for its version.

    Answers are kept in the file `cache` under a fingerprint of the binary and the question, so that
    only what has changed is asked again.
    """
    known = _load(cache)
    found: dict[str, dict[str, str]] = {}
    limiter = trio.CapacityLimiter(_AT_ONCE)

    async def ask(language: Language, binary: str) -> None:
        key = _fingerprint(root, language, binary)
        version = known.get(key)
        if version is None:
            async with limiter:
                version = await _version(sandbox, language, binary)
        if version is not None:
            known[key] = version
            found.setdefault(language.id, {})[binary] = version

    async with trio.open_nursery() as nursery:
        for language in sandbox.languages.values():
            if only in (None, language.id):
                for binary in _candidates(root, language):
                    nursery.start_soon(ask, language, binary)
    if cache:
        _save(cache, known)
    return {name: _newest_first(each) for name, each in found.items()}


def _candidates(root: Path, language: Language) -> list[str]:
    found = [
        path for pattern in language.candidates for path in sorted(glob.glob(str(root) + pattern))
    ]
    return ["/" + str(Path(path).relative_to(root)) for path in found]


def _newest_first(answers: dict[str, str]) -> tuple[Installed, ...]:
    """One binary for each version: of two names for the same, the shorter."""
    by_version: dict[str, Installed] = {}
    for binary in sorted(answers, key=len):
        by_version.setdefault(answers[binary], Installed(answers[binary], binary))
    return tuple(sorted(by_version.values(), key=lambda each: each.order, reverse=True))


async def _version(sandbox: Sandbox, language: Language, binary: str) -> str | None:
    argv = language.argv(language.version, binary, language.file_name, (), (), _PROBE_LIMITS.memory)
    sink = Sink(_PROBE_LIMITS.output)
    run = Run(argv, tuple(language.env.items()), _PROBE_LIMITS, sink, sink)
    try:
        async with sandbox.cell(language, (), Limits()) as cell:
            outcome = (await cell.run(run)).outcome
    except SandboxFailed:
        return None
    text = (outcome.stdout.head + outcome.stderr.head).decode(errors="replace")
    answer = re.search(language.version_pattern, text)
    return answer[1] if answer and outcome.succeeded else None


def _fingerprint(root: Path, language: Language, binary: str) -> str:
    # Links like /etc/alternatives are absolute, so they are followed on the machine, not in `root`.
    real = os.path.realpath(binary)
    found = os.stat(real)
    parts: Sequence[object] = (binary, real, found.st_mtime_ns, found.st_size, asdict(language))
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
