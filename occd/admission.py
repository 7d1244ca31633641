"""The gate: every `Submission` is made here, of a request and a principal, or the request is refused.

HTTP, the WebSocket, `occd queues requeue` and `occd run` come through it. It knows none of them. The kind of
work is the kind of the request.

The order of checks is: size, language, ceilings, the rules of the model, and the fields that nodes
understand. The edge has counted and read the fields before; the queue's bound comes afterwards. Every refusal
is a Rejected that names the fields.
"""

import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Protocol

import trio

from occd import wire
from occd.ceilings import Ceilings, limits_by_name
from occd.config import Config
from occd.errors import FieldError, Rejected
from occd.judging import CHECKER_LIMITS, Checker, Judging, ProgramChecker, Test, TextChecker
from occd.languages import Language
from occd.languages.finding import find, unknown
from occd.languages.installed import Installed, Offer, formats, pick
from occd.model import File, Limits, Submission, new_id
from occd.principal import Principal
from occd.request import CheckerRequest, ProgramRequest, Request, TestRequest
from occd.rules import Broken
from occd.trace import HERE, here

_NO_NODE = "no node that runs programs is there now"

_OFFERED_S = 1.0

_LOOKED_S = 60.0
"""In this time after its start a node may have not found a language yet."""


class Node(Protocol):
    """The part of a live node that the gate reads; see `occd.state.Node`."""

    @property
    def roles(self) -> Sequence[str]: ...

    @property
    def languages(self) -> Mapping[str, tuple[str, ...]]: ...

    @property
    def accepts(self) -> frozenset[str] | None: ...

    @property
    def started_at(self) -> float: ...


class Gate:
    def __init__(
        self,
        config: Config,
        languages: Mapping[str, Language],
        nodes: Callable[[], Awaitable[Sequence[Node]]],
    ) -> None:
        """`nodes` gives the live nodes."""
        self._config = config
        self._languages = languages
        self._nodes = nodes
        self._known_offers: dict[str, list[Installed]] = {}
        self._offered_until = 0.0
        self._told: Sequence[Offer] = ()
        self._told_of: Mapping[str, Sequence[Installed]] | None = None

    async def admit(self, request: Request, principal: Principal) -> Submission:
        """Raises Rejected, and what `nodes` raises."""
        most = self._config.http.sources_max_bytes
        if request.sources_bytes > most:
            raise Rejected("too-large", f"source and files exceed {most} bytes")
        language = await self._language(request.language, request.version, request.compile_args)
        try:
            ceilings = self._ceilings(principal)
            limits = await self._limits_of(request, language, ceilings)
            judging = await self._judging(request, limits, ceilings)
            submission = _submission(request, principal, language, limits, judging)
        except Broken as error:
            raise _invalid(error.field or "submission", error.message) from None
        self._refuse_trace(submission, principal)
        await self._refuse_what_nodes_do_not_know(submission)
        return submission

    async def again(
        self, earlier: Submission, principal: Principal, *, may_wait: bool = False
    ) -> Submission:
        """A new submission that repeats an earlier one, whatever became of the earlier one. Some node must
        have its languages now, unless it `may_wait` for one. Raises Rejected, and what `nodes` raises."""
        judging = earlier.judging
        programs = judging.programs if judging else ()
        wanted = [(each.language, each.version) for each in programs]
        for name, version in [(earlier.language, earlier.version), *wanted]:
            language = find(self._languages, name)
            if language is None:
                raise self._unknown(name)
            if not may_wait:
                await self._refuse_what_no_node_has(language, version)
        tests = [test.limits for test in judging.tests if test.limits] if judging else []
        chosen = {earlier.limits, *tests, *(each.limits for each in programs)}
        ceilings = self._ceilings(principal)
        if ceilings.lowered(CHECKER_LIMITS) == CHECKER_LIMITS:  # nobody asked for these
            chosen.discard(CHECKER_LIMITS)
        for limits in chosen:
            ceilings.refuse_above(limits_by_name(limits), interactive=earlier.interactive)
        submission = replace(
            earlier,
            id=new_id(),
            created_at=time.time(),
            owner=principal.owner,
            retry_of=earlier.id,
        )
        self._refuse_trace(submission, principal)
        await self._refuse_what_nodes_do_not_know(submission, may_wait=may_wait)
        return submission

    async def offered(self) -> Sequence[Offer]:
        """The languages that some node can run now, at most a second old: the same object until they change.
        Raises what `nodes` raises."""
        offers = await self._offered()
        if offers is not self._told_of:
            nodes = await self._executing()
            told = [
                Offer(
                    each,
                    offers[each.id],
                    _all_understand(nodes, formats(each.id)),
                    all(_traces(nodes, each.id, one) for one in _asked_for(offers[each.id])),
                )
                for each in self._languages.values()
                if each.id in offers
            ]
            self._told_of = offers
            if told != self._told:
                self._told = told
        return self._told

    async def _judging(
        self, request: Request, limits: Limits, ceilings: Ceilings
    ) -> Judging | None:
        """Raises Broken for tests that do not go together, Rejected for their programs and limits."""
        if not request.tests:
            for name in ("groups", "checker", "stop_on_failure"):
                if getattr(request, name):
                    raise Broken("needs tests", name)
            return None
        tests = []
        for at, test in enumerate(request.tests):
            await trio.lowlevel.checkpoint()  # a checker's text may take 15 ms to be named
            with _within(f"tests.{at}"):
                tests.append(await self._test(test, str(at + 1), limits, ceilings))
        with _within("checker"):
            checker = request.checker
            common = await self._checker(checker, ceilings) if checker else TextChecker()
        return Judging(tuple(tests), request.groups, common, request.stop_on_failure)

    async def _test(
        self, asked: TestRequest, number: str, limits: Limits, ceilings: Ceilings
    ) -> Test:
        """`limits` are those of the submission."""
        own: Limits | None = None
        if asked.limits:
            kept = {} if "cpu_time" in asked.limits else {"wall_time": limits.wall_time}
            own = ceilings.filled(kept | dict(asked.limits), limits)
        with _within("checker"):
            checker = await self._checker(asked.checker, ceilings) if asked.checker else None
        return Test(
            asked.name or number,
            asked.stdin,
            asked.args,
            asked.files,
            asked.expected_stdout,
            checker,
            own,
            asked.group,
            asked.weight,
        )

    async def _checker(self, asked: CheckerRequest, ceilings: Ceilings) -> Checker:
        if not isinstance(asked, ProgramRequest):
            return asked
        with _within("program"):
            return await self._program(asked, ceilings)

    async def _program(self, asked: ProgramRequest, ceilings: Ceilings) -> ProgramChecker:
        language = await self._language(asked.language, asked.version, asked.compile_args)
        main, files = _files(asked.source, asked.files, language)
        return ProgramChecker(
            language.id,
            main,
            files,
            asked.protocol,
            asked.version,
            asked.args,
            asked.compile_args,
            ceilings.filled(asked.limits, CHECKER_LIMITS)
            if asked.limits
            else ceilings.lowered(CHECKER_LIMITS),
        )

    async def _language(
        self, name: str, version: str | None, compile_args: Sequence[str]
    ) -> Language:
        language = find(self._languages, name)
        if language is None:
            raise self._unknown(name)
        await self._refuse_what_no_node_has(language, version)
        if compile_args and not language.compile:
            raise _invalid("compile_args", f"{language.name} is not compiled")
        return language

    async def _refuse_what_no_node_has(self, language: Language, version: str | None) -> None:
        offered = await self._offered()
        versions = offered.get(language.id)
        if not offered:
            # We know of no node. Nodes may be about to start, or cannot announce themselves: this need not be
            # the client's fault.
            raise Rejected("no-nodes", _NO_NODE)
        if versions is None:
            message = f"{language.name} is not installed on this server"
            started = max((node.started_at for node in await self._executing()), default=0.0)
            if time.time() - started < _LOOKED_S:
                message += (
                    ", or was not found yet: a server has just started. Try again in a minute"
                )
            raise _invalid("language", message, "language-unavailable")
        if versions and not pick(versions, version):
            have = ", ".join(each.version for each in versions)
            raise _invalid("version", f"{version} is not here; there is {have}", "unknown-version")

    async def _offered(self) -> dict[str, list[Installed]]:
        """Versions by language, newest first, over all nodes, at most a second old. A promised language is
        offered even while no node is there. Where languages are promised, no other language is offered."""
        now = trio.current_time()
        if now >= self._offered_until:
            self._known_offers = _offers(await self._nodes(), self._config.languages)
            # Without nodes, look each time, so that the first node is seen at once.
            self._offered_until = now + _OFFERED_S if any(self._known_offers.values()) else 0.0
        return self._known_offers

    async def _limits_of(self, request: Request, language: Language, ceilings: Ceilings) -> Limits:
        """The limits that hold for this request. While some node does not know the limit on idle time, the
        wall time of an interactive program stays that of other programs."""
        interactive = _is_interactive(request)
        return ceilings.filled_for_run(
            request.limits,
            language.limits,
            tty=request.tty is not None,
            interactive=interactive,
            idles=interactive and await self._understood("limits.idle"),
        )

    def _refuse_trace(self, submission: Submission, principal: Principal) -> None:
        if not submission.trace:
            return
        if not self._config.sandbox.trace:
            raise _invalid("trace", "this server traces no programs")
        if not self._config.traces(principal.class_name):
            raise _invalid("trace", "is not for your class")

    def _ceilings(self, principal: Principal) -> Ceilings:
        accounts = self._config.accounts
        of_class = accounts.classes.get(principal.class_name or "") if accounts else None
        return Ceilings(self._config, of_class.ceilings if of_class else None)

    async def _refuse_what_nodes_do_not_know(
        self, submission: Submission, *, may_wait: bool = False
    ) -> None:
        """Refuse a later field that a live execute node does not understand, and a formatter that some node
        does not have; and without live execute nodes every later field, unless the submission `may_wait` for
        one. A node that joins afterwards and does not understand the field refuses the message."""
        if not (later := wire.later_fields(submission)):
            return
        nodes = await self._executing()
        if not nodes:
            if may_wait:
                return
            raise Rejected("no-nodes", _NO_NODE)
        unknown = {field for field in later if not _all_understand(nodes, field)}
        errors = [
            FieldError(field, "is not understood yet by every node that runs programs")
            for field in later
            if field in unknown and field.rpartition(".")[0] not in unknown
        ]
        if errors:
            detail = "; ".join(f"{each.field} {each.message}" for each in errors)
            raise Rejected("no-nodes", detail, errors)
        if submission.format and not _all_understand(nodes, formats(submission.language)):
            name = self._languages[submission.language].name
            raise _invalid("format", f"no formatter for {name} is installed on this server")
        if submission.trace and not _traces(nodes, submission.language, submission.version):
            raise _invalid("trace", await self._why_untraced(nodes, submission.language))

    async def _why_untraced(self, nodes: Sequence[Node], language: str) -> str:
        name, offers = self._languages[language].name, (await self._offered()).get(language, ())
        traced = [one.version for one in offers if _traces(nodes, language, one.version)]
        if traced:
            return f"not every node can trace this version of {name}; choose {' or '.join(traced)}"
        return f"not every node can trace {name}: `occd doctor` tells why, on the node"

    async def _understood(self, field: str) -> bool:
        return _all_understand(await self._executing(), field)

    async def _executing(self) -> Sequence[Node]:
        return [node for node in await self._nodes() if "execute" in node.roles]

    def _unknown(self, name: str) -> Rejected:
        told = f"{unknown(self._languages, name)}; GET /languages lists them all"
        return _invalid("language", told, "unknown-language")


def _is_interactive(request: Request) -> bool:
    return request.interactive or request.tty is not None


def _all_understand(nodes: Sequence[Node], field: str) -> bool:
    return bool(nodes) and all(field in (node.accepts or ()) for node in nodes)


def _asked_for(versions: Sequence[Installed]) -> Sequence[str | None]:
    return [each.version for each in versions] or [None]


def _traces(nodes: Iterable[Node], language: str, wanted: str | None) -> bool:
    """Whether every node can trace what it would run of this language. One that has not got the language is
    not asked."""
    answers = [_traces_here(node, language, wanted) for node in nodes]
    return True in answers and False not in answers


def _traces_here(node: Node, language: str, wanted: str | None) -> bool | None:
    """None: nothing would run there."""
    accepts = node.accepts or ()
    if HERE in accepts:
        return True
    runs = pick([Installed(each, "") for each in node.languages.get(language, ())], wanted)
    return here(language, runs.version) in accepts if runs else None


def _offers(nodes: Iterable[Node], promised: Sequence[str]) -> dict[str, list[Installed]]:
    found: dict[str, set[Installed]] = {name: set() for name in promised}
    for node in nodes:
        for name, versions in node.languages.items():
            if not promised or name in promised:
                answers = {Installed(version, "") for version in versions}
                found.setdefault(name, set()).update(answers)
    return {
        name: sorted(each, key=lambda installed: installed.order, reverse=True)
        for name, each in found.items()
    }


@contextmanager
def _within(part: str) -> Iterator[None]:
    """Errors inside name the part of the request."""
    try:
        yield
    except Broken as error:
        where = f"{part}.{error.field}" if error.field else part
        raise Broken(error.message, where) from None
    except Rejected as error:
        errors = [FieldError(f"{part}.{each.field}", each.message) for each in error.errors]
        raise Rejected(error.kind, f"{part}.{error}", errors) from None


def _files(
    source: bytes | None, given: Sequence[File], language: Language
) -> tuple[str, tuple[File, ...]]:
    """The name of the main file, and all files."""
    if source is None:
        return _main(language, given), tuple(given)
    main = language.source_name(source, given)
    if any(file.name == main for file in given):
        raise Broken(f"{main} is the name of source itself", "files")
    return main, (File(main, source), *given)


def _submission(
    request: Request,
    principal: Principal,
    language: Language,
    limits: Limits,
    judging: Judging | None,
) -> Submission:
    """Raises Broken when the fields break a rule, each alone or together."""
    main, files = _files(request.source, request.files, language)
    return Submission(
        id=new_id(),
        language=language.id,
        version=request.version,
        main=main,
        files=files,
        stdin=request.stdin,
        args=request.args,
        env=request.env,
        compile_args=request.compile_args,
        limits=limits,
        interactive=_is_interactive(request),
        user_id=request.user_id,
        created_at=time.time(),
        owner=principal.owner,
        judging=judging,
        artifacts=request.artifacts,
        tty=request.tty,
        detached=request.detached,
        format=request.format,
        trace=request.trace,
        cache=request.cache,
    )


def _main(language: Language, files: Sequence[File]) -> str:
    main = language.main_of(files)
    if main is None:
        suffixes = " or ".join(language.sources)
        message = (
            f"none is {language.name}: call the main one {language.file_name}, "
            f"or let its name end in {suffixes}"
        )
        raise _invalid("files", message)
    return main


def _invalid(field: str, message: str, kind: str = "invalid") -> Rejected:
    return Rejected(kind, f"{field}: {message}", [FieldError(field, message)])
