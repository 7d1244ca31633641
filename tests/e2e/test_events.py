"""A browser's own EventSource, which nobody of us wrote, follows a program."""

import signal
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page
from serving import API, Server, serving, start, wait_open
from streams import type_in

from e2e.editor import DESK, Editor, new_context

ECHO = """
import sys
print("ready", flush=True)
for line in sys.stdin: print("got", line, end="", flush=True)
"""

FOLLOW = """(path) => {
    window.seen = [];
    window.source = new EventSource(path);
    for (const name of ["queued", "started", "stage", "output", "finished", "events-reset", "problem"]) {
        source.addEventListener(name, (e) => seen.push([name, e.lastEventId, JSON.parse(e.data)]));
    }
}"""

UNTIL = """async (wanted) => {
    const written = () => seen.map(([, , frame]) => frame.event?.data ?? "").join("");
    while (!(wanted === null ? source.readyState === EventSource.CLOSED : written().endsWith(wanted))) {
        await new Promise((resume) => setTimeout(resume, 20));
    }
    return seen;
}"""
"""Wait for what the program is to write, or for the end of all."""


def follow(page: Page, id: str) -> None:
    page.evaluate(FOLLOW, f"{API}/submissions/{id}/events")


def until(page: Page, wanted: str | None) -> list[Any]:
    seen: list[Any] = page.evaluate(UNTIL, wanted)
    return seen


def test_an_event_source_sees_each_event_once_and_stops_by_itself(
    server: Server, editor: Editor
) -> None:
    """The stream ends after `finished`. The browser comes again, as after every end, and is told 204."""
    id = server.submit(ECHO, interactive=True)
    follow(editor.page, id)
    until(editor.page, "ready\n")
    type_in(server, id, "a\n", eof=True)
    until(editor.page, "got a\n")
    seen = until(editor.page, None)
    assert [int(last) for _, last, _ in seen] == list(range(1, len(seen) + 1))
    assert seen[-1][0] == "finished"


def test_an_event_source_goes_on_by_itself_when_the_server_is_started_again(
    browser: Browser, tmp_path: Path
) -> None:
    """The program starts again, too, and its log goes on."""
    with new_context(browser, DESK) as context:
        page = context.new_page()
        with serving(tmp_path / "data", grace_s="3") as server:
            page.goto(f"http://127.0.0.1:{server.port}/")
            id = server.submit(ECHO, interactive=True)
            follow(page, id)
            until(page, "ready\n")
            server.signal(signal.SIGTERM)
        again = start(tmp_path / "data", f"--listen=127.0.0.1:{server.port}")
        try:
            wait_open(again)
            until(page, "ready\nready\n")
            type_in(again, id, "a\n", eof=True)
            seen = until(page, None)
        finally:
            again.stop()
    told = [each for each in seen if each[0] != "problem"]
    assert [frame["seq"] for _, _, frame in told] == list(range(1, len(told) + 1))
    assert [frame["event"].get("attempt") for name, _, frame in told if name == "started"] == [1, 2]
    assert [frame["problem"]["type"] for name, _, frame in seen if name == "problem"] == [
        "shutting-down"
    ]
    assert told[-1][0] == "finished"
