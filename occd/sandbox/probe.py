"""Which language versions and formatters answer, inside the jail. What the jail does not show does not
count."""

import hashlib
import json
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import trio

from occd import trace
from occd.errors import SandboxFailed, SandboxUnavailable
from occd.languages import (
    Available,
    Formatters,
    Given,
    Installed,
    InstalledFormatter,
    Language,
)
from occd.languages.fields import Formatter
from occd.languages.search import search
from occd.model import File, Limits, Outcome
from occd.sandbox import Feed, Run, Sandbox, Sink, Tell, unheard
from occd.sandbox.find import Found, find, named, remedy_of
from occd.sandbox.init import INIT
from occd.shown import has_tracing

_AT_ONCE = 4
_PROBE_LIMITS = Limits(cpu_time=10.0, wall_time=20.0, memory=2**30)
_FORMATS = "formats"
_WHY: Mapping[trace.End, str] = {
    "no_python": "its programs see no Python 3",
    "not_permitted": "its kernel does not let ptrace follow a program",
    "tracer_died": "the tracer fails there",
}


async def probe(
    sandbox: Sandbox, cache: Path | None, only: str | None = None, tell: Tell = unheard
) -> tuple[Available, Formatters]:
    """Ask every candidate of every language (or of `only`) for its version, and every formatter to format the
    language's hello.

    Answers are kept in the file `cache` under a fingerprint of the binary and the question, so that
    only what has changed is asked again. Raises SandboxUnavailable when a program could not be asked: it may
    be there, and would be missing as long as this process lives.
    """
    known = _load(cache)
    asked = [each for each in sandbox.languages.values() if only in (None, each.id)]
    programs: list[Language | Formatter] = [*asked]
    programs += [formatter for language in asked for formatter in language.formatters]
    tell("looking for compilers and interpreters")
    found = await find(sandbox, [pattern for each in programs for pattern in each.candidates])
    versions: dict[str, dict[Found, str]] = {}
    formatters: dict[str, list[InstalledFormatter]] = {}
    limiter = trio.CapacityLimiter(_AT_ONCE)

    async def ask(file: Found, language: Language) -> None:
        key = _fingerprint(language, file)
        version = known.get(key)
        if version is None:
            async with limiter:
                version = await _version(sandbox, language, file)
        if version is not None:
            known[key] = version
            versions.setdefault(language.id, {})[file] = version

    async def try_to_format(file: Found, language: Language, formatter: Formatter) -> None:
        installed = InstalledFormatter(formatter, file.path, file.root)
        key = _fingerprint(language, file, formatter)
        if key not in known:
            async with limiter:
                if not await _formats(sandbox, language, formatter, file):
                    return
        known[key] = _FORMATS
        formatters.setdefault(language.id, []).append(installed)

    failed: list[SandboxUnavailable] = []  # raised below: the nursery would wrap it

    begun = ended = 0

    async def attempt(ask: Callable[..., Awaitable[None]], file: Found, *given: object) -> None:
        nonlocal ended
        try:
            await ask(file, *given)
            ended += 1
            tell(f"trying compilers, interpreters and formatters: {ended} of {begun}")
        except SandboxFailed as error:
            what = f"{file.path} in {named(file.root)} could not be tried"
            failed.append(SandboxUnavailable(f"{what}: {error}", remedy_of(error, file.root)))
            nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        for language in asked:
            for file in _files(found, language.candidates):
                begun += 1
                nursery.start_soon(attempt, ask, file, language)
            for formatter, file in _formatters(found, language):
                begun += 1
                nursery.start_soon(attempt, try_to_format, file, language, formatter)
    if cache:
        _save(cache, known)
    if failed:
        raise failed[0]
    return (
        {name: _newest_first(each, sandbox.roots) for name, each in versions.items()},
        {
            name: next(
                installed
                for formatter, file in _formatters(found, sandbox.languages[name])
                if (installed := InstalledFormatter(formatter, file.path, file.root)) in those
            )
            for name, those in formatters.items()
            if name in versions
        },
    )


async def why_untraced(sandbox: Sandbox) -> dict[str, str]:
    """As `Sandbox.untraced`: by trying, at each start. The answer depends on the kind of the sandbox, on the
    root, on how occd was installed, and on the kernel.

    Raises SandboxUnavailable when the trial itself fails: programs may be traceable there, and would not be
    as long as this process lives."""
    why = {root: await _why_untraced(sandbox, root) for root in sandbox.roots}
    return {root: reason for root, reason in why.items() if reason}


async def _why_untraced(sandbox: Sandbox, root: str) -> str | None:
    if not has_tracing():
        return "this occd is without python-ptrace, as the one file is: install it by pip"
    sink = Sink(_PROBE_LIMITS.output)
    run = Run([INIT, "prove"], (), _PROBE_LIMITS, sink, sink, trace=True)
    language = next(iter(sandbox.languages.values()))
    try:
        async with sandbox.cell(language, (), Limits(), root) as cell:
            traced = (await cell.run(run)).trace
    except SandboxFailed as error:
        raise SandboxUnavailable(
            f"a trial of tracing in {named(root)} failed: {error}", remedy_of(error, root)
        ) from error
    if traced is None or (traced.ended == "whole" and not traced.lines):
        return _WHY["tracer_died"]
    return None if traced.ended == "whole" else _WHY.get(traced.ended, traced.ended)


def _files(found: Mapping[str, Sequence[Found]], patterns: Iterable[str]) -> list[Found]:
    return [file for pattern in patterns for file in found[pattern]]


def _formatters(
    found: Mapping[str, Sequence[Found]], language: Language
) -> list[tuple[Formatter, Found]]:
    """Those that may answer, the best first."""
    return [
        (formatter, file)
        for formatter in language.formatters
        for file in _files(found, formatter.candidates)
    ]


def _newest_first(answers: dict[Found, str], roots: Sequence[str]) -> tuple[Installed, ...]:
    """One binary for each version: that of the first root, and there of two names the shorter."""
    by_version: dict[str, Installed] = {}
    for file in sorted(
        answers, key=lambda each: (roots.index(each.root), len(each.path), each.path)
    ):
        installed = Installed(answers[file], file.path, file.root)
        by_version.setdefault(installed.version, installed)
    return tuple(sorted(by_version.values(), key=lambda each: each.order, reverse=True))


async def _version(sandbox: Sandbox, language: Language, file: Found) -> str | None:
    if not language.version:
        answer = search(language.version_pattern, file.path)
        return answer[1] if answer else language.version_text
    outcome = await _ended(sandbox, language, language.version_argv(file.path), file)
    if not outcome.succeeded:
        return None
    text = (outcome.stdout.head + outcome.stderr.head).decode(errors="replace")
    answer = search(language.version_pattern, text)
    return answer[1] if answer else None


async def _formats(sandbox: Sandbox, language: Language, formatter: Formatter, file: Found) -> bool:
    hello = File(language.file_name, language.hello.encode())
    given = Given(file.path, "", language.file_name, memory=_PROBE_LIMITS.memory)
    outcome = await _ended(sandbox, language, language.format_argv(formatter, given), file, hello)
    return outcome.succeeded and outcome.stdout.size > 0


async def _ended(
    sandbox: Sandbox,
    language: Language,
    argv: Sequence[str],
    program: Found,
    file: File | None = None,
) -> Outcome:
    """How a command of this program ended that reads this file."""
    sink = Sink(_PROBE_LIMITS.output)
    send, receive = trio.open_memory_channel[bytes](1)
    with send:
        if file:
            send.send_nowait(file.content)
    env = language.environment(program.path)
    run = Run(argv, tuple(env.items()), _PROBE_LIMITS, sink, sink, Feed(receive))
    files = [file] if file else ()
    async with sandbox.cell(language, files, Limits(), program.root) as cell:
        return (await cell.run(run)).outcome


def _fingerprint(language: Language, file: Found, formatter: Formatter | None = None) -> str:
    parts: list[object] = [file.path, file.mark, file.root, asdict(language)]
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
