"""Nodes of two versions run side by side while an installation is upgraded. The old side is here as what
commit 99529c6 wrote, and as copies of its readers (`tests/version1/`).

Results, events and the keys in Redis had another form then. So the step from that version is the one that is
not side by side: everything is stopped first. What waits in queues, and what is in a data folder, stays.
"""

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import MISSING, asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import pytest
import redis
import trio
import version1
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr
from redis_server import shared_redis
from values import results, submissions
from version1 import model as old_model
from version1 import nodes as old_nodes
from version1 import wire as old_wire

from occd import wire
from occd.broker import Broker, embedded, open_broker
from occd.config import Config, RedisConfig
from occd.errors import Poisoned, Rejected, StateError
from occd.events import Output
from occd.languages.loading import load_languages
from occd.model import RUN, File, Limits, Outcome, Result, Submission, Verdict, Written
from occd.origin import coming_from
from occd.principal import NOBODY
from occd.roles.submit import Submit
from occd.sqlite import open_database
from occd.state import WAIT_BOUNDS_S, Load, Node, State, open_state
from occd.state.output import joined
from occd.state.redis.store import LAYOUT
from occd.web.submission import parse_submission

WRITTEN = Path(version1.__file__).parent
LOAD = Load(2.0, 4, 3, 64, 2, {"python": 5}, {"ok": 7}, (1,) * (len(WAIT_BOUNDS_S) + 1))
NEW = Node(
    "new",
    ("execute",),
    {"python": ("3.11",)},
    started_at=2.0,
    accepts=wire.FIELDS,
    load=LOAD,
    holds=("memory", "of a later version"),
)
OLD = Node("old", ("execute",), {"python": ("3.11",)}, started_at=1.0)
MAIN = (File("main.py", b""),)


def written(pattern: str) -> list[bytes]:
    found = [path.read_bytes() for path in sorted(WRITTEN.glob(pattern))]
    assert found
    return found


# Messages: what one side writes the other reads, whole


def said(submission: Submission) -> dict[str, Any]:
    """The fields as version 1 has them: its owners have no kind, and it knows no tests and no artifacts."""
    fields = asdict(submission)
    assert (fields.pop("format"), fields.pop("trace"), fields.pop("cache")) == (False, False, True)
    assert (fields.pop("judging"), fields.pop("artifacts"), fields.pop("tty")) == (None, (), None)
    assert (fields.pop("detached"), fields["limits"].pop("idle")) == (False, None)
    assert not any(file.pop("executable") for file in fields["files"])
    assert fields["owner"] is None or fields["owner"].startswith("anon:")
    return fields | {"owner": fields["owner"] and fields["owner"].removeprefix("anon:")}


@pytest.mark.parametrize("body", written("submission-*.json"))
def test_a_new_execute_runs_what_an_old_submit_queued(body: bytes) -> None:
    assert said(wire.decode_submission(body)) == asdict(old_wire.decode_submission(body))


@given(submissions())
def test_an_old_execute_runs_what_a_new_submit_queued(submission: Submission) -> None:
    body = wire.encode_submission(submission)
    assert json.loads(body)["v"] == 1
    assert asdict(old_wire.decode_submission(body)) == said(submission)
    assert wire.decode_submission(body) == submission


@given(submissions())
def test_an_owner_is_written_as_readers_of_version_1_want_it(submission: Submission) -> None:
    """A reader between version 1 and this one refuses an owner with a colon, and dead-letters the message."""
    owner = json.loads(wire.encode_submission(submission))["submission"]["owner"]
    assert owner is None or re.fullmatch(r"[A-Za-z0-9_-]{1,64}", owner)


@pytest.mark.parametrize("body", written("result-*.json"))
def test_a_new_notify_stores_what_an_old_execute_ended(body: bytes) -> None:
    new, old = wire.decode_result(body), old_wire.decode_result(body)
    assert (new.id, new.attempt) == (old.id, old.attempt)
    assert with_inline_output(asdict(new.result)) == asdict(old.result)
    assert (new.submission and said(new.submission)) == (old.submission and asdict(old.submission))


def with_inline_output(value: Any) -> Any:
    """As version 1 knew it, of a value in which all output is in the heads."""
    if not isinstance(value, dict):
        return value
    fields = {name: with_inline_output(each) for name, each in value.items()}
    for later in ("judgement", "artifacts", "spent", "trace"):
        assert fields.pop(later, None) is None
    if "exit_code" in fields:
        assert (fields.pop("tty"), fields.pop("cached")) == (False, False)
        for stream in ("stdout", "stderr"):
            written = Written(**fields[stream])
            assert written == Written.of(written.head, truncated=written.truncated)
            fields |= {stream: written.head, f"{stream}_truncated": written.truncated}
    return fields


@given(submissions(), st.integers(1, 9), results)
def test_an_old_notify_refuses_what_a_new_execute_ended(
    submission: Submission, attempt: int, result: Any
) -> None:
    known = replace(submission, files=(), stdin=b"")
    message = wire.ResultMessage(submission.id, attempt, result, known)
    with pytest.raises(Poisoned):
        old_wire.decode_result(wire.encode_result(message))


@pytest.mark.parametrize("stored", written("event-*.json"))
def test_a_new_ws_tells_what_an_old_node_stored(stored: bytes) -> None:
    new, old = with_inline_output(asdict(wire.load_event(stored))), old_wire.load_event(stored)
    if "stage" in new:  # it was always the solution's, and of no test
        assert (new.pop("program"), new.pop("test")) == ("solution", None)
    if new["name"] == "started":
        assert (new.pop("wall_time"), new.pop("idle")) == (None, None)
    assert new == asdict(old)


OLD_INSERT = "INSERT INTO messages (queue, key, owner, body, deliveries) VALUES (?, ?, '', ?, 0)"


async def test_an_older_version_shares_a_data_folder_whose_messages_have_names(
    tmp_path: Path,
) -> None:
    """It opens the folder, and writes messages without names."""
    async with open_database(tmp_path) as database:
        await database.migrate("broker", embedded._MIGRATIONS)
        await database.write(lambda db: db.execute(OLD_INSERT, ["q.kept", "kept", b"1"]))
        (kept,) = await embedded.EmbeddedLook(tmp_path).kept("q")
        assert (kept.key, kept.names) == ("kept", {})
        await database.write(lambda db: db.execute(OLD_INSERT, ["q", "before", b"1"]))
    names = {"request_id": "mine-1"}
    async with (
        open_database(tmp_path) as database,
        open_broker(Config(data_dir=tmp_path), database) as broker,
    ):
        with coming_from(names):
            await broker.publish("q", b"2", key="ours", owner=None)
    async with open_database(tmp_path) as database:
        await database.migrate("broker", embedded._MIGRATIONS)
        await database.write(lambda db: db.execute(OLD_INSERT, ["q", "after", b"3"]))
    async with (
        open_database(tmp_path) as database,
        open_broker(Config(data_dir=tmp_path), database) as broker,
        broker.consume("q", 3) as deliveries,
    ):
        found = [await deliveries.receive() for _ in range(3)]
        assert [(each.key, each.names) for each in found] == [
            ("before", {}),
            ("ours", names),
            ("after", {}),
        ]
        assert [each.names for each in await broker.kept("q")] == [{}]


# Nodes


@asynccontextmanager
async def opened(kind: str, folder: Path) -> AsyncIterator[tuple[Config, Broker, State]]:
    """Queues in the data folder; what is known there too, or in Redis."""
    shared = RedisConfig(url=SecretStr(shared_redis().url), prefix=f"mixed-{folder.name}")
    config = Config(data_dir=folder, redis=shared if kind == "redis" else None)
    async with (
        open_database(folder) as database,
        open_broker(config, database) as broker,
        open_state(config, None if kind == "redis" else database) as state,
    ):
        yield config, broker, state
        for node in await state.nodes.live():
            await state.nodes.withdraw(node)


async def test_old_and_new_nodes_read_what_the_other_says_of_itself(tmp_path: Path) -> None:
    async with opened("redis", tmp_path) as (config, _, state):
        assert config.redis
        await state.nodes.announce(NEW)
        with redis.Redis.from_url(shared_redis().url) as client:
            nodes = f"{config.redis.prefix}{LAYOUT}:nodes"
            (told,) = client.hvals(nodes)
            assert old_nodes.load_node(told).languages == NEW.languages
            now = told.partition(b" ")[0]
            (record,) = written("node.json")
            client.hset(nodes, "old execute", now + b" " + record)
            found = {each.name: each for each in await state.nodes.live()}
            client.delete(nodes)
    assert (found["new"].accepts, found["new"].load) == (wire.FIELDS, LOAD)
    assert found["new"].holds == NEW.holds
    assert (found["old"].accepts, found["old"].load, found["old"].holds) == (None, None, None)
    assert (found["old"].languages, found["old"].running) == ({"python": ("3.12", "3.11")}, 2)


async def test_a_node_that_meets_a_node_of_the_old_layout_is_not_ready_and_names_it(
    tmp_path: Path,
) -> None:
    async with opened("redis", tmp_path) as (config, _, state):
        assert config.redis
        await state.store.check()
        with redis.Redis.from_url(shared_redis().url) as client:
            (record,) = written("node.json")
            nodes, now = f"{config.redis.prefix}:nodes", client.time()[0]
            client.hset(nodes, "old execute", b"%d %b" % (now, record))
            with pytest.raises(StateError, match=r"older version.*old.*stop all"):
                await state.store.check()
            client.hset(nodes, "old execute", b"%d %b" % (now - 60, record))
            await state.store.check()


async def test_what_a_process_accepts_is_not_believed_of_an_older_one_of_its_name(
    tmp_path: Path,
) -> None:
    """A node that was killed, and went back to the old version within the seconds of its last word."""
    async with opened("redis", tmp_path) as (config, _, state):
        assert config.redis
        await state.nodes.announce(NEW)
        with redis.Redis.from_url(shared_redis().url) as client:
            key = f"{config.redis.prefix}{LAYOUT}:nodes"
            (told,) = client.hvals(key)
            again = told.replace(b'"started_at": 2.0', b'"started_at": 3.0')
            assert again != told
            client.hset(key, "new execute", again)
            (found,) = await state.nodes.live()
            client.delete(key)
    assert (found.started_at, found.accepts, found.load, found.holds) == (3.0, None, None, None)


STRANGE = [
    b"", b"x", b"now", b"nan {}", b"inf []", b"now {}", b'now {"name": 1}', b"now \xff",
    b'now {"name": "n", "roles": ["execute"], "languages": {"python": "3"}}',
    b'now {"name": "n", "roles": ["execute"], "languages": {"python": ["' + b"9" * 5000 + b'"]}}',
    b'now {"name": "n", "roles": ["execute"], "languages": {}, "started_at": 1e999}',
    b'now {"name": "n", "roles": ["execute"], "started_at": 1.0, "load": {"slots": -1}}',
    b'now {"name": "n", "roles": ["execute"], "started_at": 1.0, "holds": "memory"}',
]  # fmt: skip


_SAYS = b'now {"name": "new", "roles": ["execute"], "started_at": 2.0, "holds": [%b]}'
STRANGE_HOLDS = [_SAYS % (b'"x",' * 200 + b'"x"'), _SAYS % (b'"%b"' % (500 * b"x"))]
STRANGE_HOLDS += [each.replace(b"holds", b"warm") for each in STRANGE_HOLDS]
STRANGE_HOLDS.append((_SAYS % b"").replace(b"}", b', "warm": ["%b"]}' % (500 * b"x")))


@pytest.mark.parametrize("key", ["nodes", "accepts", "load", "holds"])
async def test_a_node_that_says_what_cannot_be_read_hides_no_other(
    tmp_path: Path, key: str
) -> None:
    async with opened("redis", tmp_path) as (config, _, state):
        assert config.redis
        await state.nodes.announce(NEW)
        with redis.Redis.from_url(shared_redis().url) as client:
            now = b"%d" % client.time()[0]
            strange = STRANGE + STRANGE_HOLDS * (key == "holds")
            for number, each in enumerate(strange):
                client.hset(
                    f"{config.redis.prefix}{LAYOUT}:{key}", f"s{number}", each.replace(b"now", now)
                )
            (found,) = await state.nodes.live()
            client.delete(f"{config.redis.prefix}{LAYOUT}:{key}")
    assert (found.name, found.accepts, found.load) == ("new", wire.FIELDS, LOAD)
    assert found.holds == NEW.holds


async def test_a_later_node_may_say_more_of_itself(tmp_path: Path) -> None:
    async with opened("redis", tmp_path) as (config, _, state):
        assert config.redis
        await state.nodes.announce(NEW)
        with redis.Redis.from_url(shared_redis().url) as client:
            key = f"{config.redis.prefix}{LAYOUT}:nodes"
            (told,) = client.hvals(key)
            client.hset(key, "new execute", told[:-1] + b', "seats": {"free": 3}}')
            (found,) = await state.nodes.live()
    assert replace(found, seen_at=0.0) == NEW


# A field that came later. There is none yet, so `interactive` and one of the limits stand in for some.


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    names = ("interactive", "limits.open_files")
    monkeypatch.setattr(wire, "LATER", names)
    return names


def test_the_fields_of_version_1_are_those_that_its_reader_knows() -> None:
    known = set(wire._fields(old_model.Submission))
    assert known == wire.VERSION_1
    assert known <= wire.FIELDS


def test_every_later_field_can_be_left_out() -> None:
    """Else version 1 could not say what does not use it."""
    kinds: dict[str, Any] = {"": Submission, "files": File, "limits": Limits}
    for name in wire.LATER:
        folder, _, last = name.rpartition(".")
        if folder in kinds:  # else the part as a whole can be left out
            (field,) = [each for each in fields(kinds[folder]) if each.name == last]
            assert field.default is not MISSING
    assert set(wire.LATER) == wire.FIELDS - wire.VERSION_1 - {"owner.kind"}


@given(submissions())
@settings(max_examples=30)
def test_what_uses_no_later_field_is_written_as_version_1_wrote_it(submission: Submission) -> None:
    plain = replace(
        submission, interactive=False, limits=replace(submission.limits, open_files=256)
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wire, "LATER", ("interactive", "limits.open_files", "files.content"))
        plain = replace(plain, files=tuple(replace(each, content=b"x") for each in plain.files))
        message = json.loads(wire.encode_submission(plain))
        assert message["v"] == 2  # a content cannot be left out
        patch.setattr(wire, "LATER", ("interactive", "limits.open_files"))
        body = wire.encode_submission(plain)
    message = json.loads(body)
    assert message["v"] == 1
    assert "interactive" not in message["submission"]
    assert "open_files" not in message["submission"]["limits"]
    assert wire.decode_submission(body) == plain
    assert asdict(old_wire.decode_submission(body)) == said(plain)


@pytest.mark.parametrize(
    "submission",
    [
        Submission("id", "python", None, "main.py", MAIN, interactive=True),
        Submission("id", "python", None, "main.py", MAIN, limits=Limits(open_files=99)),
    ],
)
def test_what_uses_a_later_field_is_never_run_without_it(
    later: tuple[str, ...], submission: Submission
) -> None:
    body = wire.encode_submission(submission)
    assert json.loads(body)["v"] == 2
    assert wire.decode_submission(body) == submission
    with pytest.raises(Poisoned):
        old_wire.decode_submission(body)


@dataclass
class Installation:
    submit: Submit
    broker: Broker
    state: State
    config: Config

    async def post(self, **asked: Any) -> str:
        request = await parse_submission({"language": "python", "source": "1"} | asked)
        record = await self.submit.submit(request, NOBODY, key=None, digest="")
        return record.id

    async def queued(self) -> list[dict[str, Any]]:
        """The messages that wait."""
        count = (await self.broker.depths()).get(self.config.submission_queue, 0)
        async with self.broker.consume(self.config.submission_queue, count + 1) as deliveries:
            return [json.loads((await deliveries.receive()).body) for _ in range(count)]


@pytest.fixture(params=["embedded", "redis"])
async def installation(
    request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncIterator[Installation]:
    async with opened(request.param, tmp_path) as (config, broker, state):
        submit = Submit(config, broker, state, load_languages())
        yield Installation(submit, broker, state, config)


async def refused(installation: Installation, **asked: Any) -> list[str]:
    """The fields because of which it was refused."""
    with pytest.raises(Rejected, match="not understood yet") as refused:
        await installation.post(**asked)
    assert refused.value.kind == "no-nodes"
    return [each.field for each in refused.value.errors]


async def test_a_later_field_is_used_when_every_execute_node_accepts_it(
    later: tuple[str, ...], installation: Installation
) -> None:
    state = installation.state
    half = replace(NEW, name="half", accepts=wire.FIELDS - {"interactive"})
    for node in (NEW, OLD, half, Node("submit", ("submit",))):
        await state.nodes.announce(node)
    assert await refused(installation, interactive=True) == ["interactive"]
    await state.nodes.withdraw(OLD)
    assert await refused(installation, interactive=True) == ["interactive"]
    assert await installation.queued() == []
    await state.nodes.withdraw(half)
    id = await installation.post(interactive=True)
    (message,) = await installation.queued()
    assert (message["v"], message["submission"]["id"]) == (2, id)
    assert message["submission"]["interactive"] is True


async def test_tests_are_taken_when_every_execute_node_judges(installation: Installation) -> None:
    tests = [{"stdin": "1", "expected_stdout": "1"}]
    old = replace(NEW, name="old", accepts=wire.VERSION_1)
    behind = replace(NEW, name="behind", accepts=wire.FIELDS - {"judging.tests.weight"})
    for node in (NEW, old, behind):
        await installation.state.nodes.announce(node)
    assert await refused(installation, tests=tests) == ["judging"]
    await installation.state.nodes.withdraw(old)
    weighted = [tests[0] | {"weight": 2}]
    assert await refused(installation, tests=weighted) == ["judging.tests.weight"]
    await installation.state.nodes.withdraw(behind)
    id = await installation.post(tests=weighted)
    (message,) = await installation.queued()
    assert (message["v"], message["submission"]["id"]) == (2, id)
    with pytest.raises(Poisoned):
        old_wire.decode_submission(json.dumps(message).encode())


async def test_all_is_compiled_anew_when_every_execute_node_knows_what_that_means(
    installation: Installation,
) -> None:
    behind = replace(NEW, name="behind", accepts=wire.FIELDS - {"cache"})
    for node in (NEW, behind):
        await installation.state.nodes.announce(node)
    assert await refused(installation, cache=False) == ["cache"]
    await installation.post(cache=True)
    await installation.state.nodes.withdraw(behind)
    await installation.post(cache=False)
    found = await installation.queued()
    assert [message["v"] for message in found] == [1, 2]
    assert found[1]["submission"]["cache"] is False
    with pytest.raises(Poisoned):
        old_wire.decode_submission(json.dumps(found[1]).encode())


async def test_a_terminal_is_given_when_every_execute_node_has_some(
    installation: Installation,
) -> None:
    tty = {"rows": 24, "cols": 80}
    later = {"tty", "tty.rows", "tty.cols", "limits.idle", "detached"}
    behind = replace(NEW, name="behind", accepts=wire.FIELDS - later)
    for node in (NEW, behind):
        await installation.state.nodes.announce(node)
    assert await refused(installation, tty=tty) == ["tty"]
    assert await refused(installation, interactive=True, detached=True) == ["detached"]
    asked = {"limits": {"idle": 9}, "interactive": True}
    assert await refused(installation, **asked) == ["limits.idle"]
    await installation.post(interactive=True)
    await installation.state.nodes.withdraw(behind)
    id = await installation.post(tty=tty)
    found = await installation.queued()
    assert [message["v"] for message in found] == [1, 2]
    said = found[-1]["submission"]
    assert (said["id"], said["tty"], said["interactive"]) == (id, tty, True)
    assert ("idle" in found[0]["submission"]["limits"], said["limits"]["idle"]) == (False, 300)
    walls = [each["submission"]["limits"]["wall_time"] for each in found]
    assert walls == [10, 3600]
    with pytest.raises(Poisoned):
        old_wire.decode_submission(json.dumps(found[-1]).encode())


async def test_a_program_is_formatted_when_every_execute_node_can(
    installation: Installation,
) -> None:
    nodes = installation.state.nodes
    able = replace(NEW, accepts=wire.FIELDS | {"format.python"})
    behind = replace(OLD, name="behind", accepts=wire.FIELDS - {"format"})
    await nodes.announce(able)
    await nodes.announce(behind)
    assert await refused(installation, format=True) == ["format"]
    await nodes.withdraw(behind)
    without = replace(NEW, name="without", accepts=wire.FIELDS | {"format.go"})
    await nodes.announce(without)
    with pytest.raises(Rejected, match="no formatter for Python") as rejected:
        await installation.post(format=True)
    assert rejected.value.kind == "invalid"
    assert await installation.queued() == []
    await nodes.withdraw(without)
    id = await installation.post(format=True)
    (message,) = await installation.queued()
    assert (message["v"], message["submission"]["id"]) == (2, id)
    with pytest.raises(Poisoned):
        old_wire.decode_submission(json.dumps(message).encode())


def test_what_an_older_notify_stores_of_a_terminal_has_all_that_it_showed() -> None:
    output = wire.store_event(Output("run", "tty", b"$ "))
    outcome = Outcome(0, None, None, Written(2, utf8=True), Written(), 0.1, 0.2, 300, tty=True)
    result = Result(Verdict.OK, run=outcome)
    plain = json.loads(wire.store_result(result))
    assert plain["result"]["run"].pop("tty") is True
    stored = wire.load_result(json.dumps(plain).encode())
    assert stored == replace(result, run=replace(outcome, tty=False))
    assert joined(stored, [wire.load_event(output)])[RUN, "stdout"] == b"$ "


async def test_without_it_old_nodes_are_given_version_1(
    later: tuple[str, ...], installation: Installation
) -> None:
    await installation.state.nodes.announce(OLD)
    id = await installation.post(interactive=False)
    (message,) = await installation.queued()
    assert (message["v"], message["submission"]["id"]) == (1, id)
    assert "interactive" not in message["submission"]


async def test_a_later_field_is_not_used_when_no_execute_node_is_known(
    later: tuple[str, ...], installation: Installation
) -> None:
    """Also where the language is promised, and the rest may wait in the queue."""
    promised = installation.config.model_copy(update={"languages": ("python",)})
    installation.submit = Submit(
        promised, installation.broker, installation.state, load_languages()
    )
    with trio.fail_after(30):
        with pytest.raises(Rejected, match="no node that runs programs is there now") as refused:
            await installation.post(interactive=True)
        assert refused.value.kind == "no-nodes"
        await installation.post(interactive=False)


async def test_what_nodes_accept_is_known_until_they_withdraw(installation: Installation) -> None:
    state = installation.state
    await state.nodes.announce(NEW)
    await state.nodes.announce(OLD)
    await state.nodes.announce(replace(NEW, roles=("ws",), languages={}, accepts=None))
    found = {each.name: (each.roles, each.accepts) for each in await state.nodes.live()}
    assert found == {"new": (("execute", "ws"), wire.FIELDS), "old": (("execute",), None)}
    await state.nodes.withdraw(NEW)
    found = {each.name: (each.roles, each.accepts) for each in await state.nodes.live()}
    assert found == {"new": (("ws",), None), "old": (("execute",), None)}
    await state.nodes.withdraw(replace(NEW, roles=("ws",)))
    await state.nodes.withdraw(OLD)
