"""submit: records a submission that the gate admitted, and queues it before the answer."""

import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from dataclasses import replace

import structlog
import trio

from occd import metrics, wire
from occd.admission import Gate
from occd.broker import Broker
from occd.cancelling import cancel
from occd.config import Config
from occd.draining import Draining
from occd.errors import (
    BrokerUnavailable,
    Conflict,
    MessageTooLarge,
    OccdError,
    Poisoned,
    QuotaUsedUp,
    Rejected,
    StateUnavailable,
    Unreadable,
)
from occd.events import LogEntry
from occd.execution.storing import most_stored
from occd.languages import Language
from occd.languages.finding import find
from occd.languages.installed import Offer
from occd.model import Accepted, Record, Submission, Summary
from occd.principal import Principal, as_version_1
from occd.quotas import Allowance, Payer, Quota
from occd.request import Request
from occd.roles.following import Following
from occd.roles.heartbeat import announce
from occd.state import Created, Node, State
from occd.together import together
from occd.trouble import Trouble

log = structlog.get_logger()

_SWEEP_EVERY_S = 10.0
_SWEEP_OLDER_S = 30.0
_ACCEPT_TIMEOUT_S = 30.0
_RETRY_AFTER_S = 5


class Submit:
    def __init__(
        self,
        config: Config,
        broker: Broker,
        state: State,
        languages: Mapping[str, Language],
        draining: Draining | None = None,
    ) -> None:
        self._config = config
        self._broker = broker
        self._state = state
        self._together = together(config, broker, state)
        self._languages = languages
        self._gate = Gate(config, languages, state.nodes.live)
        self._queueing: dict[str, trio.Event] = {}
        """By id: what is being recorded and queued by this process now."""
        self._draining = draining or Draining()
        self._draining.counts(lambda: self._taking)
        self._taking = 0
        """Requests under way whose submissions may be admitted, or are not all queued."""
        self._reserved: set[str] = set()
        """The ids that were admitted, and of which it is certain that they are not recorded."""
        self._following = Following(state)
        self._started_at = time.time()
        self._trouble = Trouble("the sweep will try again")
        self.stopping = trio.Event()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until `stopping` is set, queue the submissions of processes that died before queueing them."""
        async with trio.open_nursery() as nursery:
            await nursery.start(
                announce,
                self._state.nodes,
                self._describe,
                lambda: None,
                lambda: self._draining.changed,
            )
            nursery.start_soon(self._following.run)
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
        roles = ("draining", "submit") if self._draining.on else ("submit",)
        return Node(self.node, roles, started_at=self._started_at)

    async def submit(
        self, request: Request, principal: Principal, *, key: str | None, digest: str
    ) -> Accepted:
        """`admit` and `accept`."""
        with self.taking():
            submission = await self.admit(request, principal)
            return await self.accept(submission, principal, key=key, digest=digest)

    @contextmanager
    def taking(self) -> Iterator[None]:
        """Around `admit` and all of `accept`: a drain lets what has begun so come to its end."""
        self._taking += 1
        try:
            yield
        finally:
            self._taking -= 1

    async def admit(self, request: Request, principal: Principal) -> Submission:
        """Nothing is recorded yet. Raises Rejected, StateUnavailable, or DataFolderError."""
        self._refuse_when_stopping()
        self._refuse_when_draining()
        return await self._gate.admit(request, principal)

    async def accept(
        self, submission: Submission, principal: Principal, *, key: str | None, digest: str
    ) -> Accepted:
        """Returns when the submission is queued for certain, also when the client has left.

        Raises Rejected, Conflict, QuotaUsedUp, QueueFull, StateUnavailable, or DataFolderError.
        """
        self._refuse_when_stopping()
        key = _key_of(submission, key)
        queued = self._queueing[submission.id] = trio.Event()
        try:
            with trio.move_on_after(_ACCEPT_TIMEOUT_S, shield=True):
                return await self._accept(submission, principal, key, digest)
        except QuotaUsedUp as error:
            _count_refusal(error, principal)
            raise
        finally:
            del self._queueing[submission.id]
            queued.set()
        raise BrokerUnavailable("state and broker took too long", _RETRY_AFTER_S)

    async def _accept(
        self, submission: Submission, principal: Principal, key: str | None, digest: str
    ) -> Accepted:
        payer, turn = self._payer(principal), _turn(submission, principal)
        stores = self._stores(submission, payer)
        while True:
            created, queued = await self._create(submission, turn, key, digest, payer, stores)
            if created.id == submission.id:
                if not queued:
                    await self._publish_new(submission, turn, payer)
                metrics.ACCEPTED.inc()
                log.debug("accepted", submission=submission.id, owner=submission.owner)
                return Accepted(_new(submission), created.quotas)
            # The same request, so the same submission.
            first = self._queueing.get(created.id)
            if first is not None and not created.published:
                await first.wait()  # it may fail; then this request is the first one
                continue
            if not created.published:  # by another process, which may have died
                await self._publish(replace(submission, id=created.id), turn)
            return Accepted(await self._state.submissions.get(created.id), created.quotas)

    async def _create(
        self,
        submission: Submission,
        turn: str | None,
        key: str | None,
        digest: str,
        payer: Payer | None,
        stores: int,
    ) -> tuple[Created, bool]:
        """Record it, and queue it if that is one step; whether it was. A place that was reserved is given
        back where it is certain that nothing was recorded. An outage leaves that open: then the sweep of
        state gives the place back, if there is no submission."""
        mine = self._reserved & {submission.id}
        self._reserved -= mine
        created: Created | None = None
        try:
            if self._together:
                created = await self._together.accept(submission, turn, key, digest, payer, stores)
            queued = created is not None
            if created is None:
                submissions = self._state.submissions
                created = await submissions.create(submission, key, digest, payer, stores)
        except Conflict:
            self._reserved |= mine
            raise
        if created.id != submission.id:
            self._reserved |= mine
        return created, queued

    @asynccontextmanager
    async def reserving(
        self, submissions: Sequence[Submission], principal: Principal, keys: Sequence[str | None]
    ) -> AsyncIterator[None]:
        """Admit all of these, which are accepted inside, or raise QuotaUsedUp and admit none. What was not
        accepted then is given back. `keys` has the idempotency key of each: those that were accepted earlier
        are free."""
        payer = self._payer(principal)
        if payer is None:
            yield
            return
        named = [_key_of(each, key) for each, key in zip(submissions, keys, strict=True)]
        stores = {
            each.id: self._stores(each, payer)
            for each, key in zip(submissions, named, strict=True)
            if key is None or not await self._state.submissions.known(key)
        }
        try:
            await self._state.quotas.admit(payer, stores)
        except QuotaUsedUp as error:
            _count_refusal(error, principal)
            raise
        self._reserved.update(stores)
        try:
            yield
        finally:
            left = self._reserved.intersection(stores)
            self._reserved -= left
            if left:
                with trio.move_on_after(_ACCEPT_TIMEOUT_S, shield=True):
                    await self._state.quotas.give_back(payer, left)

    async def quotas(self, principal: Principal) -> Sequence[Quota]:
        payer = self._payer(principal)
        return await self._state.quotas.admit(payer, {}) if payer else ()

    def _stores(self, submission: Submission, payer: Payer | None) -> int:
        """What a submission may store at most, for whom it counts."""
        if payer is None or payer.allowance.stored_bytes is None:
            return 0
        return most_stored(submission, find(self._languages, submission.language), self._config)

    def _payer(self, principal: Principal) -> Payer | None:
        """Who pays for what this principal submits; None where nothing is limited."""
        accounts = self._config.accounts
        if accounts is None or principal.counted is None or principal.class_name is None:
            return None
        allowance = accounts.classes[principal.class_name].allowance
        return Payer(principal.counted, allowance) if allowance != Allowance() else None

    async def rerun(self, id: str, principal: Principal, *, key: str | None) -> Accepted:
        """Submit again what was submitted under an id. The new submission belongs to `principal`.

        Raises UnknownSubmission, Unreadable, and what `submit` raises.
        """
        with self.taking():
            self._refuse_when_draining()
            earlier = await self._whole(id)
            if not earlier.files:
                raise Rejected(
                    "not-kept", "its files are not known any more: state was emptied meanwhile"
                )
            submission = await self._gate.again(earlier, principal)
            return await self.accept(submission, principal, key=key, digest=f"again {id}")

    async def erase(self, id: str, principal: Principal) -> None:
        """Forget a submission that has finished. What has an owner is erased by this owner only.

        Raises UnknownSubmission, Unreadable, Rejected, StateUnavailable, or DataFolderError.
        """
        submission = await self._whole(id)
        if submission.owner not in (None, principal.owner) and not principal.may("admin"):
            raise Rejected(
                "unauthorized", "only its owner may erase it: Authorization: Bearer SECRET"
            )
        with trio.move_on_after(_ACCEPT_TIMEOUT_S, shield=True):
            if await self._state.submissions.status(id) != "finished":
                raise Rejected("not-finished", "cancel it, and erase it when it has finished")
            await self._state.blobs.forget(id)  # first, so that a repetition finds what was left
            await self._state.submissions.erase(submission)
            return
        raise StateUnavailable("state took too long", _RETRY_AFTER_S)

    async def _whole(self, id: str) -> Submission:
        """Raises UnknownSubmission or Unreadable."""
        try:
            return await self._state.submissions.submission(id)
        except Poisoned as error:
            raise Unreadable(str(error)) from error

    def _refuse_when_stopping(self) -> None:
        if self.stopping.is_set():
            raise Rejected("shutting-down", "the server is stopping")

    def _refuse_when_draining(self) -> None:
        """Only before a submission is admitted: of a batch all or nothing is taken."""
        if self._draining.on:
            raise Rejected("shutting-down", "this server is being drained, and takes nothing more")

    async def get(self, id: str, output_max: int = 0) -> Record:
        return await self._state.submissions.get(id, output_max)

    async def entries(self, id: str, after: int, bytes_max: int) -> Sequence[LogEntry]:
        return await self._state.log.entries(id, after, bytes_max)

    async def watch(self, id: str, after: int) -> Sequence[LogEntry]:
        return await self._state.log.watch(id, after)

    def following(self, id: str) -> AbstractContextManager[None]:
        return self._following.following(id)

    async def blob(self, id: str, sha256: str) -> bytes | None:
        return await self._state.blobs.get(id, sha256)

    async def owned(self, owner: str, before: str | None, limit: int) -> Sequence[Summary]:
        return await self._state.submissions.owned(owner, before, limit)

    async def settled(self, id: str, output_max: int = 0) -> Record:
        return await self._following.settled(id, output_max)

    async def cancel(self, id: str, output_max: int = 0) -> tuple[Record, bool]:
        with trio.move_on_after(_ACCEPT_TIMEOUT_S, shield=True):
            queue = self._config.submission_queue
            return await cancel(self._state, self._broker, queue, id, output_max)
        raise StateUnavailable("state took too long", _RETRY_AFTER_S)

    async def languages(self) -> Sequence[Offer]:
        """The languages that some execute node can run now."""
        return await self._gate.offered()

    async def _publish_new(
        self, submission: Submission, turn: str | None, payer: Payer | None
    ) -> None:
        """Publish a submission. If the broker does not take it, forget it, and the client gets an error. Only
        the recorder may forget it, since a repetition of the request may have published it meanwhile."""
        try:
            await self._publish(submission, turn)
        except OccdError:
            await self._state.submissions.discard(submission.id, payer)  # noqa: ASYNC120  (accept() shields and bounds it)
            raise

    async def _publish(self, submission: Submission, turn: str | None) -> None:
        queue, body = self._config.submission_queue, wire.encode_submission(submission)
        await self._broker.publish(queue, body, key=submission.id, owner=turn)
        await self._state.submissions.published(submission.id)

    async def _sweep(self) -> None:
        with self._trouble.survived():
            for submission in await self._state.submissions.unpublished(
                time.time() - _SWEEP_OLDER_S
            ):
                try:
                    await self._publish(submission, submission.turn)
                except MessageTooLarge:  # for ever: it must not block the submissions behind it
                    await self._state.submissions.discard(submission.id)


def _count_refusal(error: QuotaUsedUp, principal: Principal) -> None:
    metrics.QUOTA_REFUSALS.labels(principal.class_name, error.quota.name).inc()


def _key_of(submission: Submission, key: str | None) -> str | None:
    """The idempotency key under which state knows a submission. No key without an owner has a space."""
    return f"{submission.owner} {key}" if submission.owner and key else key


def _turn(submission: Submission, principal: Principal) -> str | None:
    """Who takes turns in the queue with others: whose quotas are used up, so that owners that a client
    invents share one turn. Without accounts as the submission says. In the form of version 1."""
    return as_version_1(principal.counted) if principal.counted else submission.turn


def _new(submission: Submission) -> Record:
    return Record(
        submission.id,
        submission.language,
        "queued",
        0,
        submission.created_at,
        retry_of=submission.retry_of,
    )
