"""What a daemon promises when its data folder is full, gone or damaged: it says so, accepts nothing that
would be lost, lives on, and heals when the folder does."""

import json
import os
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import trio
from disks import fill, small
from meeting import meeting
from serving import PATIENCE_S, Server, connected, output, serving, start

from occd.config import Config
from occd.errors import DataFolderError
from occd.events import Output
from occd.model import File, Submission, new_id
from occd.sqlite import Database, open_database
from occd.state.control import Control, Stdin
from occd.state.embedded import open_embedded

ECHO = "while line := input(): print('got', line)"
BIG = "x = '''" + "x" * 400_000 + "'''"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with small(tmp_path / "disk") as folder:
        yield folder


def readiness(server: Server) -> tuple[int, str]:
    answer = server.get("/readyz")
    return answer.status, answer.json().get("detail", "")


async def until_ready(server: Server) -> None:
    with trio.fail_after(PATIENCE_S):
        while readiness(server)[0] != 200:  # noqa: ASYNC110
            await trio.sleep(0.1)


def said(server: Server, line: str) -> int:
    return server.log.read_text().count(line)


async def test_a_full_disk_is_told_and_survived_and_loses_no_attempt(small_disk: Path) -> None:
    with serving(small_disk / "data", results__keep_s="2") as server:
        assert server.run("print(1)")["verdict"] == "ok"
        assert readiness(server)[0] == 200
        async with connected(server) as client:
            id = await client.submit(ECHO, interactive=True, limits={"wall_time": 60})
            await client.ask("stdin", id=id, data="one\n")
            await client.until_output(id, "got one")
            fill(small_disk / "filler")
            status, detail = readiness(server)
            assert status == 503
            assert "occd.db" in detail
            assert detail.count("make room") == 1
            answer = server.post({"language": "python", "source": BIG})
            assert (answer.status, answer.json()["type"]) == (503, "unavailable")
            # What had finished is to be removed now, which a full disk does not allow.
            typed = b"".join(b"%d\n" % number for number in range(20_000)).decode()
            kinds = {(await client.ask("stdin", id=id, data=typed))["type"] for _ in range(8)}
            assert kinds <= {"done", "error"}
            await trio.sleep(4.5)
            assert readiness(server)[0] == 503
            (small_disk / "filler").unlink()
            await until_ready(server)
            await client.ask("stdin", id=id, data="two\n\n")
            frames = await client.until(id, "finished")
        result = server.look(id)
        assert (result["verdict"], result["attempts"]) == ("ok", 1)
        assert "got two" in output(frames)  # which two events may share
        assert server.run(BIG + "; print(2)")["run"]["stdout"] == "2\n"
        assert said(server, "programs and their output wait for the data folder") <= 2
        assert said(server, "what is too old stays in the data folder") <= 2


@pytest.mark.parametrize("kept", ["queue", "state"])
def test_a_full_disk_is_told_where_only_one_of_queue_and_state_lies_on_it(
    small_disk: Path, kept: str
) -> None:
    with meeting() as servers:
        other = "redis" if kept == "queue" else "rabbitmq"
        settings = {name: each for name, each in servers.items() if name.startswith(other)}
        with serving(small_disk / "data", languages='["python"]', **settings) as server:
            assert readiness(server)[0] == 200
            fill(small_disk / "filler")
            status, detail = readiness(server)
            assert (status, detail.count("make room")) == (503, 1)
            (small_disk / "filler").unlink()
            assert readiness(server)[0] == 200


async def test_what_an_attempt_does_waits_for_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A program that waits for its stdin, one that starts, and one that prints: none of them loses an
    attempt, and the log says so once."""
    monkeypatch.setattr("occd.state.embedded.shared._RETRY_S", 0.01)
    tries = 0

    async def refuse(self: Database, work: object, **_options: object) -> None:
        nonlocal tries
        tries += 1
        await trio.lowlevel.checkpoint()
        raise DataFolderError("the disk is full")

    files = (File("main.py", b"print(input())"),)
    waiting, starting, printing = (
        Submission(new_id(), "python", None, "main.py", files, interactive=True) for _ in range(3)
    )
    got: list[Control] = []

    async def read() -> None:
        await state.controls.took(waiting.id, 2)
        got.extend(each.control for each in await state.controls.watch(waiting.id, 0))

    async with open_database(tmp_path) as database, open_embedded(Config(), database) as state:
        for each in (waiting, starting, printing):
            await state.submissions.create(each, None, "")
        for each in (waiting, printing):
            await state.submissions.begin(each, "3", "node")
        await state.controls.send_stdin(waiting.id, b"typed", None, end=False)
        async with trio.open_nursery() as nursery:
            with monkeypatch.context() as patch:
                patch.setattr(Database, "write", refuse)
                nursery.start_soon(read)
                nursery.start_soon(state.submissions.begin, starting, "3", "node")
                nursery.start_soon(
                    state.log.append, printing.id, 1, [Output("run", "stdout", b"printed")]
                )
                while tries < 30:  # noqa: ASYNC110
                    await trio.sleep(0.01)
        assert got == [Stdin(0, b"typed")]
        assert (await state.submissions.get(starting.id)).attempts == 1
        assert [each.event.name for each in await state.log.watch(printing.id, 0)][-1] == "output"
    assert capsys.readouterr().out.count("wait for the data folder") == 2  # and that it works again


def test_what_is_moved_away_is_told_and_nothing_is_accepted_until_it_is_back(
    tmp_path: Path,
) -> None:
    data = tmp_path / "data"
    with serving(data) as server:
        kept = server.submit("print(1)")
        server.result(kept)
        for gone in (data, data / "occd.db", data / "occd.db-wal", data / "lock"):
            gone.rename(tmp_path / "elsewhere")
            status, detail = readiness(server)
            assert (status, str(gone) in detail, "put it back" in detail) == (503, True, True)
            for _ in range(2):
                answer = server.post({"language": "python", "source": "print(1)"})
                assert (answer.status, answer.json()["type"]) == (503, "unavailable")
            (tmp_path / "elsewhere").rename(gone)
            assert readiness(server)[0] == 200
            assert server.run("print(2)")["run"]["stdout"] == "2\n"
            trouble = "the data folder cannot be written"  # the queue may tell of its own
            lines = list(map(json.loads, server.log.read_text().splitlines()))
            about = [each for each in lines if trouble in (each["event"], each.get("after"))]
            told, over = about[-2:]
            assert told["event"] == over["after"] == trouble  # once, of two
            assert str(gone) in told["error"]
        assert server.result(kept)["run"]["stdout"] == "1\n"


def test_a_deleted_folder_takes_nothing_that_a_second_daemon_would_not_find(
    tmp_path: Path,
) -> None:
    data = tmp_path / "data"
    with serving(data) as first:
        assert first.run("print(1)")["verdict"] == "ok"
        shutil.rmtree(data)
        with serving(data) as second:  # as a supervisor starts it again
            assert second.run("print(2)")["verdict"] == "ok"
            status, detail = readiness(first)
            assert (status, str(data / "lock") in detail) == (503, True)
            assert first.post({"language": "python", "source": "print(1)"}).status == 503
            assert readiness(second)[0] == 200


def test_a_file_that_is_overwritten_while_it_is_used_is_told(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with serving(data) as server:
        ids = [server.submit("print('x' * 1000)") for _ in range(3)]
        for id in ids:
            server.result(id)
        with (data / "occd.db").open("r+b") as file:
            file.write(os.urandom(8192))
        status, detail = readiness(server)
        assert (status, "damaged" in detail, str(data / "occd.db") in detail) == (503, True, True)
        answer = server.post({"language": "python", "source": "print(1)"})
        assert answer.status == 503
        assert server.get(f"/api/v1/submissions/{ids[0]}").status in (200, 503)


def test_a_log_that_is_damaged_stops_no_other_submission(tmp_path: Path) -> None:
    """A row stands where the next event belongs, as with a damaged index."""
    with (
        serving(tmp_path / "data", execute__slots="1") as server,
        closing(sqlite3.connect(server.data_dir / "occd.db", timeout=PATIENCE_S)) as other,
    ):
        talks = "import time\nfor n in range(600): print(n, flush=True); time.sleep(0.1)"
        running = server.submit(talks, limits={"wall_time": 60})
        server.wait_running(running)
        waiting = server.submit("print('never')")
        for id in (running, waiting):
            number, last = other.execute(
                "SELECT number, last_seq FROM submissions WHERE id = ?", [id]
            ).fetchone()
            rows = [(number, seq, 0.0, b"{}") for seq in range(last + 1, last + 10)]
            other.executemany("INSERT OR IGNORE INTO events VALUES (?, ?, ?, ?)", rows)
            other.commit()
        assert server.run("print('well')")["run"]["stdout"] == "well\n"
        while (log := server.log.read_text()).count("dead letter") < 2:
            time.sleep(0.05)
        assert "UNIQUE constraint failed: events" in log


def _garbage(file: Path) -> None:
    file.write_bytes(os.urandom(file.stat().st_size))


def _half(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2 // 4096 * 4096)


def _middle(file: Path) -> None:
    with file.open("r+b") as damaged:
        damaged.seek(4096)
        damaged.write(os.urandom(file.stat().st_size - 8192))


def _folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder in which something is."""
    data = tmp_path_factory.mktemp("used") / "data"
    with serving(data) as server:
        for id in [server.submit("print('x' * 1000)") for _ in range(5)]:
            server.result(id)
    return data


@pytest.mark.parametrize("damage", [_garbage, _half, _middle, _folder])
def test_a_damaged_file_ends_the_start_in_a_line_that_names_it(
    tmp_path: Path, used: Path, damage: object
) -> None:
    assert callable(damage)
    data = tmp_path / "data"
    shutil.copytree(used, data)
    damage(data / "occd.db")
    server = start(data)
    assert server.process.wait(PATIENCE_S) != 0
    log = server.log.read_text()
    assert str(data / "occd.db") in log
    assert "move it away" in log
    assert "Traceback" not in log
    assert log.count("\n") == 1, log
