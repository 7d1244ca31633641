"""The gate: what it refuses, in which order, and what it makes of a request that it admits."""

import hashlib
import json
import operator
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import trio
import version1
from redis_server import shared_redis
from serving import API, serving
from test_cli import assert_refused, keep_dead_letters, occd, write
from trio.testing import MockClock

from occd import request, wire
from occd.admission import Gate
from occd.broker import Broker, open_broker
from occd.config import Config
from occd.errors import Conflict, QueueFull, Rejected, StateUnavailable
from occd.judging import CHECKER_LIMITS
from occd.languages.installed import formats
from occd.languages.loading import load_languages
from occd.model import File, Limits, Submission, Terminal
from occd.principal import NOBODY, Principal
from occd.request import ProgramRequest, Request
from occd.roles.submit import Submit
from occd.sqlite import open_database
from occd.state import open_state
from occd.state.embedded.tables import MIGRATIONS
from occd.state.redis.store import RedisStore
from occd.web.catalogue import Catalogue, Told

SECRET = "a-secret-of-enough-length"
OWNER = Principal("anon:" + hashlib.sha256(SECRET.encode()).hexdigest())
HELLO = Request("python", source=b"print(1)")


@dataclass
class Runs:
    """A node."""

    languages: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: {"python": ("3.11",)})
    roles: tuple[str, ...] = ("execute",)
    accepts: frozenset[str] | None = wire.FIELDS
    started_at: float = 0.0


def gate(*nodes: Runs, **settings: Any) -> Gate:
    async def live() -> Sequence[Runs]:
        return nodes

    return Gate(Config(**settings), load_languages(), live)


async def refusal(gate: Gate, request: Request) -> tuple[str, list[str]]:
    """Its kind, and the fields that it names."""
    with pytest.raises(Rejected) as refused:
        await gate.admit(request, NOBODY)
    return refused.value.kind, [each.field for each in refused.value.errors]


async def test_a_refusal_is_the_first_that_holds_in_this_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(wire, "LATER", ("interactive",))
    node = Runs(accepts=wire.FIELDS - {"interactive"})
    wrong = Request(
        "klingon",
        "9",
        b"x" * 9_000_000,
        args=("\0",),
        compile_args=("-O2",),
        limits={"cpu_time": 1e6, "memory": 2**40},
        interactive=True,
    )
    steps: list[tuple[str, list[str], dict[str, Any]]] = [
        ("too-large", [], {"source": b"1"}),
        ("unknown-language", ["language"], {"language": "rust"}),
        ("language-unavailable", ["language"], {"language": "python"}),
        ("unknown-version", ["version"], {"version": "3"}),
        ("invalid", ["compile_args"], {"compile_args": ()}),
        ("limit-above-ceiling", ["limits.cpu_time", "limits.memory"], {"limits": {}}),
        ("invalid", ["args"], {"args": ()}),
        ("no-nodes", ["interactive"], {"interactive": False}),
    ]
    for kind, fields, mended in steps:
        assert await refusal(gate(node), wrong) == (kind, fields)
        wrong = replace(wrong, **mended)
    assert (await gate(node).admit(wrong, NOBODY)).version == "3"


async def test_a_terminal_is_interactive_and_may_show_as_much_as_the_ceiling_allows() -> None:
    window = Terminal(24, 80)
    found = await gate(Runs()).admit(replace(HELLO, tty=window), NOBODY)
    assert (found.tty, found.interactive) == (window, True)
    ceilings = Config().ceilings
    assert found.limits == Limits(output=ceilings.output, wall_time=3600, idle=300)
    asked = replace(HELLO, tty=window, limits={"output": 5})
    assert (await gate(Runs()).admit(asked, NOBODY)).limits.output == 5
    again = await gate(Runs()).again(found, NOBODY)
    assert (again.tty, again.interactive, again.limits) == (window, True, found.limits)


ASKS = replace(HELLO, interactive=True)


async def time_of(request: Request, *nodes: Runs, **settings: Any) -> tuple[float, float | None]:
    limits = (await gate(*(nodes or [Runs()]), **settings).admit(request, NOBODY)).limits
    return limits.wall_time, limits.idle


async def test_an_interactive_program_has_time_for_its_client() -> None:
    assert await time_of(HELLO) == (10, None)
    assert await time_of(ASKS) == (3600, 300)
    rabbitmq = {"url": "amqp://localhost"}
    assert await time_of(ASKS, rabbitmq=rabbitmq) == (1500, 300)
    configured = {"interactive_s": 100, "idle": 50}
    assert await time_of(ASKS, rabbitmq=rabbitmq, ceilings=configured) == (100, 50)


async def test_limits_that_are_asked_for_win() -> None:
    assert await time_of(replace(ASKS, limits={"wall_time": 20})) == (20, None)
    assert await time_of(replace(ASKS, limits={"wall_time": 3600})) == (3600, None)
    assert await time_of(replace(ASKS, limits={"idle": 3600})) == (3600, 3600)
    assert await time_of(replace(ASKS, limits={"idle": 2, "wall_time": 9})) == (9, 2)
    for limits in {"wall_time": 3601}, {"idle": 3601}:
        (name,) = limits
        refused = await refusal(gate(Runs()), replace(ASKS, limits=limits))
        assert refused == ("limit-above-ceiling", [f"limits.{name}"])
    refused = await refusal(gate(Runs()), replace(HELLO, limits={"wall_time": 301}))
    assert refused == ("limit-above-ceiling", ["limits.wall_time"])


async def test_nodes_that_do_not_know_idle_time_keep_the_wall_time_of_before() -> None:
    behind = Runs(accepts=wire.FIELDS - {"limits.idle"})
    assert await time_of(ASKS, Runs(), behind) == (10, None)
    promised = await gate(languages=("python",)).admit(ASKS, NOBODY)  # no node is there
    assert (promised.limits.wall_time, promised.limits.idle) == (10, None)
    assert await refusal(gate(behind), replace(ASKS, limits={"idle": 9})) == (
        "no-nodes",
        ["limits.idle"],
    )


@pytest.mark.parametrize(
    ("fields", "named"),
    [({"detached": True}, "detached"), ({"limits": {"idle": 9}}, "limits.idle")],
)
async def test_what_is_for_interactive_programs_is_for_no_other(
    fields: dict[str, Any], named: str
) -> None:
    assert await refusal(gate(Runs()), replace(HELLO, **fields)) == ("invalid", [named])
    found = await gate(Runs()).admit(replace(ASKS, **fields), NOBODY)
    assert (await gate(Runs()).again(found, NOBODY)).limits == found.limits


async def test_a_terminal_goes_together_with_no_tests() -> None:
    tests = (request.TestRequest(expected_stdout=b""),)
    wrong = replace(HELLO, tty=Terminal(24, 80), interactive=True, tests=tests)
    assert await refusal(gate(Runs()), wrong) == ("invalid", ["tty"])


BROKEN: dict[str, tuple[dict[str, Any], str]] = {
    "a NUL in env": ({"env": (("A", "\0"),)}, "env"),
    "a name of env": ({"env": (("=", ""),)}, "env"),
    "two files of one name": ({"files": (File("a", b""), File("a", b""))}, "files"),
    "a file that is a folder": ({"files": (File("a", b""), File("a/b", b""))}, "files"),
    "a second main file": ({"files": (File("main.py", b""),)}, "files"),
    "no main file": ({"source": None, "files": (File("a", b""), File("b", b""))}, "files"),
    "a long label": ({"user_id": "x" * 257}, "user_id"),
    "no time at all": ({"limits": {"cpu_time": 0}}, "limits.cpu_time"),
    "no number": ({"limits": {"cpu_time": float("nan")}}, "limits.cpu_time"),
    "a label with half a character": ({"user_id": "\ud800"}, "user_id"),
}


@pytest.mark.parametrize(("fields", "named"), BROKEN.values(), ids=BROKEN)
async def test_a_request_that_breaks_a_rule_is_refused_by_the_fields_name(
    fields: dict[str, Any], named: str
) -> None:
    assert await refusal(gate(Runs()), replace(HELLO, **fields)) == ("invalid", [named])


@pytest.mark.parametrize(("ago_s", "told"), [(0, True), (90, False)])
async def test_a_language_may_not_have_been_found_yet_by_a_server_that_has_just_started(
    ago_s: float, *, told: bool
) -> None:
    starting = gate(Runs(started_at=time.time() - ago_s))
    with pytest.raises(Rejected, match="is not installed on this server") as refused:
        await starting.admit(replace(HELLO, language="c"), NOBODY)
    assert ("not found yet" in str(refused.value)) == told


async def test_without_nodes_a_promised_language_is_admitted_and_no_other() -> None:
    assert await refusal(gate(), HELLO) == ("no-nodes", [])
    promising = gate(languages=("python",))
    assert (await promising.admit(HELLO, NOBODY)).language == "python"
    assert await refusal(promising, replace(HELLO, language="c")) == (
        "language-unavailable",
        ["language"],
    )


async def test_what_is_admitted_is_complete() -> None:
    before = time.time()
    request = Request("Python3", "3", b"1", limits={"cpu_time": 20.0, "memory": 2**26})
    found = await gate(Runs()).admit(request, OWNER)
    assert found == Submission(
        found.id,
        "python",
        "3",
        "main.py",
        (File("main.py", b"1"),),
        limits=replace(Limits(), cpu_time=20.0, wall_time=40.0, memory=2**26),
        owner=OWNER.owner,
        created_at=found.created_at,
    )
    assert before <= found.created_at <= time.time()
    again = await gate(Runs()).admit(request, NOBODY)
    assert (again.owner, again.id != found.id) == (None, True)


async def test_to_repeat_a_submission_is_to_ask_again_under_the_rules_of_now(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    earlier = await gate(Runs()).admit(replace(HELLO, limits={"memory": 2**30}), OWNER)
    again = await gate(Runs()).again(earlier, NOBODY)
    assert again.id != earlier.id
    changed: dict[str, Any] = {
        "id": earlier.id,
        "created_at": earlier.created_at,
        "owner": OWNER.owner,
    }
    assert replace(again, **changed, retry_of=None) == earlier
    assert (again.owner, again.retry_of) == (None, earlier.id)
    with pytest.raises(Rejected, match=r"limits\.memory: .* above this server's ceiling"):
        await gate(Runs(), ceilings={"memory": 2**29}).again(earlier, NOBODY)
    with pytest.raises(Rejected, match=r"'klingon' is unknown; .* GET /languages lists them all$"):
        await gate(Runs()).again(replace(earlier, language="klingon"), NOBODY)
    with pytest.raises(Rejected, match="no node that runs programs"):
        await gate().again(earlier, NOBODY)
    with pytest.raises(Rejected, match=r"3\.12 is not here"):
        await gate(Runs()).again(replace(earlier, version="3.12"), NOBODY)
    checker = ProgramRequest("rust", "plain", source=b"")
    test = request.TestRequest(checker=checker, limits={"memory": 2**30})
    both = Runs({"python": ("3.11",), "rust": ("1.63",)})
    judged = await gate(both).admit(replace(HELLO, tests=(test,)), OWNER)
    assert (await gate(both).again(judged, NOBODY)).judging == judged.judging
    with pytest.raises(Rejected, match="Rust is not installed"):
        await gate(Runs()).again(judged, NOBODY)
    with pytest.raises(Rejected, match=r"limits\.memory: .* above this server's ceiling"):
        await gate(both, ceilings={"memory": 2**29}).again(judged, NOBODY)
    monkeypatch.setattr(wire, "LATER", ("interactive",))
    talks = replace(earlier, interactive=True)
    waits = await gate().again(talks, NOBODY, may_wait=True)
    assert waits.interactive  # for a node that understands it
    with pytest.raises(Rejected, match="interactive is not understood yet"):
        await gate(Runs(), Runs(accepts=None)).again(talks, NOBODY)
    with pytest.raises(Rejected, match="no node that runs programs is there now"):
        await gate(languages=("python",)).again(talks, NOBODY)


async def test_what_is_to_be_traced_is_refused_where_the_version_that_would_run_cannot_be() -> None:
    some = Runs(
        {"python": ("3.13.1", "3.11.2"), "lua": ("5.4.4",)},
        accepts=wire.FIELDS | {"trace.python.3.11.2", "trace.lua.5.4.4"},
    )
    every = Runs({"python": ("3.13.1",)}, accepts=wire.FIELDS | {"trace.here"})
    asks = replace(HELLO, trace=True)
    for version, nodes, message in (
        (None, [some], r"can trace this version of Python; choose 3\.11\.2"),
        ("3.13", [some, every], r"can trace this version of Python; choose 3\.11\.2"),
        ("3", [Runs()], "can trace Python: "),
        (None, [every, Runs()], r"can trace this version of Python; choose 3\.13\.1"),
        ("3.11", [some], None),
        ("3.11.2", [every, some], None),
        (None, [every], None),
        (None, [every, Runs({"lua": ("5.4.4",)})], None),
    ):
        wanted = replace(asks, version=version)
        if message is None:
            assert (await gate(*nodes).admit(wanted, NOBODY)).trace
        else:
            with pytest.raises(Rejected, match=message):
                await gate(*nodes).admit(wanted, NOBODY)
    for nodes in ([some], [some, every]):
        told = {each.language.id: each.traces for each in await gate(*nodes).offered()}
        assert told == {"lua": True, "python": False}


async def test_the_list_of_languages_is_built_when_it_changes_and_not_for_each_request(
    autojump_clock: MockClock,
) -> None:
    """An answer is the same object until then, for all callers of a class."""
    node = Runs({"python": ("3.11",)})
    classes = {"low": {"ceilings": {"cpu_time": 1}}, "high": {}}
    accounts = {"anonymous": "refuse", "default_class": "low", "classes": classes}
    here = gate(node, accounts=accounts)
    catalogue = Catalogue(Config.model_validate({"accounts": accounts}), here.offered)

    async def told() -> list[Told]:
        wanted = ((name, brief) for name in ("low", "high") for brief in (False, True))
        return [await catalogue.told(name, brief=brief) for name, brief in wanted]

    first = await told()
    assert len({each.etag for each in first}) == 4
    for _ in range(3):
        assert all(map(operator.is_, await told(), first))
        await trio.sleep(2)  # nodes are asked again each second
    node.languages = {"python": ("3.11",), "lua": ("5.4",)}
    await trio.sleep(2)
    second = await told()
    assert all(b'"lua"' in each.body for each in second)
    node.accepts = wire.FIELDS | {formats("lua")}
    await trio.sleep(2)
    assert not {each.etag for each in await told()} & {each.etag for each in second}


async def test_a_checker_has_no_more_than_the_class_of_its_author() -> None:
    """A checker is any program, and a submission may have a thousand of them."""
    classes = {"low": {"ceilings": {"cpu_time": 1, "memory": 2**26}}, "high": {}}
    accounts = {"anonymous": "refuse", "default_class": "low", "classes": classes}
    low, high = Principal(class_name="low"), Principal(class_name="high")
    here = gate(Runs(), accounts=accounts)
    program = ProgramRequest("python", "plain", source=b"")
    judged = replace(HELLO, tests=(request.TestRequest(checker=program),), checker=program)

    def limits_of(found: Submission) -> set[tuple[float, int]]:
        assert found.judging
        return {(each.limits.cpu_time, each.limits.memory) for each in found.judging.programs}

    by_low, by_high = await here.admit(judged, low), await here.admit(judged, high)
    assert limits_of(by_low) == {(1, 2**26)}
    assert limits_of(by_high) == {(CHECKER_LIMITS.cpu_time, CHECKER_LIMITS.memory)}
    assert limits_of(await here.again(by_low, low)) == {(1, 2**26)}
    assert (await here.again(by_high, high)).judging == by_high.judging
    patient = {"cpu_time": 1, "memory": 2**26}
    by_high = await here.admit(replace(judged, limits=patient), high)
    with pytest.raises(Rejected, match=r"limits\.cpu_time: 10\.0 is above your ceiling"):
        await here.again(by_high, low)


def test_occd_run_goes_through_the_gate(tmp_path: Path) -> None:
    program = write(tmp_path, "echo hi", "program.sh")
    few = {"OCCD_HTTP__SOURCES_MAX_BYTES": "1024"}
    assert occd("run", program, cwd=tmp_path, environment=few).stdout == b"hi\n"
    write(tmp_path, "#" * 1025, program)
    done = occd("run", program, cwd=tmp_path, environment=few)
    assert_refused(done, "source and files exceed 1024 bytes")


def test_requeue_goes_through_the_gate(tmp_path: Path) -> None:
    """What is above the ceiling of today stays a dead letter."""
    files = (File("main.sh", b"echo hi"),)
    greedy = Submission("greedy", "bash", None, "main.sh", files, limits=Limits(memory=2**30))
    trio.run(keep_dead_letters, tmp_path / "data", greedy)
    command = ("--data-dir=data", "queues", "requeue", "greedy")
    low = {"OCCD_CEILINGS__MEMORY": str(2**29)}
    refused = occd(*command, cwd=tmp_path, environment=low)
    assert_refused(refused, "limits.memory", "above this server's ceiling")
    assert occd(*command, cwd=tmp_path).returncode == 0


# Owners have a kind. A folder, and keys of repetition, that were written before are still theirs.


BODY = b'{"language": "bash", "source": "echo hi"}'


async def write_old_folder(folder: Path) -> str:
    """A data folder as the version before kinds left it, with a submission that waits. Returns its id."""
    body = json.loads((Path(version1.__file__).parent / "submission-small.json").read_bytes())
    fields, bare = body["submission"], hashlib.sha256(SECRET.encode()).hexdigest()
    fields |= {"owner": bare, "created_at": time.time()}
    row = {
        "id": fields["id"],
        "body": json.dumps(body).encode(),
        "status": "queued",
        "created_at": fields["created_at"],
        "key": f"{bare} the-key",
        "digest": hashlib.sha256(BODY).hexdigest(),
        "owner": bare,
        "language": "bash",
        "interactive": 0,
    }
    async with open_database(folder) as database:
        await database.migrate("state", MIGRATIONS[:4])
        insert = f"INSERT INTO submissions ({','.join(row)}) VALUES ({','.join('?' * len(row))})"
        await database.write(lambda db: db.execute(insert, list(row.values())))
    return str(fields["id"])


def test_what_an_owner_sent_before_the_upgrade_is_still_the_owners(tmp_path: Path) -> None:
    id = trio.run(write_old_folder, tmp_path / "data")
    bearer = {"authorization": f"Bearer {SECRET}"}
    with serving(tmp_path / "data") as server:
        new = server.post(BODY, **bearer).json()["id"]
        listed = server.get(f"{API}/submissions", **bearer).json()["submissions"]
        assert [each["id"] for each in listed] == [new, id]
        assert server.post(BODY, idempotency_key="the-key", **bearer).json()["id"] == id
        assert server.result(id)["verdict"] == "ok"  # the repetition queued it


# A key that comes many times at once


@asynccontextmanager
async def submitting(folder: Path, **settings: Any) -> AsyncIterator[tuple[Submit, Broker]]:
    config = Config(data_dir=folder, languages=("python",), **settings)
    async with (
        open_database(folder) as database,
        open_broker(config, database) as broker,
        open_state(config, database) as state,
    ):
        yield Submit(config, broker, state, load_languages()), broker


async def test_a_key_that_comes_many_times_at_once_is_queued_once(tmp_path: Path) -> None:
    ids = set()
    async with submitting(tmp_path) as (submit, broker):

        async def send() -> None:
            record = await submit.submit(HELLO, OWNER, key="key", digest="digest")
            ids.add(record.id)

        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                for _ in range(50):
                    nursery.start_soon(send)
        assert len(ids) == 1
        assert (await broker.depths())["submission_queue"] == 1


async def test_when_the_first_is_not_queued_the_others_are_not_lost(tmp_path: Path) -> None:
    refused = 0
    async with submitting(tmp_path, queue={"length_max": 1}) as (submit, broker):
        await submit.submit(HELLO, NOBODY, key=None, digest="")

        async def send() -> None:
            nonlocal refused
            with pytest.raises(QueueFull):
                await submit.submit(HELLO, OWNER, key="key", digest="digest")
            refused += 1

        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                for _ in range(20):
                    nursery.start_soon(send)
        assert refused == 20
        assert (await broker.depths())["submission_queue"] == 1


async def test_what_an_outage_may_have_recorded_is_paid_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis carries out the step and its answer is lost. The sweep queues that submission later, so its place
    is kept. The other places that were reserved are given back."""
    classes = {"low": {"unfinished": 5}}
    accounts = {"anonymous": "refuse", "default_class": "low", "classes": classes}
    redis = {"url": shared_redis().url, "prefix": f"t-{uuid4().hex[:12]}"}
    caller = replace(OWNER, class_name="low", counted="addr:192.0.2.1")
    step = RedisStore.step

    async def lost(store: RedisStore, name: str, *args: Any, **more: Any) -> list[Any]:
        answer = await step(store, name, *args, **more)
        if name == "create":
            raise StateUnavailable("the connection was lost", 5)
        return answer

    async with submitting(tmp_path, accounts=accounts, redis=redis) as (submit, _):

        async def left() -> float:
            return (await submit.quotas(caller))[0].left

        known = await submit.submit(HELLO, caller, key="key", digest="digest")
        assert await left() == 4
        many = [await submit.admit(HELLO, caller) for _ in range(4)]
        async with submit.reserving(many, caller, [None, None, "key 2", "key 3"]):
            assert await left() == 0
            again = await submit.accept(many[1], caller, key="key", digest="digest")
            assert again.record.id == known.record.id
            with pytest.raises(Conflict):
                await submit.accept(many[2], caller, key="key", digest="another")
            with monkeypatch.context() as patch:
                patch.setattr(RedisStore, "step", lost)
                with pytest.raises(StateUnavailable):
                    await submit.accept(many[0], caller, key=None, digest="")
        assert await left() == 3
        await submit.cancel(many[0].id)
        assert await left() == 4
