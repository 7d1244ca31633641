"""submit: checks a submission, records it, and queues it before the answer."""

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import trio

from occd import wire
from occd.broker import Broker
from occd.config import CeilingConfig, Config
from occd.errors import (
    BrokerUnavailable,
    FieldError,
    MessageTooLarge,
    OccdError,
    Rejected,
    StateUnavailable,
)
from occd.languages import Installed, Language, find, pick
from occd.model import File, Limits, Record, Submission, Summary, new_id
from occd.roles.heartbeat import announce
from occd.rules import Broken
from occd.state import Node, State
from occd.trouble import Trouble
from occd.web.schema import LimitsRequest, SubmissionRequest

_SWEEP_EVERY_S = 10.0
_SWEEP_OLDER_S = 30.0
_ACCEPT_TIMEOUT_S = 30.0
_RETRY_AFTER_S = 5
_OFFERED_S = 1.0


class Submit:
    def __init__(
        self, config: Config, broker: Broker, state: State, languages: dict[str, Language]
    ) -> None:
        self._config = config
        self._broker = broker
        self._state = state
        self._languages = languages
        self._known_offers: dict[str, list[Installed]] = {}
        self._offered_until = 0.0
        self._started_at = time.time()
        self._trouble = Trouble("the sweep will try again")
        self.stopping = trio.Event()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until `stopping` is set, queue the submissions of processes that died before queueing them."""
        async with trio.open_nursery() as nursery:
            await nursery.start(announce, self._state, self._describe)
            task_status.started()
            while not self.stopping.is_set():
                await self._sweep()
                with trio.move_on_after(_SWEEP_EVERY_S):
                    await self.stopping.wait()
            nursery.cancel_scope.cancel()

    @property
    def node(self) -> str:
        return self._config.node

    def _describe(self) -> Node:
        return Node(self.node, ("submit",), started_at=self._started_at)

    async def submit(
        self, request: SubmissionRequest, *, key: str | None, digest: str, owner: str | None
    ) -> Record:
        """Returns when the submission is queued for certain, also when the client has left.

        Raises Rejected, Conflict, QueueFull, StateUnavailable, or DataFolderError.
        """
        if self.stopping.is_set():
            raise Rejected("shutting-down", "the server is stopping")
        submission = replace(await self._admit(request), owner=owner)
        await self._refuse_what_nodes_do_not_know(submission)
        if owner and key:
            key = f"{owner} {key}"  # no key without an owner has a space
        with trio.move_on_after(_ACCEPT_TIMEOUT_S, shield=True):
            created = await self._state.create(submission, key, digest)
            if created.id == submission.id:
                await self._publish_new(submission)
                return _new(submission)
            if not created.published:  # the same request, so the same submission
                await self._publish(replace(submission, id=created.id))
            return await self._state.get(created.id, most=0)
        raise BrokerUnavailable("state and broker took too long", _RETRY_AFTER_S)

    async def _refuse_what_nodes_do_not_know(self, submission: Submission) -> None:
        """Raises Rejected for a later field that a live execute node does not understand. A node that joins
        afterwards and does not understand the field refuses the message."""
        if not (later := wire.later_fields(submission)):
            return
        nodes = [node for node in await self._state.nodes() if "execute" in node.roles]
        errors = [
            FieldError(field, "is not understood yet by every node that runs programs")
            for field in later
            if not nodes or any(field not in (node.accepts or ()) for node in nodes)
        ]
        if errors:
            detail = "; ".join(f"{each.field} {each.message}" for each in errors)
            raise Rejected("no-nodes", detail, errors)

    async def get(self, id: str, most: int | None = None) -> Record:
        return await self._state.get(id, most)

    async def owned(self, owner: str, before: str | None, limit: int) -> Sequence[Summary]:
        return await self._state.owned(owner, before, limit)

    async def settled(self, id: str, most: int | None = None) -> Record:
        return await self._state.settled(id, most)

    async def cancel(self, id: str, most: int | None = None) -> tuple[Record, bool]:
        with trio.move_on_after(_ACCEPT_TIMEOUT_S, shield=True):
            cancelling = await self._state.cancel(id)
            record = await self._state.get(id, most)
            if (
                cancelling and record.status == "finished"
            ):  # it waited, and freed its place in the queue
                await self._broker.withdraw(self._config.submission_queue, id)
            return record, cancelling
        raise StateUnavailable("state took too long", _RETRY_AFTER_S)

    async def languages(self) -> list[dict[str, Any]]:
        """The languages that some execute node can run now."""
        offered = await self._offered()
        return [
            {
                "id": language.id,
                "name": language.name,
                "versions": [each.version for each in offered[language.id]],
                "aliases": list(language.aliases),
                "file_name": language.file_name,
                "editor_mode": language.editor_mode,
                "flags": {"compiled": language.compile is not None},
                "hello": language.hello.lstrip(),
                "example": language.example.lstrip(),
                "example_stdin": language.example_stdin,
                "limits": _limits_json(language.limits),
            }
            for language in self._languages.values()
            if language.id in offered
        ]

    def limits(self) -> dict[str, Any]:
        http = self._config.http
        return {
            "defaults": _limits_json(Limits()),
            "ceilings": self._config.ceilings.model_dump(),
            "body_bytes": http.body_max_bytes,
            "sources_bytes": http.sources_max_bytes,
            "wait_s": http.wait_max_s,
            "queue": self._config.queue.length_max,
            "results_kept_s": self._config.results.keep_s,
        }

    async def _publish_new(self, submission: Submission) -> None:
        """Publish a submission. If the broker does not take it, forget it, and the client gets an error. Only
        the recorder may forget it, since a repetition of the request may have published it meanwhile."""
        try:
            await self._publish(submission)
        except OccdError:
            await self._state.discard(submission.id)  # noqa: ASYNC120  (submit() shields and bounds it)
            raise

    async def _publish(self, submission: Submission) -> None:
        queue, body = self._config.submission_queue, wire.encode_submission(submission)
        await self._broker.publish(
            queue, body, key=submission.id, owner=submission.owner or submission.user_id
        )
        await self._state.published(submission.id)

    async def _sweep(self) -> None:
        with self._trouble.survived():
            for submission in await self._state.unpublished(time.time() - _SWEEP_OLDER_S):
                try:
                    await self._publish(submission)
                except MessageTooLarge:  # for ever: it must not block the submissions behind it
                    await self._state.discard(submission.id)

    async def _admit(self, request: SubmissionRequest) -> Submission:
        if request.sources_bytes > self._config.http.sources_max_bytes:
            most = self._config.http.sources_max_bytes
            raise Rejected("too-large", f"source and files exceed {most} bytes")
        language = await self._language(request)
        limits = _resolve(request.limits, language.limits, self._config.ceilings)
        try:
            return _submission(request, language, limits)
        except Broken as error:
            raise _invalid(error.field or "submission", error.message) from None

    async def _language(self, request: SubmissionRequest) -> Language:
        language = find(self._languages.values(), request.language)
        if language is None:
            raise _invalid(
                "language",
                f"{request.language!r} is unknown: see /api/v1/languages",
                "unknown-language",
            )
        offered = await self._offered()
        versions = offered.get(language.id)
        if not offered:
            # We know of no node. Nodes may be about to start, or cannot announce themselves: this need not be
            # the client's fault.
            raise Rejected("no-nodes", "no node that runs programs is there now")
        if versions is None:
            message = f"{language.name} is not installed on this server"
            raise _invalid("language", message, "language-unavailable")
        if versions and not pick(versions, request.version):
            have = ", ".join(each.version for each in versions)
            raise _invalid(
                "version", f"{request.version} is not here; there is {have}", "unknown-version"
            )
        if request.compile_args and not language.compile:
            raise _invalid("compile_args", f"{language.name} is not compiled")
        return language

    async def _offered(self) -> dict[str, list[Installed]]:
        """Versions by language, newest first, over all nodes, at most a second old. A promised language is
        offered even while no node is there. Where languages are promised, no other language is offered."""
        now = trio.current_time()
        if now > self._offered_until:
            self._known_offers = await self._offers()
            # Without nodes, look each time, so that the first node is seen at once.
            self._offered_until = now + _OFFERED_S if any(self._known_offers.values()) else 0.0
        return self._known_offers

    async def _offers(self) -> dict[str, list[Installed]]:
        promised = self._config.languages
        found: dict[str, set[Installed]] = {name: set() for name in promised}
        for node in await self._state.nodes():
            for name, versions in node.languages.items():
                if not promised or name in promised:
                    answers = {Installed(version, "") for version in versions}
                    found.setdefault(name, set()).update(answers)
        return {
            name: sorted(each, key=lambda installed: installed.order, reverse=True)
            for name, each in found.items()
        }


def _submission(request: SubmissionRequest, language: Language, limits: Limits) -> Submission:
    """Raises Broken when the fields are right but break a rule together."""
    files = [File(file.name, file.content) for file in request.files]
    if request.source is not None:
        main = language.source_name(request.source, files)
        if any(file.name == main for file in files):
            raise Broken(f"{main} is the name of source itself", "files")
        files.insert(0, File(main, request.source))
    else:
        main = _main(language, files)
    return Submission(
        id=new_id(),
        language=language.id,
        version=request.version,
        main=main,
        files=tuple(files),
        stdin=request.stdin,
        args=tuple(request.args),
        env=tuple(request.env.items()),
        compile_args=tuple(request.compile_args),
        limits=limits,
        interactive=request.interactive,
        user_id=request.user_id,
        created_at=time.time(),
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


def _new(submission: Submission) -> Record:
    return Record(
        submission.id,
        submission.language,
        "queued",
        0,
        submission.created_at,
        retry_of=submission.retry_of,
    )


def _invalid(field: str, message: str, kind: str = "invalid") -> Rejected:
    return Rejected(kind, f"{field}: {message}", [FieldError(field, message)])


def _resolve(asked: LimitsRequest, default: Limits, ceiling: CeilingConfig) -> Limits:
    """Fill in the defaults. Raises Rejected, which names each limit beyond its ceiling."""
    chosen = {name: value for name, value in asked.model_dump().items() if value is not None}
    errors = [
        FieldError(
            f"limits.{name}", f"{value} is above this server's ceiling of {getattr(ceiling, name)}"
        )
        for name, value in chosen.items()
        if value > getattr(ceiling, name)
    ]
    if errors:
        detail = "; ".join(f"{each.field}: {each.message}" for each in errors)
        raise Rejected("limit-above-ceiling", detail, errors)
    values = _limits_json(default) | chosen
    if "wall_time" not in chosen:
        values["wall_time"] = min(max(10.0, 2 * values["cpu_time"]), ceiling.wall_time)
    return Limits(**values)


def _limits_json(limits: Limits) -> dict[str, Any]:
    return {name: getattr(limits, name) for name in LimitsRequest.model_fields}
