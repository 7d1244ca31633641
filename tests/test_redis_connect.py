"""How Redis is reached, and what is said when it cannot be or refuses: each is one line with a remedy."""

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from pydantic import SecretStr
from redis_server import RedisServer, free_port, redis_server
from test_redis_state import begun, live, output

from occd.config import RedisConfig
from occd.errors import ConfigError, StateUnavailable, UnknownSubmission
from occd.state import State
from occd.state.redis import open_redis

SECRET = "hunter2-is-secret"
SOON_S = 30.0


def opened(url: str, **fields: Any) -> AbstractAsyncContextManager[State]:
    return open_redis(RedisConfig(url=SecretStr(url), **fields), 3600)


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with redis_server() as running:
        yield running


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("occd.state.redis.link._PATIENCE_S", 0.3)
    monkeypatch.setattr("occd.state.redis._START_S", 0.8)
    monkeypatch.setattr("occd.state.redis.RETRY_S", 0.05)


async def refused(*, url: str, **fields: Any) -> str:
    """What is said at the start."""
    with pytest.RaisesGroup(
        StateUnavailable, allow_unwrapped=True, flatten_subgroups=True
    ) as error:
        async with opened(url, **fields):
            pass
    failed: BaseException = error.value
    while isinstance(failed, BaseExceptionGroup):
        failed = failed.exceptions[0]
    return str(failed)


async def works(state: State) -> bool:
    with trio.fail_after(SOON_S):
        while True:
            try:
                await state.store.check()
                return True
            except StateUnavailable:
                await trio.sleep(0.05)


async def fails_at_last(state: State) -> None:
    with trio.fail_after(SOON_S):
        while True:
            await state.store.check()
            await trio.sleep(0.05)


@pytest.mark.parametrize(
    "url",
    ["http://localhost", "redis://", "localhost:6379", "redis://h:port", "redis+sentinel://h:1"],
)
async def test_a_url_that_cannot_be_is_refused_by_name(url: str) -> None:
    with pytest.raises(ConfigError, match=r"redis\.url"):
        async with opened(url):
            pass


async def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    for name in ("password_file", "ca_file"):
        with pytest.raises(ConfigError, match=rf"redis\.{name}.*absent"):
            async with opened("rediss://localhost", **{name: tmp_path / "absent"}):
                pass


async def test_a_wrong_password_ends_the_start_at_once_and_is_not_told(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with redis_server("requirepass right") as server:
        began = time.monotonic()
        address = f"127.0.0.1:{server.port}"
        said = await refused(url=f"redis://:{SECRET}@{address}/0")
        assert "redis.password_file" in said
        assert "wants a password" in await refused(url=f"redis://{address}/0")
        assert time.monotonic() - began < 15  # an absent server is waited for 30 s
        printed = said + "".join(capfd.readouterr())
        assert SECRET not in printed
        assert "Traceback" not in printed
        (tmp_path / "secret").write_text("right\n")
        async with opened(f"redis://{address}/0", password_file=tmp_path / "secret") as state:
            await state.store.check()
        async with opened(f"redis://default:right@{address}") as state:
            await state.store.check()


async def test_a_password_that_was_changed_is_read_anew(tmp_path: Path) -> None:
    with redis_server("requirepass first") as server:
        secret = tmp_path / "secret"
        secret.write_text("first")
        async with opened(server.url, password_file=secret) as state:
            server.kill()
            conf = server.folder / "redis.conf"
            conf.write_text(conf.read_text().replace("first", "second"))
            secret.write_text("second")
            server.start()
            assert await works(state)


@pytest.mark.usefixtures("impatient")
async def test_an_unreachable_server_is_waited_for_and_then_named(
    capfd: pytest.CaptureFixture[str],
) -> None:
    port = free_port()
    assert f"127.0.0.1:{port} cannot be reached" in await refused(url=f"redis://127.0.0.1:{port}")
    out = "".join(capfd.readouterr())
    assert "waiting for Redis" in out
    assert "Traceback" not in out


async def test_a_server_that_comes_up_late_is_used() -> None:
    with redis_server() as server:
        server.kill()

        async def start_late() -> None:
            await trio.sleep(0.5)
            await trio.to_thread.run_sync(server.start)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(start_late)
            async with opened(server.url) as state:
                await state.store.check()


@pytest.mark.usefixtures("impatient")
async def test_full_memory_is_said_and_heals(server: RedisServer) -> None:
    async with opened(server.url) as state:
        server.do("CONFIG", "SET", "maxmemory", "1")
        with pytest.raises(
            StateUnavailable, match="maxmemory"
        ):  # it reads, but hears of no follower
            await state.presence.here("followed")
        with pytest.raises(StateUnavailable, match="maxmemory") as full:
            await state.store.check()
        assert full.value.retry_after_s > 0
        with pytest.raises(UnknownSubmission):  # reading goes on
            await state.submissions.get("unknown")
        server.do("CONFIG", "SET", "maxmemory", "0")
        await state.store.check()


@pytest.mark.usefixtures("impatient")
async def test_a_read_only_replica_is_said_and_heals(server: RedisServer) -> None:
    async with opened(server.url) as state:
        server.do("REPLICAOF", "127.0.0.1", str(free_port()))
        with pytest.raises(StateUnavailable, match="not ready: READONLY"):
            await state.store.check()
        server.do("REPLICAOF", "NO", "ONE")
        assert await works(state)


async def test_a_disk_that_cannot_be_written_is_said_and_heals(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    with redis_server("appendonly no", f"dir {data}") as server:
        server.do("CONFIG", "SET", "appendonly", "no")
        async with opened(server.url) as state:
            shutil.rmtree(data)
            server.do("CONFIG", "SET", "save", "3600 1")
            server.command("BGSAVE")
            with pytest.raises(StateUnavailable, match="cannot save to its disk"):
                await fails_at_last(state)
            server.do("CONFIG", "SET", "save", "")
            assert await works(state)


async def test_a_user_without_rights_is_told_which(server: RedisServer) -> None:
    server.do("ACL", "SETUSER", "poor", "on", ">word", "~other*", "+@all")
    said = await refused(url=f"redis://poor:word@127.0.0.1:{server.port}")
    assert "ACL" in said
    assert "~occd*" in said


async def test_the_rights_that_the_docs_name_are_enough(server: RedisServer) -> None:
    rights = ("~occd*", "&occd*", "+@all", "-@admin")
    server.do("ACL", "SETUSER", "ours", "on", ">word", "resetchannels", *rights)
    async with opened(f"redis://ours:word@127.0.0.1:{server.port}") as state:
        await live(state)
        assert list(await state.store.warnings()) == []
    server.do("FLUSHALL")
    server.do("ACL", "SETUSER", "ours", "-@dangerous")
    async with opened(f"redis://ours:word@127.0.0.1:{server.port}") as state:
        await live(state)
        assert "cannot be seen" in (await state.store.warnings())[0]


async def test_what_is_not_durable_is_a_warning(server: RedisServer) -> None:
    async with opened(server.url) as state:
        server.do("CONFIG", "SET", "appendfsync", "everysec")
        server.do("CONFIG", "SET", "maxmemory", "100mb")
        server.do("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
        said = list(await state.store.warnings())
        assert ["appendfsync" in said[0], "noeviction" in said[1], len(said)] == [True, True, 2]
        server.do("CONFIG", "SET", "appendonly", "no")
        assert "append-only file" in (await state.store.warnings())[0]
        await state.store.check()


# TLS


def certificates(folder: Path) -> None:
    def openssl(*args: str) -> None:
        subprocess.run(["openssl", *args], cwd=folder, check=True, capture_output=True)

    (folder / "san").write_text("subjectAltName=IP:127.0.0.1\n")
    for name in ("ca", "other"):
        openssl(
            *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
            *("-keyout", f"{name}.key", "-out", f"{name}.crt", "-subj", f"/CN={name}"),
        )
    openssl(
        *("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
        *("-keyout", "redis.key", "-out", "redis.csr", "-subj", "/CN=redis"),
    )
    openssl(
        *("x509", "-req", "-in", "redis.csr", "-CA", "ca.crt", "-CAkey", "ca.key"),
        *("-CAcreateserial", "-extfile", "san", "-out", "redis.crt"),
    )


@pytest.mark.usefixtures("impatient")
async def test_tls_works_both_ways_and_a_stranger_is_refused(tmp_path: Path) -> None:
    certificates(tmp_path)
    files = [
        f"tls-cert-file {tmp_path / 'redis.crt'}",
        f"tls-key-file {tmp_path / 'redis.key'}",
        f"tls-ca-cert-file {tmp_path / 'ca.crt'}",
    ]
    ours = {"cert_file": tmp_path / "redis.crt", "key_file": tmp_path / "redis.key"}
    with redis_server(*files, tls=True) as server:
        async with (
            opened(server.url, ca_file=tmp_path / "ca.crt", **ours) as state,
            opened(server.url, ca_file=tmp_path / "ca.crt", **ours) as other,
        ):
            await state.store.check()
            await crosses(state, other)
        assert "certificate" in await refused(
            url=server.url, ca_file=tmp_path / "other.crt", **ours
        )
        await refused(url=server.url, ca_file=tmp_path / "ca.crt")  # without one of our own
        await refused(url=server.url.replace("rediss", "redis"))


async def crosses(one: State, other: State) -> None:
    """What one appends, the other is told."""
    submission = await begun(one)
    async with trio.open_nursery() as nursery:

        async def follow() -> None:
            with trio.fail_after(SOON_S):
                (event,) = await other.log.watch(submission.id, 2)
            assert event.seq == 3

        nursery.start_soon(follow)
        await trio.sleep(0.1)
        await one.log.append(submission.id, 1, [output(b"x" * 100_000)])


# Sentinel


@contextmanager
def watched() -> Iterator[tuple[RedisServer, RedisServer, str]]:
    """A master, its replica, and the URL of a Sentinel over them."""
    with ExitStack() as stack:
        master = stack.enter_context(redis_server())
        replica = stack.enter_context(
            redis_server(f"replicaof 127.0.0.1 {master.port}", "repl-diskless-sync-delay 0")
        )
        sentinel = stack.enter_context(
            redis_server(
                f"sentinel monitor ours 127.0.0.1 {master.port} 1",
                "sentinel down-after-milliseconds ours 400",
                "sentinel failover-timeout ours 3000",
                sentinel=True,
            )
        )
        deadline = time.monotonic() + SOON_S
        while "slave0:ip=127.0.0.1" not in sentinel_view(master, sentinel):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield master, replica, f"redis+sentinel://127.0.0.1:1,127.0.0.1:{sentinel.port}/ours"


def sentinel_view(master: RedisServer, sentinel: RedisServer) -> str:
    """What the master says of its replicas, once Sentinel knows of one too."""
    known = "slaves=1" in sentinel.command("INFO", "sentinel")
    return master.command("INFO", "replication") if known else ""


async def test_a_failover_is_followed_and_what_waits_goes_on() -> None:
    with watched() as (master, replica, url):
        async with opened(url) as one, opened(url) as other:
            submission = await begun(one)
            seen: list[int] = []

            async def follow() -> None:
                after = 0
                while after < 4:
                    events = await other.log.watch(submission.id, after)
                    seen.extend(each.seq for each in events)
                    after = seen[-1]

            with trio.fail_after(SOON_S):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(follow)
                    await one.log.append(submission.id, 1, [output(b"before")])
                    # What has not reached the replica is lost, and a reset: not what this is about.
                    while replica.command("LLEN", f"occd2:{{{submission.id}}}:e") != ":3":  # noqa: ASYNC110
                        await trio.sleep(0.01)
                    master.kill()
                    while True:
                        try:
                            await one.log.append(submission.id, 1, [output(b"after")])
                            break
                        except StateUnavailable:
                            await trio.sleep(0.1)
            assert seen == [1, 2, 3, 4]
            assert "role:master" in replica.command("INFO", "replication")


async def test_sentinel_without_that_master_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("occd.state.redis.link._PATIENCE_S", 0.1)
    monkeypatch.setattr("occd.state.redis._START_S", 0.1)
    with redis_server(sentinel=True) as sentinel:
        said = await refused(url=f"redis+sentinel://127.0.0.1:{sentinel.port}/nobody")
        assert "knows no master called nobody" in said
