"""The lines of the log: their forms, whose they are, and that a stranger's text cannot forge one."""

import http.client
import json
import logging
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
import trio
from meeting import meeting
from serving import API, OCCD, PATIENCE_S, Server, connected, serving

from occd.log import Format, Level, set_up_logging

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
HOSTILE = "a\r\ntime=1 level=error event=forged\x1b[2J\x9b\u2028\ud800é"


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    root = logging.getLogger()
    before = root.handlers[:]
    yield
    root.handlers[:] = before
    structlog.reset_defaults()


@pytest.mark.parametrize("form", ["json", "logfmt", "console"])
def test_hostile_text_stays_on_its_line(form: Format, capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging(form)
    log = structlog.get_logger()
    log.warning("something", path=HOSTILE)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.isprintable()
    if form == "json":
        told = json.loads(line)
        assert list(told)[:3] == ["time", "level", "event"]
        assert (told["path"], told["level"]) == (HOSTILE, "warning")
    else:
        assert re.match(r"(time=)?\d{4}-\d\d-\d\dT", line)
        assert "\\r" in line
        assert "é" in line


def test_a_traceback_is_in_the_line_of_its_event(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging("json")
    try:
        raise ValueError(HOSTILE)
    except ValueError:
        structlog.get_logger().exception("it failed")
    (line,) = capsys.readouterr().err.splitlines()
    assert "ValueError" in json.loads(line)["exception"]


def test_a_library_writes_lines_of_ours(capsys: pytest.CaptureFixture[str]) -> None:
    logging.getLogger().handlers.clear()
    set_up_logging("json")
    logging.getLogger("library").warning("two\nlines %s", 1)
    (line,) = capsys.readouterr().err.splitlines()
    told = json.loads(line)
    assert (told["event"], told["logger"]) == ("two\nlines 1", "library")


@pytest.mark.parametrize(("level", "count"), [("debug", 3), ("info", 2), ("error", 1)])
def test_the_level_is_the_least_that_is_told(
    level: Level, count: int, capsys: pytest.CaptureFixture[str]
) -> None:
    set_up_logging("json", level)
    for each in ("debug", "info", "error"):
        getattr(structlog.get_logger(), each)("it")
    assert len(capsys.readouterr().err.splitlines()) == count


@pytest.mark.parametrize("form", ["json", "logfmt", "console"])
def test_the_journal_is_told_the_level_of_each_line(
    form: Format, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = os.fstat(2)
    monkeypatch.setattr(sys, "stderr", os.fdopen(os.dup(2), "w"))
    monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino}")
    logging.getLogger().handlers.clear()
    set_up_logging(form, "debug")
    log = structlog.get_logger()
    for tell in (log.debug, log.info, log.warning, log.error, log.exception):
        tell("it")
    logging.getLogger("library").critical("it")
    sys.stderr.close()
    lines = capfd.readouterr().err.splitlines()
    assert [line[:3] for line in lines] == ["<7>", "<6>", "<4>", "<3>", "<3>", "<2>"]
    if form == "json":
        assert [json.loads(line[3:])["event"] for line in lines] == ["it"] * 6


def test_the_journal_is_told_the_level_of_each_line_of_an_exception(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = os.fstat(2)
    monkeypatch.setattr(sys, "stderr", os.fdopen(os.dup(2), "w"))
    monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino}")
    set_up_logging("console")
    try:
        raise OSError("first\nsecond")
    except OSError:
        structlog.get_logger().exception("it")
    sys.stderr.close()
    lines = capfd.readouterr().err.splitlines()
    assert {"<3>OSError: first", "<3>second"} <= set(lines)
    assert {line[:3] for line in lines} == {"<3>"}


def test_a_stderr_that_leads_elsewhere_than_the_journal_has_plain_lines(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", os.fdopen(os.dup(2), "w"))
    monkeypatch.setenv("JOURNAL_STREAM", "8:15")
    set_up_logging("json")
    structlog.get_logger().info("it")
    sys.stderr.close()
    assert json.loads(capfd.readouterr().err)["event"] == "it"


# a daemon


def lines(server: Server, wanted: Callable[[dict[str, Any]], bool]) -> list[dict[str, Any]]:
    """Every line is JSON."""
    told = [json.loads(line) for line in server.log.read_text().splitlines()]
    return [each for each in told if wanted(each)]


def check_life(submit: Server, execute: Server, notify: Server, id: str, request: str) -> None:
    """What became of a submission is found by its id, and by the request's, in every process."""
    names = {"submission": id, "request_id": request, "traceparent": TRACE}
    for server, events in (
        (submit, ["accepted"]),
        (execute, ["an attempt begins", "an attempt ended"]),
        (notify, ["a result is stored"]),
    ):
        found = lines(server, lambda line: line.get("submission") == id)
        for line in found:
            assert {name: line.get(name) for name in names} == names, line
        assert set(events) <= {line["event"] for line in found}


async def check_lives(submit: Server, execute: Server, notify: Server) -> None:
    """Of submissions by a request of their own, in a batch, and over a WebSocket."""
    program = {"language": "python", "source": "print(1)"}
    answer = submit.post(program, X_Request_Id="mine-1", Traceparent=TRACE)
    assert answer.headers["X-Request-Id"] == "mine-1"
    found = [(answer.json()["id"], "mine-1")]
    body = json.dumps({"submissions": [program] * 3}).encode()
    path = f"{API}/submissions/batch"
    answer = submit.request("POST", path, body, X_Request_Id="batch-1", Traceparent=TRACE)
    found += [(each["id"], "batch-1") for each in answer.json()["submissions"]]
    async with connected(submit, **{"X-Request-Id": "socket-1", "Traceparent": TRACE}) as client:
        found.append((await client.submit("print(1)"), "socket-1"))
    for id, request in found:
        submit.result(id)
        await wait_stored(notify, id)
        check_life(submit, execute, notify, id, request)


async def wait_stored(server: Server, id: str) -> None:
    """The line comes a moment after the result."""
    stored = {"submission": id, "event": "a result is stored"}
    with trio.fail_after(PATIENCE_S):
        while not lines(server, lambda line: line | stored == line):  # noqa: ASYNC110
            await trio.sleep(0.05)


async def test_a_submission_is_followed_through_one_process(tmp_path: Path) -> None:
    with serving(tmp_path / "data", log__level="debug") as server:
        await check_lives(server, server, server)


async def test_a_submission_is_followed_through_all_roles(tmp_path: Path) -> None:
    with meeting() as settings:
        settings |= {"languages": '["python"]', "log__level": "debug"}
        with (
            serving(tmp_path / "front", roles="submit,ws", **settings) as front,
            serving(tmp_path / "execute", roles="execute", **settings) as execute,
            serving(tmp_path / "notify", roles="notify", **settings) as notify,
        ):
            await check_lives(front, execute, notify)


async def test_names_of_requests_are_taken_if_they_are_well_formed(tmp_path: Path) -> None:
    with serving(tmp_path / "data", log__level="debug") as server:
        made = server.get("/healthz").headers["X-Request-Id"]
        assert re.fullmatch("[0-9a-f]{32}", made)
        assert server.get("/healthz").headers["X-Request-Id"] != made
        assert server.get("/healthz", X_Request_Id="a:b/c=1").headers["X-Request-Id"] == "a:b/c=1"
        for bad in ("", "a b", "é".encode().decode("latin-1"), "x" * 129, f"occd_{'a' * 43}", '"'):
            assert server.get("/healthz", X_Request_Id=bad).headers["X-Request-Id"] != bad
        refused = server.get("/unknown", X_Request_Id="refused-1")
        assert (refused.status, refused.headers["X-Request-Id"]) == (404, "refused-1")
        traces = [
            TRACE,
            TRACE.upper(),
            TRACE + "-more",
            f"cc{TRACE[2:]}-more",
            f"cc{TRACE[2:]}more",
            f"ff{TRACE[2:]}",
            f"00-{'0' * 32}{TRACE[35:]}",
            f"{TRACE[:36]}{'0' * 16}-01",
        ]
        for number, trace in enumerate(traces):
            server.get("/healthz", X_Request_Id=f"trace-{number}", Traceparent=trace)
        async with connected(server, **{"X-Request-Id": "socket-1"}) as client:
            id = await client.submit("print(1)")
        server.result(id)
        program = {"language": "python", "source": "print(1)"}
        server.post(program, authorization="Bearer an-anonymous-owner-000001")
    found = lines(server, lambda line: str(line.get("request_id")).startswith("trace-"))
    taken = {line["request_id"]: line.get("traceparent") for line in found}
    assert [taken[f"trace-{number}"] for number in range(len(traces))] == [
        TRACE, None, None, f"cc{TRACE[2:]}", None, None, None, None,
    ]  # fmt: skip
    nobodys, owned = lines(server, lambda line: line["event"] == "accepted")
    assert (nobodys["request_id"], nobodys["owner"]) == ("socket-1", None)
    assert re.fullmatch("anon:[0-9a-f]{64}", owned["owner"])


def test_requests_of_one_connection_keep_their_names_apart(tmp_path: Path) -> None:
    with serving(tmp_path / "data", log__level="debug") as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port)
        connection.request("GET", f"{API}/limits", headers={"Traceparent": TRACE})
        connection.getresponse().read()
        connection.request("GET", "/healthz", headers={"X-Request-Id": "second"})
        connection.getresponse().read()
        connection.close()
    (second,) = lines(server, lambda line: line.get("request_id") == "second")
    assert "traceparent" not in second


def test_at_a_terminal_people_read_it(tmp_path: Path) -> None:
    """And `log.format` decides otherwise."""
    for settings, start in (({}, b"{"), ({"OCCD_LOG__FORMAT": "logfmt"}, b"time=")):
        assert first_line(tmp_path, settings, terminal=False).startswith(start)
    assert b"\x1b[" in first_line(tmp_path, {}, terminal=True)
    assert first_line(tmp_path, {"OCCD_LOG__FORMAT": "json"}, terminal=True).startswith(b"{")


def first_line(folder: Path, settings: dict[str, str], *, terminal: bool) -> bytes:
    """Of a process that cannot make its control socket."""
    clean = {name: each for name, each in os.environ.items() if name[:5] != "OCCD_"}
    (folder / "data/control.sock").mkdir(parents=True, exist_ok=True)
    ours, theirs = pty.openpty() if terminal else os.pipe()
    with subprocess.Popen(
        [OCCD, "--roles=all", "--data-dir=data", "--listen=127.0.0.1:0"],
        cwd=folder,
        stderr=theirs,
        stdout=subprocess.DEVNULL,
        env=clean | {"OCCD_METRICS__LISTEN": "null"} | settings,
    ) as process:
        os.close(theirs)
        said = b""
        while b"there is no control socket" not in said:
            said += os.read(ours, 4096)
        process.terminate()
        while True:
            try:
                if not os.read(ours, 4096):
                    break
            except OSError:
                break
    os.close(ours)
    return said
