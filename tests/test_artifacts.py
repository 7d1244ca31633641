"""The files that a program left, as the API gives them."""

import hashlib
import os
from collections.abc import Iterator
from typing import Any

import pytest
from everywhere import EVERYWHERE_IN_ALL, serving_at
from serving import API, Server, connected, serving

PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)
LEAVES = """
import os, sys
open("plot.png", "wb").write(b"\\x89PNG\\r\\n\\x1a\\n" + bytes(100))
os.makedirs("out/deep")
open("out/deep/ä b?.txt", "w").write("hello")
open("out/page.html", "w").write("<script>alert(1)</script>")
open("out/false.png", "w").write("<svg/>")
open("other.txt", "w")
"""


@pytest.fixture(scope="module", params=EVERYWHERE_IN_ALL)
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("artifacts")
    bounds = {"artifacts__bytes": "3000000", "artifacts__file_bytes": "2000000"}
    with serving_at(request, folder / "data", request.param, **bounds) as server:
        yield server


def left(server: Server, source: str, *patterns: str) -> dict[str, Any]:
    return server.run(source, artifacts=list(patterns))


def names(result: dict[str, Any]) -> list[str]:
    return [each["name"] for each in result["artifacts"]]


def test_files_that_match_are_listed_and_can_be_fetched(server: Server) -> None:
    result = left(server, LEAVES, "*.png", "out/**")
    assert names(result) == ["out/deep/ä b?.txt", "out/false.png", "out/page.html", "plot.png"]
    assert result["left_out"] == []
    picture = result["artifacts"][-1]
    assert picture == {
        "name": "plot.png",
        "bytes": len(PNG),
        "sha256": hashlib.sha256(PNG).hexdigest(),
        "type": "image/png",
    }
    answer = server.get(f"{API}/submissions/{result['id']}/artifacts/plot.png")
    assert (answer.status, answer.body) == (200, PNG)
    answer = server.get(f"{API}/submissions/{result['id']}/artifacts/out/deep/%C3%A4%20b%3F.txt")
    assert answer.body == b"hello"


WRITES = """
#include <stdio.h>
#include <sys/stat.h>
int main(void) {
    mkdir("out", 0755);
    fputs("made", fopen("out/made.txt", "w"));
}
"""


@pytest.mark.parametrize(
    ("pattern", "kept"),
    [("**", ["data/sent.txt", "main", "main.c", "out/made.txt"]), ("out/**", ["out/made.txt"])],
)
def test_what_was_sent_and_what_was_compiled_match_too(
    server: Server, pattern: str, kept: list[str]
) -> None:
    files = [{"name": "main.c", "content": WRITES}, {"name": "data/sent.txt", "content": "sent"}]
    answer = server.post({"language": "c", "files": files, "artifacts": [pattern]})
    assert names(server.result(answer.json()["id"])) == kept


def test_only_pictures_by_their_bytes_are_shown_and_nothing_runs(server: Server) -> None:
    id = left(server, LEAVES, "**")["id"]
    for name, shown in (("plot.png", True), ("out/false.png", False), ("out/page.html", False)):
        headers = server.get(f"{API}/submissions/{id}/artifacts/{name}").headers
        assert headers["Content-Disposition"].startswith("inline" if shown else "attachment")
        assert headers["Content-Type"] == ("image/png" if shown else "application/octet-stream")
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert "sandbox" in headers["Content-Security-Policy"]


def test_nothing_but_what_was_left_can_be_fetched(server: Server) -> None:
    id = left(server, LEAVES, "*.png")["id"]
    for name in ("other.txt", "../data/occd.db", "%2e%2e/occd.db", "plot.png/", "x" * 3000):
        answer = server.get(f"{API}/submissions/{id}/artifacts/{name}")
        assert (answer.status, answer.json()["type"]) == (404, "unknown-artifact")
    answer = server.get(f"{API}/submissions/AAAAAAAAAAAAAAAAAAAAAA/artifacts/plot.png")
    assert (answer.status, answer.json()["type"]) == (404, "unknown-submission")


def test_what_is_no_file_or_too_much_is_left_out_with_its_reason(server: Server) -> None:
    source = """
import os
os.symlink("/etc/passwd", "a-link")
os.mkfifo("b-fifo")
open("c-large", "wb").write(bytes(2_000_001))
open("d-fits", "wb").write(bytes(2_000_000))
open("e-too-much-now", "wb").write(bytes(1_000_001))
open("f-small", "wb").write(bytes(10))
"""
    result = left(server, source, "?-*")
    assert names(result) == ["d-fits", "f-small"]
    assert {each["name"]: each["reason"] for each in result["left_out"]} == {
        "a-link": "no_file",
        "b-fifo": "no_file",
        "c-large": "size",
        "e-too-much-now": "total",
    }


def test_files_are_kept_however_the_program_ended(server: Server) -> None:
    source = "open('x.txt', 'w').write('kept'); import os; os.kill(os.getpid(), 9)"
    result = left(server, source, "*.txt")
    assert (result["verdict"], names(result)) == ("runtime_error", ["x.txt"])


async def test_followers_are_told_of_each_file(server: Server) -> None:
    async with connected(server) as client:
        id = await client.submit(LEAVES, artifacts=["*.png"])
        frames = await client.until(id, "finished")
    told = [frame["event"] for frame in frames if frame["event"]["name"] == "artifact"]
    assert [(each["file"], each["type"], each["stage"]) for each in told] == [
        ("plot.png", "image/png", "run")
    ]
    assert [each["name"] for each in frames[-1]["event"]["result"]["artifacts"]] == ["plot.png"]


@pytest.mark.parametrize(
    "patterns", [["../x"], ["/etc/*"], ["a" * 300], ["a/../b"], [""], ["x"] * 1000, [1], "*.png"]
)
def test_bad_patterns_are_refused_by_name(server: Server, patterns: Any) -> None:
    answer = server.post({"language": "python", "source": "1", "artifacts": patterns})
    assert answer.status == 422
    assert answer.json()["errors"][0]["field"].startswith("artifacts")


def test_files_of_what_is_erased_are_erased(server: Server) -> None:
    id = left(server, LEAVES, "*.png")["id"]
    assert (server.data_dir / "blobs" / id).exists()
    assert server.request("DELETE", f"{API}/submissions/{id}?erase=true").status in (200, 204)
    assert not (server.data_dir / "blobs" / id).exists()


def test_files_go_with_their_submission(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("expiring") / "data"
    with serving(folder) as server:
        id = left(server, LEAVES, "*.png")["id"]
    assert os.listdir(folder / "blobs" / id)
    with serving(folder, results__keep_s="0.1") as server:
        while (folder / "blobs" / id).exists():
            server.get("/healthz")
        assert server.get(f"{API}/submissions/{id}/artifacts/plot.png").status == 404


def test_a_file_that_is_sent_as_executable_can_be_run(server: Server) -> None:
    files = [
        {"name": "main.py", "content": "import os; os.system('./bin/tool; ./plain')"},
        {"name": "bin/tool", "content": "echo it runs", "executable": True},
        {"name": "plain", "content": "echo it should not"},
    ]
    answer = server.post({"language": "python", "files": files})
    run = server.result(answer.json()["id"])["run"]
    assert run["stdout"] == "it runs\n"
    assert "Permission denied" in run["stderr"]
