"""Which language versions and formatters answer, inside the jail. What the jail does not show does not
count."""

import hashlib
import json
import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import structlog
import trio
from pydantic import TypeAdapter

from occd import rules, trace
from occd.errors import OccdError, SandboxFailed, SandboxUnavailable
from occd.languages import Given, Language
from occd.languages.fields import Formatter
from occd.languages.finding import by_support
from occd.languages.installed import Available, Formatters, Installed, InstalledFormatter
from occd.languages.search import search
from occd.model import File, Limits, Outcome
from occd.sandbox import Feed, Run, Sandbox, Sink, Tell, unheard
from occd.sandbox.find import Found, TooLong, find, named, remedy_of
from occd.sandbox.init import INIT
from occd.shown import has_tracing
from occd.trouble import Trouble
from occd.wholefile import written

_AT_ONCE = 4
_SOON_S = 10.0
_PROBE_LIMITS = Limits(cpu_time=10.0, wall_time=20.0, memory=2**30)
_FORMATS = "formats"
_VERSION_MAX = 40
"""Characters. A longer one is no version."""
_SHOWN = 300
"""Characters of what a program wrote, for a person."""
_ANSWERS = TypeAdapter(dict[str, str])

log = structlog.get_logger()
_WHY: Mapping[trace.End, str] = {
    "no_python": "its programs see no Python 3",
    "not_permitted": "its kernel does not let ptrace follow a program",
    "tracer_died": "the tracer fails there",
}


@dataclass(frozen=True, slots=True, eq=False)
class _Question:
    """Of a program: which version it is, or whether it formats the language's hello."""

    language: Language
    file: Found
    formatter: Formatter | None
    fingerprint: str

    async def ask(self, sandbox: Sandbox) -> str | None:
        """The answer. It is empty when there is none, and None when there may be one the next time."""
        if self.formatter:
            return await _formats(sandbox, self.language, self.formatter, self.file)
        return await _version(sandbox, self.language, self.file)


class Probe:
    """Finds the languages of a sandbox. What a file `cache` knows is there at once; what it does not know is
    asked, the languages first that most people ask for. A program that hangs costs itself alone."""

    def __init__(
        self, sandbox: Sandbox, cache: Path | None = None, only: str | None = None
    ) -> None:
        """`only` is the one language to look for."""
        self._sandbox = sandbox
        self._cache = cache
        self._languages = [
            each for each in by_support(sandbox.languages.values()) if only in (None, each.id)
        ]
        self._known = _load(cache)
        """Answers by fingerprints of a binary and its question, so that only what has changed is asked again.
        An empty one is not kept for the next start: what a program needs may come without a change of the
        program."""
        self._questions: list[_Question] = []
        self._open: list[_Question] = []
        self._untried: set[_Question] = set()
        self._trouble = Trouble("a program cannot be asked for its version")
        self.available: Available = {}
        self.formatters: Formatters = {}

    async def start(self, promised: Collection[str], tell: Tell, *, soon: bool) -> None:
        """Look for the programs. With `soon` only the languages `promised` are found for certain, and those
        that most people ask for if they answer soon. Raises SandboxUnavailable."""
        await self._begin(tell)
        if not soon:
            await self.ask_rest(tell)
            return
        await self.ask(promised, tell)
        with trio.move_on_after(_SOON_S), suppress(SandboxUnavailable):
            await self.ask({each.id for each in self._languages if each.support == "core"}, tell)

    async def _begin(self, tell: Tell) -> None:
        """Look for the programs, and give the answers that are known. Raises SandboxUnavailable."""
        tell("looking for compilers and interpreters")
        self._questions = await self._find()
        self._open = [each for each in self._questions if each.fingerprint not in self._known]
        self._untried = set(self._open)
        self._answer()

    async def _find(self) -> list[_Question]:
        """Look for all programs in one pass. Where that takes too long, look for those of each language in
        one, and leave out a language that takes too long alone: the file of one costs no other."""
        with suppress(TooLong):
            return await _questions(self._sandbox, self._languages)
        questions: list[_Question] = []
        for language in self._languages:
            try:
                questions += await _questions(self._sandbox, [language])
            except TooLong as error:
                told = error.message
                log.warning("a language takes too long to look for", id=language.id, reason=told)
        return questions

    async def ask(self, languages: Collection[str], tell: Tell = unheard) -> None:
        """Ask for these languages, some at once.

        Raises SandboxUnavailable when a program could not be asked: it may be there, and would be missing as
        long as this process lives."""
        limiter = trio.CapacityLimiter(_AT_ONCE)
        failed: list[SandboxUnavailable] = []  # raised below: the nursery would wrap it
        asked = [each for each in self._open if each.language.id in languages]
        ended = 0

        async def ask_one(question: _Question) -> None:
            nonlocal ended
            try:
                async with limiter:
                    await self._ask(question)
            except SandboxUnavailable as error:
                failed.append(error)
                nursery.cancel_scope.cancel()
                return
            ended += 1
            tell(f"trying compilers, interpreters and formatters: {ended} of {len(asked)}")

        try:
            async with trio.open_nursery() as nursery:
                for each in asked:
                    nursery.start_soon(ask_one, each)
        finally:
            if asked:
                self._save()
            self._answer()
        if failed:
            raise failed[0]

    async def ask_rest(self, tell: Tell = unheard) -> None:
        """As `ask`, for all that have not been asked."""
        await self.ask(self._sandbox.languages.keys(), tell)

    async def run(self) -> bool:
        """Ask the rest once, one after the other beside the programs of users. Whether all could be asked. A
        program that brings about a fault of ours is not asked again."""
        if not self._open:
            return True
        log.info("looking for more languages", programs=len(self._open))
        try:
            for question in tuple(self._open):
                try:
                    await self._ask(question)
                except SandboxUnavailable as error:
                    self._trouble.tell(error)
                except Exception:
                    log.exception("a program is not asked again", program=question.file.path)
                    self._open.remove(question)
                else:
                    self._trouble.over()
                self._answer()
        finally:
            self._save()
        log.info("languages were found", languages=len(self.available))
        return not self._open

    def _save(self) -> None:
        if self._cache is None:
            return
        answers = {key: answer for key, answer in self._known.items() if answer}
        with suppress(OccdError), written(self._cache, replace=True) as file:  # it only saves time
            file.write(json.dumps(answers).encode())

    async def _ask(self, question: _Question) -> None:
        """Raises SandboxUnavailable."""
        file = question.file
        self._untried.discard(question)
        try:
            answer = await question.ask(self._sandbox)
        except SandboxFailed as error:
            what = f"{file.path} in {named(file.root)} could not be tried"
            raise SandboxUnavailable(f"{what}: {error}", remedy_of(error, file.root)) from error
        self._open.remove(question)
        if answer is None:
            log.warning(
                "a program met a limit while it was asked for its version", program=file.path
            )
        else:
            self._known[question.fingerprint] = answer

    def _answer(self) -> None:
        """Tell the languages of which each version was asked: programs without a version get the newest."""
        partly = {each.language.id for each in self._untried}
        versions: dict[str, dict[Found, str]] = {}
        formatters: dict[str, InstalledFormatter] = {}
        for each in self._questions:
            answer = self._known.get(each.fingerprint)
            if not answer or each.language.id in partly:
                continue
            if each.formatter is None:
                versions.setdefault(each.language.id, {})[each.file] = answer
            else:
                installed = InstalledFormatter(each.formatter, each.file.path, each.file.root)
                formatters.setdefault(each.language.id, installed)  # the best comes first
        roots = self._sandbox.roots
        self.available = {name: _newest_first(each, roots) for name, each in versions.items()}
        self.formatters = {id: each for id, each in formatters.items() if id in versions}


class Probed:
    """The languages of a sandbox are those that its probe found."""

    probe: Probe

    @property
    def available(self) -> Available:
        return self.probe.available

    @property
    def formatters(self) -> Formatters:
        return self.probe.formatters

    async def look_further(self) -> bool:
        return await self.probe.run()


async def _questions(sandbox: Sandbox, languages: Sequence[Language]) -> list[_Question]:
    """Raises SandboxUnavailable, and TooLong."""
    found = await find(sandbox, _patterns(languages))
    return [each for language in languages for each in _about(language, found)]


def _patterns(languages: Sequence[Language]) -> list[str]:
    formatters = [formatter for language in languages for formatter in language.formatters]
    programs: list[Language | Formatter] = [*languages, *formatters]
    return [pattern for each in programs for pattern in each.candidates]


def _about(language: Language, found: Mapping[str, Sequence[Found]]) -> Iterator[_Question]:
    """Of formatters the best first."""
    described = repr(language)

    def question(file: Found, formatter: Formatter | None = None) -> _Question:
        parts = (file.path, file.mark, file.root, described, formatter)
        digest = hashlib.sha256(repr(parts).encode(errors="surrogateescape")).hexdigest()
        return _Question(language, file, formatter, digest)

    for pattern in language.candidates:
        yield from map(question, found[pattern])
    for formatter in language.formatters:
        for pattern in formatter.candidates:
            for file in found[pattern]:
                yield question(file, formatter)


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


def _newest_first(answers: dict[Found, str], roots: Sequence[str]) -> tuple[Installed, ...]:
    """One binary for each version: that of the first root, and there of two names the shorter."""
    by_version: dict[str, Installed] = {}
    for file in sorted(
        answers, key=lambda each: (roots.index(each.root), len(each.path), each.path)
    ):
        installed = Installed(answers[file], file.path, file.root)
        by_version.setdefault(installed.version, installed)
    return tuple(sorted(by_version.values(), key=lambda each: each.order, reverse=True))


async def why_unanswered(sandbox: Sandbox, language: Language) -> list[str]:
    """Why no candidate of a language told its version, in words: a line for each.

    Raises SandboxFailed and SandboxUnavailable."""
    try:
        seen = await find(sandbox, _patterns([language]))
    except TooLong as error:
        return [f"`candidates`, with those of `formatters`: {error.message}"]
    return [
        f"{file.path}: {await _why_unanswered(sandbox, language, file)}"
        for pattern in language.candidates
        for file in seen[pattern]
    ]


async def _why_unanswered(sandbox: Sandbox, language: Language, file: Found) -> str:
    nothing = f"finds no version of at most {_VERSION_MAX} characters"
    looked = f"`version_pattern` '{language.version_pattern}' {nothing}"
    if not language.version:
        return f"{looked} in the path"
    argv = language.version_argv(file.path)
    outcome, text = await _told(sandbox, language, file)
    wrote = repr(text[:_SHOWN]) + (" …" if len(text) > _SHOWN else "")
    if outcome.succeeded:
        return f"{looked} in what `{shlex.join(argv)}` wrote: {wrote}"
    how = outcome.signal or f"exit code {outcome.exit_code}"
    if limit := outcome.limit:
        how = f"a stop at its limit of {rules.met(limit, getattr(_PROBE_LIMITS, limit))}"
    return f"`{shlex.join(argv)}`, which asks for its version, ended with {how}, and wrote: {wrote}"


async def _version(sandbox: Sandbox, language: Language, file: Found) -> str | None:
    if language.version_text:
        return language.version_text
    if not language.version:
        return _found(language, file.path)
    outcome, text = await _told(sandbox, language, file)
    if not outcome.succeeded:
        return None if outcome.limit else ""
    return _found(language, text)


async def _told(sandbox: Sandbox, language: Language, file: Found) -> tuple[Outcome, str]:
    """Ask a program for its version. Returns how it ended, and what it wrote."""
    outcome = await _ended(sandbox, language, language.version_argv(file.path), file)
    return outcome, (outcome.stdout.head + outcome.stderr.head).decode(errors="replace")


def _found(language: Language, text: str) -> str:
    """The version that a text tells. A program chooses the text."""
    found = search(language.version_pattern, text)
    version = (found[1] or "") if found else ""
    return version if version.isprintable() and len(version) <= _VERSION_MAX else ""


async def _formats(
    sandbox: Sandbox, language: Language, formatter: Formatter, file: Found
) -> str | None:
    hello = File(language.file_name, language.hello.encode())
    given = Given(file.path, "", language.file_name, memory=_PROBE_LIMITS.memory)
    outcome = await _ended(sandbox, language, language.format_argv(formatter, given), file, hello)
    if not outcome.succeeded:
        return None if outcome.limit else ""
    return _FORMATS if outcome.stdout.size > 0 else ""


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


def _load(cache: Path | None) -> dict[str, str]:
    with suppress(OSError, ValueError):  # absent or damaged: ask again
        if cache:
            return _ANSWERS.validate_json(cache.read_bytes())
    return {}
