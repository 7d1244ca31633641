"""The HTTP API of a running server."""

import base64
import gzip
import http.client
import json
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from serving import API, PATIENCE_S, Answer, Server, connected, serving

CHECKOUT = str(Path(__file__).parent.parent).encode()

HELLO = {"language": "python", "source": "print('hello')"}
SLEEPS = "import time; time.sleep(60)"
OBJECT = [
    "id",
    "status",
    "verdict",
    "message",
    "score",
    "points",
    "points_max",
    "language",
    "compile",
    "run",
    "tests",
    "groups",
    "artifacts",
    "left_out",
    "trace",
    "attempts",
    "retry_of",
    "created_at",
    "started_at",
    "finished_at",
]
OUTCOME = [
    "exit_code",
    "signal",
    "limit",
    "stdout",
    "stderr",
    "stdout_truncated",
    "stderr_truncated",
    "cpu_time",
    "wall_time",
    "memory",
    "tty",
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("api") / "data") as server:
        yield server


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One program at a time, and two in all."""
    folder = tmp_path_factory.mktemp("narrow")
    with serving(folder / "data", queue__length_max="2", execute__slots="1") as server:
        yield server


def delete(server: Server, id: str) -> Answer:
    return server.request("DELETE", f"{API}/submissions/{id}")


def assert_problem(answer: Answer, status: int, kind: str | None = None) -> dict[str, Any]:
    """An RFC 9457 problem that tells nothing about our inside."""
    assert answer.status == status, answer.body[:1000]
    assert answer.headers["Content-Type"] == "application/problem+json"
    problem: dict[str, Any] = answer.json()
    assert problem["status"] == status
    assert problem["title"]
    assert isinstance(problem["type"], str)
    assert kind in (None, problem["type"]), problem
    assert len(answer.body) < 20_000
    for inside in (b"Traceback", CHECKOUT, b"occd/", b"/site-packages", b"pydantic", b"codec"):
        assert inside not in answer.body
    return problem


# Submissions


def test_a_submission_is_accepted_before_it_has_run(server: Server) -> None:
    answer = server.post({"language": "python", "source": "import time; time.sleep(0.5)"})
    assert answer.status == 202
    accepted = answer.json()
    assert answer.headers["Location"] == f"{API}/submissions/{accepted['id']}"
    assert list(accepted) == OBJECT
    assert accepted["status"] in ("queued", "running")
    unknown = "verdict", "message", "score", "compile", "run", "finished_at"
    assert {accepted[name] for name in unknown} == {None}
    assert server.result(accepted["id"])["verdict"] == "ok"


def test_an_id_cannot_be_guessed(server: Server) -> None:
    ids = {server.submit("pass") for _ in range(3)}
    assert len(ids) == 3
    assert all(len(base64.urlsafe_b64decode(id + "==")) == 16 for id in ids)


def test_waiting_gives_the_result_as_the_design_writes_it(server: Server) -> None:
    answer = server.post({**HELLO, "source": "print(input())", "stdin": "hi\n"}, "?wait=60")
    assert answer.status == 200
    result = answer.json()
    assert list(result) == OBJECT
    assert list(result["run"]) == OUTCOME
    run = result["run"]
    assert 0 < run["cpu_time"] < run["wall_time"] + 0.1
    assert run["memory"] > 2**20
    measured = {name: run[name] for name in ("cpu_time", "wall_time", "memory")}
    times = {name: result[name] for name in ("created_at", "started_at", "finished_at")}
    assert list(times.values()) == sorted(times.values())
    assert result == times | {
        "id": result["id"],
        "status": "finished",
        "verdict": "ok",
        "message": None,
        "score": None,
        "points": None,
        "points_max": None,
        "language": {"id": "python", "version": result["language"]["version"]},
        "compile": None,
        "run": measured
        | {
            "exit_code": 0,
            "signal": None,
            "limit": None,
            "stdout": "hi\n",
            "stderr": "",
            "stdout_truncated": False,
            "stderr_truncated": False,
            "tty": False,
        },
        "tests": [],
        "groups": {},
        "artifacts": [],
        "left_out": [],
        "trace": None,
        "attempts": 1,
        "retry_of": None,
    }
    assert server.look(result["id"]) == result


def test_waiting_too_short_gives_what_is_known(server: Server) -> None:
    answer = server.post({"language": "python", "source": SLEEPS}, "?wait=0.2")
    assert answer.status == 202
    id = answer.json()["id"]
    assert answer.json()["run"] is None
    assert server.get(f"{API}/submissions/{id}?wait=0.1").json()["status"] != "finished"
    delete(server, id)


def test_get_waits_for_the_result(server: Server) -> None:
    id = server.submit("import time; time.sleep(0.5); print(1)")
    assert server.look(id)["status"] != "finished"
    answer = server.get(f"{API}/submissions/{id}?wait=60")
    assert (answer.status, answer.json()["run"]["stdout"]) == (200, "1\n")


def test_a_compile_error_leaves_run_null(server: Server) -> None:
    result = server.run("int main(void) { return }", language="c")
    assert (result["verdict"], result["run"]) == ("compile_error", None)
    assert list(result["compile"]) == [*OUTCOME, "cached"]
    assert "error" in result["compile"]["stderr"]


def test_a_signal_has_a_name_and_no_exit_code(server: Server) -> None:
    run = server.run("import os; os.kill(os.getpid(), 11)")["run"]
    assert (run["exit_code"], run["signal"]) == (None, "SIGSEGV")
    run = server.run("raise SystemExit(139)")["run"]
    assert (run["exit_code"], run["signal"]) == (139, None)


def test_files_are_there_and_the_usual_name_is_run(server: Server) -> None:
    files = [
        {"name": "lib/greet.py", "content": "word = 'hello'"},
        {"name": "main.py", "content": "from lib.greet import word; print(word)"},
        {"name": "données.bin", "content": {"base64": "AP8="}},
    ]
    submission = {"language": "python", "files": files}
    result = server.post(submission, "?wait=60").json()
    assert result["run"]["stdout"] == "hello\n"


@pytest.mark.parametrize("version", ["3", "3.11"])
def test_a_version_is_a_prefix(server: Server, version: str) -> None:
    result = server.run("pass", version=version)
    assert result["language"]["version"].startswith(version + ".")


def test_an_alias_names_its_language(server: Server) -> None:
    assert server.run("pass", language="py")["language"]["id"] == "python"


def test_args_and_env_arrive_exactly(server: Server) -> None:
    args = ["", " ", "a b", "-x", "--", "'", '"', "$HOME", "*", "\\n", "\n", "é€😀", "x" * 10_000]
    env = {"EMPTY": "", "WORDS": "a b=c", "LINES": "1\n2", "UTF": "é€😀", "LANG": "C"}
    source = f"""
import json, os, sys
print(json.dumps([sys.argv[1:], {{name: os.environ[name] for name in {list(env)}}}]))
"""
    result = server.run(source, args=args, env=env)
    assert json.loads(result["run"]["stdout"]) == [args, env]


def test_bytes_go_in_and_come_out_as_base64(server: Server) -> None:
    every = bytes(range(256)) * 4
    source = "import sys; sys.stdout.buffer.write(sys.stdin.buffer.read())"
    stdin = {"base64": base64.b64encode(every).decode()}
    assert server.run(source, stdin=stdin)["run"]["stdout"] == stdin


def test_nul_is_allowed_in_source_and_stdin(server: Server) -> None:
    source = "import sys\ncat <&0 # \0\n"
    result = server.run(source, language="bash", stdin="a\0b")
    assert "a\0b" in result["run"]["stdout"]


def test_a_program_that_prints_a_gigabyte_is_stopped_at_its_limit(server: Server) -> None:
    began = time.monotonic()
    result = server.run("for _ in range(1024): print('x' * 2**20)")
    assert time.monotonic() - began < 20
    run = result["run"]
    assert (result["verdict"], run["limit"], run["stdout_truncated"]) == (
        "output_limit",
        "output",
        True,
    )
    assert len(run["stdout"]) == 2**20


def test_limits_that_were_asked_for_are_kept(server: Server) -> None:
    result = server.run("print('x' * 1000)", limits={"output": 100})
    assert (result["verdict"], len(result["run"]["stdout"])) == ("output_limit", 100)
    result = server.run("import time; time.sleep(60)", limits={"wall_time": 0.5})
    assert (result["verdict"], result["run"]["limit"]) == ("time_limit", "wall_time")


# Cancelling


def test_what_is_queued_is_cancelled_at_once(narrow: Server) -> None:
    running, queued = narrow.submit(SLEEPS), narrow.submit(SLEEPS)
    answer = delete(narrow, queued)
    assert answer.status == 202
    result = answer.json()
    assert (result["status"], result["verdict"], result["run"]) == ("finished", "cancelled", None)
    assert (result["attempts"], result["started_at"]) == (0, None)
    delete(narrow, running)
    assert narrow.result(running)["verdict"] == "cancelled"


async def test_what_runs_is_cancelled_soon_and_keeps_its_output(server: Server) -> None:
    async with connected(server) as client:
        source = "print('before', flush=True)\n" + SLEEPS
        id = await client.submit(source, limits={"wall_time": 60})
        await client.until_output(id, "before")
    began = time.monotonic()
    assert delete(server, id).status == 202
    result = server.result(id)
    assert time.monotonic() - began < 30
    assert (result["verdict"], result["run"]["stdout"]) == ("cancelled", "before\n")


def test_cancelling_what_has_finished_changes_nothing(server: Server) -> None:
    result = server.run("print(1)")
    answer = delete(server, result["id"])
    assert (answer.status, answer.json()) == (200, result)


@pytest.mark.parametrize("id", ["AAAAAAAAAAAAAAAAAAAAAA", "..", "%00", "é", "a" * 5000])
def test_an_unknown_id_is_404(server: Server, id: str) -> None:
    path = f"{API}/submissions/{id if id.isascii() else '%C3%A9'}"
    for method in ("GET", "DELETE"):
        assert_problem(server.request(method, path), 404)


# Repeating


def test_a_repeated_key_gives_the_same_submission_and_one_run(server: Server) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(
            pool.map(
                lambda _: server.post(HELLO, "?wait=60", idempotency_key="once"),
                range(8),
            )
        )
    assert {answer.status for answer in answers} == {200}
    results = [answer.json() for answer in answers]
    assert all(result == results[0] for result in results)
    assert results[0]["attempts"] == 1


def test_a_repeated_request_is_answered_with_the_result_that_there_is(server: Server) -> None:
    ran = server.result(server.post(HELLO, idempotency_key="it-has-ended").json()["id"])
    again = server.post(HELLO, idempotency_key="it-has-ended")
    assert (again.status, again.json()) == (200, ran)


def test_a_repeated_key_with_another_body_is_a_conflict(server: Server) -> None:
    first = server.post(HELLO, idempotency_key="other")
    assert first.status == 202
    again = server.post({**HELLO, "source": "print(2)"}, idempotency_key="other")
    assert_problem(again, 409, "idempotency-conflict")


@pytest.mark.parametrize("lines", [1, 30_000])
def test_a_repeated_key_is_known_however_its_body_comes(server: Server, lines: int) -> None:
    """A proxy may send on what came whole in chunks. Text with escapes is read otherwise where it is cut."""
    body = json.dumps({"language": "python", "source": "\n" * lines, "stdin": "\n" * 200}).encode()
    headers = {"idempotency-key": f"cut {lines}".replace(" ", "-")}
    ids = [server.post(body, idempotency_key=headers["idempotency-key"]).json()["id"]]
    for size in (len(body), 10_000, 97):
        pieces = [body[at : at + size] for at in range(0, len(body), size)]
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE_S)
        with closing(connection):
            path = f"{API}/submissions"
            connection.request("POST", path, iter(pieces), headers, encode_chunked=True)
            ids.append(json.loads(connection.getresponse().read()).get("id"))
    assert ids == ids[:1] * 4


def test_a_bad_key_is_refused(server: Server) -> None:
    assert_problem(server.post(HELLO, idempotency_key="a b"), 400, "bad-request")
    assert_problem(server.post(HELLO, idempotency_key="a" * 256), 400, "bad-request")


# What the server tells


def test_the_languages_are_sent_again_only_when_they_have_changed(server: Server) -> None:
    first = server.get(f"{API}/languages")
    etag = first.headers["ETag"]
    again = server.get(f"{API}/languages", **{"If-None-Match": etag})
    assert (again.status, again.body, again.headers["ETag"]) == (304, b"", etag)
    for kept in (f"W/{etag}", f'"older", {etag}', "*"):  # a proxy that compresses weakens it
        assert server.get(f"{API}/languages", **{"If-None-Match": kept}).status == 304
    other = server.get(f"{API}/languages", **{"If-None-Match": '"other"'})
    assert (other.status, other.json()) == (200, first.json())


def test_the_languages_in_brief_lack_only_what_a_page_can_wait_for(server: Server) -> None:
    whole = server.get(f"{API}/languages")
    brief = server.get(f"{API}/languages?brief=true")
    told = {"about", "home"}
    written = {"hello", "example", "example_stdin", "problems"}
    assert brief.json()["languages"] == [
        {
            name: value
            for name, value in each.items()
            if name not in (told if each["support"] == "core" else told | written)
        }
        for each in whole.json()["languages"]
    ]
    etag = brief.headers["ETag"]
    assert etag != whole.headers["ETag"]
    again = server.get(f"{API}/languages?brief=true", **{"If-None-Match": etag})
    assert (again.status, again.body) == (304, b"")
    assert server.get(f"{API}/languages?brief=false").json() == whole.json()
    assert_problem(server.get(f"{API}/languages?brief=1"), 422, "invalid")


def test_languages_tell_what_can_run_and_every_hello_is_a_program(server: Server) -> None:
    languages = server.get(f"{API}/languages").json()["languages"]
    python = next(each for each in languages if each["id"] == "python")
    assert {"name", "versions", "aliases", "file_name", "editor_mode", "flags"} <= set(python)
    assert {"example", "limits"} <= set(python)
    cpp = next(each for each in languages if each["id"] == "cpp")
    assert cpp["suffixes"] == [".cpp", ".cc", ".cxx"]
    assert server.run(python["hello"])["verdict"] == "ok"


def test_limits_tell_defaults_and_ceilings(server: Server) -> None:
    limits = server.get(f"{API}/limits").json()
    assert limits["defaults"] == {
        "cpu_time": 5.0,
        "wall_time": 10.0,
        "memory": 256 * 2**20,
        "processes": 64,
        "output": 2**20,
        "file_size": 10 * 2**20,
    }
    assert limits["ceilings"] == {
        "cpu_time": 60,
        "wall_time": 300,
        "memory": 2**31,
        "processes": 512,
        "output": 16 * 2**20,
        "file_size": 256 * 2**20,
    }
    assert (limits["body_bytes"], limits["sources_bytes"]) == (16 * 2**20, 8 * 2**20)


def test_the_server_is_healthy_and_ready(server: Server) -> None:
    assert server.get("/healthz").json() == {"status": "ok"}
    ready = server.get("/readyz").json()
    assert ready.pop("sandbox").keys() == {"level", "holds"}
    assert ready == {"status": "ready"}


def test_a_file_of_the_page_is_kept_only_under_the_name_of_its_content(server: Server) -> None:
    """After a roll back a browser would else keep the older file under the newer one's name for a year."""
    named = re.search(r'static/(app\.js)\?v=(\w+)"', server.get("/").body.decode())
    assert named
    built = re.search(r'"\./(palette\.js)\?v=(\w+)"', server.get("/static/app.js").body.decode())
    assert built
    for path, name in (named.groups(), built.groups()):
        kept = server.get(f"/static/{path}?v={name}")
        assert (kept.status, "immutable" in kept.headers["Cache-Control"]) == (200, True)
        assert server.get(f"/static/{path}").headers["Cache-Control"] == "no-cache"
        for other in (
            "",
            "0" * len(name),
            f"{name}x",
            {named[2], built[2]}.difference([name]).pop(),
        ):
            answer = server.get(f"/static/{path}?v={other}")
            assert_problem(answer, 404, "not-found")
            assert "no-store" in answer.headers["Cache-Control"]


def test_what_is_not_there_is_a_problem_too(server: Server) -> None:
    assert_problem(server.get("/nothing"), 404, "not-found")
    assert_problem(server.get("/static/../occd/app.py"), 404)
    answer = server.request("PUT", f"{API}/submissions")
    assert_problem(answer, 405, "method-not-allowed")
    assert "POST" in answer.headers["Allow"]


# Refusals


@dataclass(frozen=True)
class Bad:
    """A request that is refused. `field` is named in `errors`, or in the detail."""

    name: str
    body: bytes | dict[str, Any]
    status: int = 422
    kind: str = "invalid"
    field: str = ""
    query: str = ""


def bad_json(name: str, body: bytes) -> Bad:
    return Bad(name, body, 400, "bad-json")


def bad_field(field: str, value: Any, kind: str = "invalid", name: str = "") -> Bad:
    """A field of a submission that is otherwise good."""
    shown = name or f"{field}={json.dumps(value)[:20]}"
    submission: dict[str, Any] = dict(HELLO)
    inner = submission
    *folders, last = field.split(".")
    for folder in folders:
        inner = inner.setdefault(folder, {})
    inner[last] = value
    return Bad(shown, submission, 422, kind, field)


def bad_fields(field: str, *values: Any, kind: str = "invalid") -> list[Bad]:
    return [bad_field(field, value, kind) for value in values]


def raw_limit(name: str, value: bytes) -> bytes:
    return b'{"language":"python","source":"pass","limits":{"%s":%s}}' % (name.encode(), value)


def bad_window(side: str, value: Any) -> Bad:
    tty = {"rows": 24, "cols": 80, side: value}
    return Bad(f"tty.{side}={value!r:.20}", {**HELLO, "tty": tty}, field=f"tty.{side}")


def file_name(name: str) -> Bad:
    files = [{"name": name, "content": ""}]
    return Bad(f"file {name!r}", {**HELLO, "files": files}, field="files.0.name")


NOT_YET = {
    "callback_url": "http://127.0.0.1:1/",
    "network": True,
    "interactor": {"language": "python", "source": ""},
}
BAD = [
    bad_json("empty", b""),
    bad_json("words", b"hello"),
    bad_json("half", b'{"language":"python"'),
    bad_json("two", b"{}{}"),
    bad_json("invalid UTF-8", b'{"language":"python","source":"\xff"}'),
    bad_json("UTF-8 of a surrogate", b'{"language":"python","source":"\xed\xa0\x80"}'),
    bad_json("latin-1", '{"language":"é"}'.encode("latin-1")),
    bad_json("UTF-16", json.dumps(HELLO).encode("utf-16")),
    bad_json("byte order mark", b"\xef\xbb\xbf" + json.dumps(HELLO).encode()),
    bad_json("deep arrays", b"[" * 100_000),
    bad_json("deep and closed", b"[" * 100_000 + b"]" * 100_000),
    bad_json("deep objects", b'{"a":' * 100_000),
    bad_json("duplicate keys", b'{"language":"python","source":"1","source":"2"}'),
    bad_json("10,000 digits", raw_limit("memory", b"9" * 10_000)),
    bad_json("NaN", raw_limit("cpu_time", b"NaN")),
    bad_json("-Infinity", raw_limit("cpu_time", b"-Infinity")),
    bad_json("control character", b'{"language":"python","source":"\x01"}'),
    Bad("an array", b"[]"),
    Bad("a string", b'"x"'),
    Bad("null", b"null"),
    Bad("no language", {"source": "1"}, field="language"),
    Bad("no source", {"language": "python"}, field="submission"),
    Bad("no files", {"language": "python", "files": []}, field="submission"),
    bad_field("source", None),
    bad_field("source", 5),
    bad_field("source", ["a"]),
    bad_field("source", {"base64": "!"}),
    bad_field("source", {"base64": 5}),
    bad_field("source", {"base64": "", "more": 1}),
    bad_field("source", "\ud800", name="lone surrogate in source"),
    bad_field("stdin", "\udc00", name="lone surrogate in stdin"),
    bad_field("stdin", 5),
    bad_field("language", "klingon", "unknown-language"),
    bad_field("language", ""),
    bad_field("language", "py\0thon"),
    bad_field("language", "x" * 100_000),
    bad_field("language", 5),
    bad_field("language", "\ud800", name="lone surrogate in language"),
    bad_field("language", "../python", "unknown-language"),
    bad_field("version", "2", "unknown-version"),
    bad_field("version", "3.1", "unknown-version"),
    bad_field("version", "3."),
    bad_field("version", "newest"),
    bad_field("version", 3),
    bad_field("colour", "red"),
    bad_field("limits.colour", 1),
    bad_field("x" * 100_000, 1, name="long field name"),
    Bad("lone surrogate as field name", HELLO | {"\ud800": 1}, field="unicode"),
    bad_field("args", "a"),
    bad_field("args", ["a\0b"]),
    bad_field("args", [1]),
    bad_field("args", ["\ud800"], name="lone surrogate in args"),
    bad_field("args", ["x" * 200_000], name="long argument"),
    bad_field("args", ["x"] * 2000, name="many arguments"),
    bad_field("env", ["a"]),
    bad_field("env", {"A": "a\0b"}),
    bad_field("env", {"A\0B": "a"}),
    bad_field("env", {"A=B": "a"}),
    bad_field("env", {"": "a"}),
    bad_field("env", {"A": "\ud800"}, name="lone surrogate in env"),
    bad_field("compile_args", ["-O2"]),
    bad_field("user_id", "\0"),
    bad_field("user_id", "\ud800", name="lone surrogate in user_id"),
    bad_field("user_id", "x" * 1000),
    bad_field("interactive", 1),
    bad_field("interactive", "true"),
    bad_field("detached", 1),
    bad_field("detached", True, name="detached from nobody"),
    bad_field("limits.idle", 300, name="idle without input"),
    *bad_fields("limits.idle", 0, -1, 0.5, "5", True),
    *bad_fields("limits.idle", 3601, kind="limit-above-ceiling"),
    bad_field("limits", []),
    *[bad_window("rows", each) for each in (0, -1, 1001, 10_000, 10**400, 24.5, "24", True, None)],
    *[bad_window("cols", each) for each in (0, 10_000)],
    bad_window("pixels", 1),
    *bad_fields("tty", True, False, [], 24, "80x24"),
    Bad(
        "tty with tests",
        {**HELLO, "tty": {"rows": 24, "cols": 80}, "tests": [{"expected_stdout": ""}]},
        field="tty",
    ),
    *bad_fields("limits.cpu_time", -1, 0, 1e-400, "5", True, {}),
    *bad_fields("limits.memory", -1, 0, 1.5, 2**19, "256M", False),
    *bad_fields("limits.processes", -1, 0, 1.5),
    *bad_fields("limits.output", -1, 0),
    *bad_fields("limits.cpu_time", 61, 1e308, 10**300, kind="limit-above-ceiling"),
    *bad_fields("limits.wall_time", 300.1, 1e308, kind="limit-above-ceiling"),
    *bad_fields("limits.memory", 2**31 + 1, 10**4000, kind="limit-above-ceiling"),
    *bad_fields("limits.processes", 513, kind="limit-above-ceiling"),
    *bad_fields("limits.output", 2**63, kind="limit-above-ceiling"),
    *bad_fields("limits.file_size", 2**64, kind="limit-above-ceiling"),
    Bad("infinite limit", raw_limit("cpu_time", b"1e999"), field="limits.cpu_time"),
    *map(
        file_name,
        [
            *("", "/etc/passwd", "../up", "a/../b", "a//b", "a/", "./a", ".", "..", "-x", "a/-x"),
            *("a\\b", "a\0b", "a\nb", "a\x7fb", "\ud800", "x" * 300, "é" * 200, "a/" * 20 + "b"),
        ],
    ),
    bad_field("files", [{"name": "a", "content": ""}] * 2, name="two files of one name"),
    bad_field("files", [{"name": name, "content": ""} for name in ("a", "a/b")], name="a in a/b"),
    bad_field("files", [{"name": "main.py", "content": ""}]),
    bad_field("files", [{"name": "main.py/b", "content": ""}], name="source as a folder"),
    bad_field("files", [{"name": "a"}]),
    bad_field("files", [{"name": "a", "content": "", "mode": 0o4755}]),
    bad_field("files", [{"name": f"{n}", "content": ""} for n in range(1000)], name="many files"),
    bad_field("files", {"a": "b"}),
    *[bad_field(field, value, "not-yet") for field, value in NOT_YET.items()],
    *[
        Bad(f"wait={wait}", HELLO, 422, "invalid", "wait", f"?wait={wait}")
        for wait in ("-1", "nan")
    ],
    *[Bad(f"wait={wait}", HELLO, 422, "invalid", "wait", f"?wait={wait}") for wait in ("abc", "")],
    Bad("10 MB of source", {**HELLO, "source": "#" * 10_000_000}, 413, "too-large"),
    Bad("body beyond the limit", b" " * (16 * 2**20 + 1), 413, "too-large"),
]


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.name)
def test_bad_input_is_refused_by_name(server: Server, bad: Bad) -> None:
    problem = assert_problem(server.post(bad.body, bad.query), bad.status, bad.kind)
    if bad.field:
        named = [f"{each['field']} {each['message']}" for each in problem["errors"]]
        field = bad.field[:50].encode(errors="backslashreplace").decode()
        assert any(field in each for each in named), problem


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.name)
def test_bad_input_in_a_long_body_is_refused_alike(server: Server, bad: Bad) -> None:
    body = bad.body if isinstance(bad.body, bytes) else json.dumps(bad.body).encode()
    problem = server.post(body + b" " * 40_000, bad.query)
    assert problem.status in (bad.status, 413), problem
    assert b"internal" not in problem.body


def test_after_all_bad_input_the_server_still_runs_a_program(server: Server) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda bad: server.post(bad.body, bad.query), BAD))
    assert max(answer.status for answer in answers) < 500
    assert server.run("print('alive')")["run"]["stdout"] == "alive\n"


def test_several_faults_are_all_named(server: Server) -> None:
    bad = {"language": 5, "source": "1", "colour": 1, "limits": {"memory": "x"}}
    problem = assert_problem(server.post(bad), 422, "invalid")
    assert {each["field"] for each in problem["errors"]} == {"language", "colour", "limits.memory"}


def test_an_unknown_field_is_told_where_it_does_not_belong(server: Server) -> None:
    bad = {**HELLO, "limits": {"time": 1}, "files": [{"name": "a", "content": "", "mode": 1}]}
    problem = assert_problem(server.post(bad), 422, "invalid")
    assert "limits.time: is not a field of limits" in problem["detail"]
    assert "files.0.mode: is not a field of files" in problem["detail"]


def test_a_mistake_in_a_question_is_not_told_as_one_in_a_submission(server: Server) -> None:
    for path in (f"{API}/submissions/x?wait=soon", f"{API}/submissions?limit=0"):
        problem = assert_problem(server.get(path, authorization=f"Bearer {'s' * 32}"), 422)
        assert problem["title"] == "Something in this request is not valid"


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("/submissions/x?wiat=5", "wiat"),
        ("/submissions/x?wait=5&wait=6", "wait"),
        ("/submissions?limit=5&offset=6", "offset"),
        ("/languages?_=1", "_"),
        ("/limits?", ""),
        ("/languages?" + "x" * 20_000, "x" * 100),
        ("/languages?%ff%00=1", "%FF\0"),
        ("/languages?" + "&".join(f"x{n}=1" for n in range(2000)), "x0"),
    ],
    ids=lambda each: each[:20],
)
def test_a_parameter_that_means_nothing_is_named(server: Server, path: str, named: str) -> None:
    answer = server.get(API + path, authorization=f"Bearer {'s' * 32}")
    if not named:
        assert answer.status == 200
        return
    problem = assert_problem(answer, 400, "bad-request")
    assert problem["errors"][0]["field"] == named
    assert len(answer.body) < 3000


def test_a_parameter_that_means_nothing_submits_and_cancels_nothing(server: Server) -> None:
    assert_problem(server.post(HELLO, "?async=true"), 400, "bad-request")
    id = server.submit(SLEEPS)
    path = f"{API}/submissions/{id}"
    assert_problem(server.request("DELETE", f"{path}?now=yes"), 400, "bad-request")
    assert server.look(id)["status"] != "finished"
    delete(server, id)


def test_pages_and_health_take_what_others_add_to_an_address(server: Server) -> None:
    for path in ("/?utm_source=mail", "/healthz?probe=1", "/readyz?x"):
        assert server.get(path).status == 200


def test_what_is_a_websocket_and_what_is_not_is_told(server: Server) -> None:
    upgrade = {
        "connection": "Upgrade",
        "upgrade": "websocket",
        "sec_websocket_version": "13",
        "sec_websocket_key": "bKdPyn3u98cTfZJSh4TNeQ==",
    }
    plain, elsewhere = server.get(f"{API}/ws"), server.get(f"{API}/languages", **upgrade)
    for answer in (plain, elsewhere):
        problem = assert_problem(answer, 400, "bad-request")
        assert "/api/v1/ws takes WebSockets only" in problem["detail"]
    problem = assert_problem(server.get(f"{API}/ws?bearer=x", **upgrade), 400, "bad-request")
    assert "bearer" in problem["detail"]


def test_a_limit_above_its_ceiling_is_told_with_the_ceiling(server: Server) -> None:
    problem = assert_problem(server.post(bad_field("limits.cpu_time", 61).body), 422)
    assert "ceiling of 60 seconds" in problem["detail"]


def test_the_largest_source_that_is_allowed_runs(server: Server) -> None:
    source = "print(1)#" + "x" * (8 * 2**20 - 9)
    assert server.run(source)["run"]["stdout"] == "1\n"
    assert_problem(server.post({"language": "python", "source": source + "x"}), 413, "too-large")


def test_fields_of_later_versions_are_allowed_where_they_ask_for_nothing(server: Server) -> None:
    fields: dict[str, Any] = {
        "network": False,
        "tty": None,
        "tests": [],
        "artifacts": [],
        "callback_url": None,
    }
    assert server.run("print(1)", **fields)["verdict"] == "ok"


@pytest.mark.parametrize("path", ["/", f"{API}/languages", "/static/app.js"])
def test_text_for_browsers_is_compressed_for_those_that_take_it(server: Server, path: str) -> None:
    plain = server.get(path)
    assert "Content-Encoding" not in plain.headers
    for refused in ("identity", "br", "gzip;q=0, *;q=0"):
        assert "Content-Encoding" not in server.get(path, accept_encoding=refused).headers
    zipped = server.get(path, accept_encoding="br, gzip;q=0.8")
    assert zipped.headers["Content-Encoding"] == "gzip"
    assert len(zipped.body) < len(plain.body) / 2
    assert {plain.headers["Vary"], zipped.headers["Vary"]} == {"Accept-Encoding"}

    def text(body: bytes) -> bytes:
        return re.sub(rb'nonce="[^"]+"', b"", body)  # a new one each time

    assert text(gzip.decompress(zipped.body)) == text(plain.body)


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1", ""])
def test_a_foreign_page_cannot_submit(server: Server, origin: str) -> None:
    assert_problem(server.post(HELLO, origin=origin), 403, "forbidden-origin")


def test_our_own_page_can_submit(server: Server) -> None:
    assert server.post(HELLO, origin=f"http://127.0.0.1:{server.port}").status == 202


def test_a_foreign_page_cannot_cancel(server: Server) -> None:
    id = server.submit(SLEEPS)
    path = f"{API}/submissions/{id}"
    assert_problem(server.request("DELETE", path, origin="http://evil.example"), 403)
    delete(server, id)


def test_a_full_queue_is_told_with_when_to_come_back(narrow: Server) -> None:
    ids = [narrow.submit(SLEEPS), narrow.submit(SLEEPS)]
    answer = narrow.post(HELLO)
    assert_problem(answer, 503, "queue-full")
    assert int(answer.headers["Retry-After"]) > 0
    for id in ids:
        delete(narrow, id)
        narrow.result(id)
    assert narrow.run("print(1)")["verdict"] == "ok"


def test_what_was_cancelled_while_it_waited_leaves_its_place_to_others(narrow: Server) -> None:
    busy = narrow.submit(SLEEPS)
    narrow.wait_running(busy)
    for _ in range(10):  # a queue of two: one runs, one waits
        waiting = narrow.submit(SLEEPS)
        assert delete(narrow, waiting).json()["verdict"] == "cancelled"
    honest = narrow.submit("print(1)")
    delete(narrow, busy)
    assert narrow.result(honest)["verdict"] == "ok"


# owners

SECRET = {"authorization": "Bearer " + "s" * 22}


def listed(server: Server, query: str = "", **headers: str) -> dict[str, Any]:
    answer = server.get(f"{API}/submissions{query}", **headers)
    assert answer.status == 200, answer.body
    found: dict[str, Any] = answer.json()
    return found


def test_owners_list_their_own_newest_first_by_pages(server: Server) -> None:
    mine = [server.post(HELLO, **SECRET).json()["id"] for _ in range(5)]
    other = {"authorization": "Bearer " + "o" * 22}
    theirs = server.post(HELLO, **other).json()["id"]
    nobodys = server.post(HELLO).json()["id"]
    server.result(mine[0])
    page = listed(server, "?limit=2", **SECRET)
    found = page["submissions"]
    while page["cursor"]:
        page = listed(server, f"?limit=2&cursor={page['cursor']}", **SECRET)
        found += page["submissions"]
    assert [each["id"] for each in found] == mine[::-1]
    assert (found[-1]["status"], found[-1]["verdict"]) == ("finished", "ok")
    assert found[-1]["language"] == {"id": "python"}
    assert [each["id"] for each in listed(server, **other)["submissions"]] == [theirs]
    assert server.look(nobodys)["id"] == nobodys  # who knows an id may look


def test_a_list_is_for_owners_and_a_secret_must_be_long(server: Server) -> None:
    assert_problem(server.get(f"{API}/submissions"), 401, "unauthorized")
    short = {"authorization": "Bearer short"}
    assert_problem(server.get(f"{API}/submissions", **short), 401, "unauthorized")
    assert_problem(server.post(HELLO, **short), 401, "unauthorized")
    assert_problem(server.get(f"{API}/submissions?limit=0", **SECRET), 422, "invalid")
    assert_problem(server.get(f"{API}/submissions?cursor=x", **SECRET), 400, "bad-request")


def test_an_idempotency_key_is_its_owners(server: Server) -> None:
    key = {"idempotency_key": "the-key-of-several"}
    other = {"authorization": "Bearer " + "o" * 22}
    ids = [server.post(HELLO, **key, **whose).json()["id"] for whose in (SECRET, other, {}, SECRET)]
    assert (len(set(ids)), ids[0]) == (3, ids[3])


@pytest.mark.parametrize("name", ["Authorization", "Idempotency-Key", "Origin"])
def test_a_header_that_says_who_asks_is_there_once(server: Server, name: str) -> None:
    """A proxy may go by the last one, and a client writes the first."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE_S)
    with closing(connection):
        connection.putrequest("POST", f"{API}/submissions")
        for value in ("Bearer " + "a" * 22, "Bearer " + "b" * 22):
            connection.putheader(name, value)
        body = json.dumps(HELLO).encode()
        connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        problem = json.loads(connection.getresponse().read())
    assert (problem["type"], problem["errors"][0]["field"]) == ("bad-request", name)


async def test_a_websocket_has_an_owner_by_header_or_by_frame(server: Server) -> None:
    whose = {"authorization": "Bearer " + "w" * 22}
    async with connected(server, **whose) as client:
        by_header = await client.submit("print(1)")
        await client.until(by_header, "finished")
    async with connected(server) as client:
        answer = await client.ask("submit", submission=HELLO, bearer="w" * 22)
        assert answer["type"] == "accepted"
        await client.until(answer["id"], "finished")
        refused = await client.ask("submit", submission=HELLO, bearer="short")
        assert refused["problem"]["type"] == "unauthorized"
    found = listed(server, **whose)["submissions"]
    assert [each["id"] for each in found] == [answer["id"], by_header]
