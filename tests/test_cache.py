"""No program is compiled twice: by a real daemon and real compilers.

A copy of a compiled program keeps the time at which the compiler wrote it. The programs here print this time,
to the nanosecond: it tells the runs of the compiler apart.
"""

import json
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import trio
from everywhere import EVERYWHERE_IN_ALL, serving_at
from meeting import meeting
from serving import API, Server, connected, serving, start, wait_open

from occd.execution.shelf import LEAST

COMPILED_AT = r"""
#include <stdio.h>
#include <sys/stat.h>
int main(void) {
    struct stat own;
    stat("/proc/self/exe", &own);
    printf("%lld.%09ld %o\n", (long long) own.st_mtim.tv_sec, own.st_mtim.tv_nsec, own.st_mode);
}
"""
WARNS = COMPILED_AT + "#warning so it is said\n"
WRONG = "int main(void) { return x; }"
SLOW = (
    "constexpr int slow() { int x = 0; for (int i = 0; i < ROUNDS; i++) x ^= i; return x; }\n"
    + ("static_assert(slow() >= 0);\n" + COMPILED_AT)
)
ROUNDS = 600_000  # some seconds


def c(source: str, **fields: Any) -> dict[str, Any]:
    return {"language": "c", "source": source} | fields


_numbers = count()


def new(source: str = COMPILED_AT, **fields: Any) -> dict[str, Any]:
    """A program that was never seen before."""
    return c(f"{source} // {next(_numbers)}\n", **fields)


def slow() -> dict[str, Any]:
    """One whose compiler takes long."""
    args = [f"-DROUNDS={ROUNDS + next(_numbers)}", "-fconstexpr-ops-limit=2000000000"]
    args.append("-fconstexpr-loop-limit=2000000000")
    return {"language": "cpp", "source": SLOW, "compile_args": args}


def ran(server: Server, fields: dict[str, Any], **headers: str) -> dict[str, Any]:
    answer = server.post(fields, "?wait=60", **headers)
    assert answer.status == 200, answer.body
    result: dict[str, Any] = answer.json()
    return result


def cached(server: Server, fields: dict[str, Any], **headers: str) -> bool:
    result = ran(server, fields, **headers)
    was_cached: bool = result["compile"]["cached"]
    return was_cached


def kept(server: Server) -> set[Path]:
    return {each for each in (server.data_dir / "built").iterdir() if len(each.name) == 64}


def compiles(told: list[dict[str, Any]]) -> list[bool]:
    """Of each compile stage, whether it was cached."""
    stages = [each for each in told if each["name"] == "stage" and each["stage"] == "compile"]
    return [each["outcome"]["cached"] for each in stages if each["phase"] == "end"]


def events(server: Server, id: str) -> list[dict[str, Any]]:
    lines = server.get(f"{API}/submissions/{id}/events", accept="application/x-ndjson").body
    return [json.loads(line)["event"] for line in lines.splitlines() if line.strip()]


async def compiling(server: Server, id: str) -> None:
    """Wait until its compiler runs."""
    async with connected(server) as client:
        await client.ask("subscribe", id=id)
        await client.until(id, "stage")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("cache") / "data", execute__slots="4") as server:
        yield server


@pytest.mark.parametrize("place", EVERYWHERE_IN_ALL)
def test_the_second_time_is_as_the_first_but_costs_nothing(
    request: pytest.FixtureRequest, tmp_path: Path, place: Any
) -> None:
    with serving_at(request, tmp_path / "data", place) as server:
        first, second = ran(server, c(WARNS)), ran(server, c(WARNS))
        assert [each["compile"]["cached"] for each in (first, second)] == [False, True]
        assert first["run"]["stdout"] == second["run"]["stdout"]
        assert first["compile"]["stderr"] == second["compile"]["stderr"]
        assert "so it is said" in second["compile"]["stderr"]
        spent = ("cpu_time", "wall_time", "memory")
        assert [second["compile"][name] for name in spent] == [0, 0, 0]
        assert all(first["compile"][name] > 0 for name in spent)
        told = events(server, second["id"])
        assert [each["name"] for each in told] == [
            "queued", "started", "stage", "output", "stage", "stage", "output", "stage", "finished"
        ]  # fmt: skip
        assert [
            each["outcome"]["cached"]
            for each in told
            if each.get("stage") == "compile" and each.get("outcome")
        ] == [True]
        assert told[-1]["result"]["compile"]["cached"] is True


def test_it_outlives_the_process_however_it_ends(tmp_path: Path) -> None:
    said = []
    for end in (signal.SIGKILL, signal.SIGTERM, signal.SIGTERM):
        server = start(tmp_path / "data")
        try:
            wait_open(server)
            said.append(ran(server, c(COMPILED_AT)))
        finally:
            server.process.send_signal(end)
            server.process.wait()
    assert [each["compile"]["cached"] for each in said] == [False, True, True]
    assert len({each["run"]["stdout"] for each in said}) == 1


def test_another_program_is_another(server: Server) -> None:
    usual = new()
    assert not cached(server, usual)
    others = [
        usual | {"source": usual["source"] + " "},
        usual | {"compile_args": ["-O1"]},
        usual | {"files": [{"name": "more.h", "content": ""}]},
        usual | {"files": [{"name": "more.h", "content": "", "executable": True}]},
        usual | {"language": "cpp"},
    ]
    assert [cached(server, each) for each in others] == [False] * len(others)
    run_otherwise = {"args": ["x"], "stdin": "x", "env": {"X": "x"}, "limits": {"cpu_time": 1}}
    assert all(cached(server, each) for each in (usual, *others, usual | run_otherwise))


def test_a_fault_is_kept_with_what_was_said_of_it(server: Server) -> None:
    wrong = new(WRONG)
    first, second = ran(server, wrong), ran(server, wrong)
    assert [each["compile"]["cached"] for each in (first, second)] == [False, True]
    assert first["verdict"] == second["verdict"] == "compile_error"
    assert first["compile"]["stderr"] == second["compile"]["stderr"]
    assert second["run"] is None


def test_of_a_hundred_at_once_one_is_compiled_and_the_slots_stay_usable(server: Server) -> None:
    program = slow()
    ids = [server.post(program).json()["id"] for _ in range(100)]
    trio.run(compiling, server, ids[0])
    others = [server.submit("print('hello')") for _ in range(3)]
    assert {server.result(id)["run"]["stdout"] for id in others} == {"hello\n"}
    assert server.look(ids[0])["status"] == "running", "the compiler was too quick for this test"
    results = [server.result(id) for id in ids]
    assert {each["verdict"] for each in results} == {"ok"}
    assert len({each["run"]["stdout"] for each in results}) == 1
    assert Counter(each["compile"]["cached"] for each in results) == {False: 1, True: 99}
    started = [each["started_at"] for each in results]
    assert started == sorted(started)


def test_over_three_nodes_each_compiles_it_once_at_most(tmp_path: Path) -> None:
    with ExitStack() as stack:
        settings = stack.enter_context(meeting()) | {"execute__slots": "4"}
        servers = [
            stack.enter_context(serving(tmp_path / name / "data", node=name, **settings))
            for name in ("one", "two", "three")
        ]
        program = slow()
        ids = [servers[at % 3].post(program).json()["id"] for at in range(60)]
        results = [servers[0].result(id) for id in ids]
        assert {each["verdict"] for each in results} == {"ok"}
        compiled = [each for each in results if not each["compile"]["cached"]]
        assert len(compiled) == len({each["run"]["stdout"] for each in results}) <= 3


def test_when_the_one_that_compiles_is_cancelled_another_one_does(server: Server) -> None:
    program = slow()
    first = server.post(program).json()["id"]
    trio.run(compiling, server, first)
    others = [server.post(program).json()["id"] for _ in range(5)]
    for id in others:
        server.wait_running(id)
    server.request("DELETE", f"{API}/submissions/{first}")
    assert server.result(first)["verdict"] == "cancelled"
    assert {server.look(id)["status"] for id in others} == {"running"}
    gone = others.pop()
    server.request("DELETE", f"{API}/submissions/{gone}")  # one that waits
    assert server.result(gone)["verdict"] == "cancelled"
    assert server.result(gone)["compile"] is None
    results = [server.result(id) for id in others]
    assert {each["verdict"] for each in results} == {"ok"}
    assert len({each["run"]["stdout"] for each in results}) == 1
    assert Counter(each["compile"]["cached"] for each in results) == {False: 1, True: 3}


ALICE, BOB = ({"authorization": f"Bearer {name * 8}"} for name in ("alice", "robert"))


def test_what_was_compiled_for_one_owner_is_not_for_another(server: Server) -> None:
    program, before = new(), kept(server)
    seen = [cached(server, program, **who) for who in (ALICE, BOB, {}, ALICE, BOB, {})]
    assert seen == [False, False, False, True, True, True]
    assert len(kept(server) - before) == 3


def test_it_is_for_all_where_the_configuration_says_so(tmp_path: Path) -> None:
    with serving(tmp_path / "data", cache__shared="all") as server:
        seen = [cached(server, c(COMPILED_AT), **who) for who in (ALICE, BOB, {})]
        assert seen == [False, True, True]


def test_who_wants_it_compiled_gets_it_compiled(server: Server) -> None:
    usual, before = new(), kept(server)
    anew = usual | {"cache": False}
    assert [cached(server, anew) for _ in range(2)] == [False, False]
    assert kept(server) == before
    assert [cached(server, usual) for _ in range(2)] == [False, True]
    assert not cached(server, anew)


def test_nothing_is_kept_where_there_is_no_room_for_it(tmp_path: Path) -> None:
    with serving(tmp_path / "data", cache__bytes="0") as server:
        assert [cached(server, c(COMPILED_AT)) for _ in range(2)] == [False, False]
    with serving(tmp_path / "data") as server:
        assert [cached(server, c(COMPILED_AT)) for _ in range(2)] == [False, True]
        (path,) = kept(server)
    with serving(tmp_path / "data", cache__bytes="0") as server:
        assert not cached(server, c(COMPILED_AT))
        assert not path.exists()


def test_a_damaged_one_is_noticed_and_made_anew(server: Server) -> None:
    program, before = new(), kept(server)
    assert not cached(server, program)
    (path,) = kept(server) - before
    for at in (0, 40, -1):  # of the checksum, of the rest
        damaged = bytearray(path.read_bytes())
        damaged[at] ^= 1
        path.write_bytes(damaged)
        assert [cached(server, program) for _ in range(2)] == [False, True]
    path.write_bytes(path.read_bytes()[:100])
    assert not cached(server, program)
    assert server.log.read_text().count("damaged") == 4


def test_a_flood_of_programs_stays_within_the_bound(tmp_path: Path) -> None:
    with serving(tmp_path / "data", cache__bytes=str(10 * LEAST)) as server:
        for number in range(30):
            ran(server, c(f"{WRONG} // {number}"))
            assert len(kept(server)) <= 10
        assert sum(each.stat().st_size for each in kept(server)) <= 10 * LEAST
        assert cached(server, c(f"{WRONG} // 29"))
        assert not cached(server, c(f"{WRONG} // 0"))


def test_a_folder_that_cannot_be_used_costs_nobody_anything(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with serving(tmp_path / "data", cache__folder=str(tmp_path / "file")) as server:
        assert [cached(server, c(COMPILED_AT)) for _ in range(2)] == [False, True]  # in memory
        assert "kept in memory only" in server.log.read_text()


def test_a_compiler_that_was_stopped_is_not_believed(server: Server) -> None:
    """By its limit of output."""
    before = kept(server)
    loud = new("".join(f'#warning "{"x" * 1000}{number}"\n' for number in range(1200)) + WRONG)
    results = [ran(server, loud) for _ in range(2)]
    assert [each["compile"]["limit"] for each in results] == ["output", "output"]
    assert [each["compile"]["cached"] for each in results] == [False, False]
    assert kept(server) == before


@pytest.mark.parametrize(("name", "verdict"), [("SIGTERM", "compile_error"), ("SIGCONT", "ok")])
def test_a_compiler_that_got_a_signal_is_not_believed(
    server: Server, name: str, verdict: str
) -> None:
    """Not even when it ended by itself: nobody knows what the signal did."""

    async def disturb() -> str:
        async with connected(server) as client:
            id = (await client.ask("submit", submission=slow()))["id"]
            await client.until(id, "stage")
            assert (await client.ask("signal", id=id, signal=name))["type"] == "done"
            return str(id)

    before = kept(server)
    assert server.result(trio.run(disturb))["verdict"] == verdict
    assert kept(server) == before


def test_a_tree_with_a_link_is_compiled_each_time_and_runs(server: Server) -> None:
    """The compiler runs a script of the submission, which makes the link."""
    script = '#!/bin/sh\nln -sf main link\nexec "$@"\n'
    sent = [{"name": "wrap", "content": script}]
    program = new(files=sent, compile_args=["-wrapper", "./wrap"])
    before = kept(server)
    results = [ran(server, program) for _ in range(2)]
    assert [each["verdict"] for each in results] == ["ok", "ok"]
    assert [each["compile"]["cached"] for each in results] == [False, False]
    assert len({each["run"]["stdout"] for each in results}) == 2
    assert kept(server) == before


CHECKER = "int main(void) { return 42; }"


def test_a_checker_is_compiled_once(server: Server) -> None:
    checker = {"program": new(CHECKER) | {"protocol": "kattis"}}
    seen = []
    for _ in range(2):
        body = {"language": "python", "source": "print(1)", "checker": checker}
        result = ran(server, body | {"tests": [{"expected_stdout": "1"}] * 2})
        assert result["verdict"] == "accepted"
        told = events(server, result["id"])
        seen += [
            each["outcome"]["cached"]
            for each in told
            if each.get("stage") == "compile" and each["outcome"]
        ]
    assert seen == [False, True]
