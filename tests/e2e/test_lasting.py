"""A person goes on at the terminal after a reload, a cut, and a server that starts again."""

import http.client
import json
import signal
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect
from serving import API, Server, start, wait_open

from e2e.editor import ASKS, DESK, PATIENCE_MS, Editor, new_context
from e2e.relay import relay

NDJSON = "application/x-ndjson"


def test_a_question_to_the_terminal_is_answered_once_over_reloads(editor: Editor) -> None:
    editor.talk(
        "import tty, os; tty.setraw(0)\n"
        "print('\\x1b[6n', end='', flush=True); answer = os.read(0, 99)\n"
        "print('answer', answer, '\\r')\n"
        "print('then', os.read(0, 99), '\\r')"
    )
    editor.wait_terminal("answer b'\\x1b[1;1R'")
    editor.page.reload()
    editor.wait_terminal("answer b'\\x1b[1;1R'")
    editor.type("x")
    editor.expect_verdict("good")
    editor.wait_terminal("then b'x'")


def test_a_reload_goes_on_at_the_terminal(editor: Editor) -> None:
    editor.talk(ASKS)
    editor.expect_terminal("name?")
    editor.type("you", "Enter")
    editor.expect_terminal("name? you", "hello you")
    editor.page.reload()
    editor.expect_terminal("name? you", "hello you")
    expect(editor.page.locator(".xterm textarea")).to_be_focused()
    editor.page.keyboard.type("more\n")
    editor.page.keyboard.press("Control+d")
    editor.expect_verdict("good")
    whole = ["name? you", "hello you", "more", "got more", "bye"]
    editor.expect_terminal(*whole)
    editor.page.reload()
    editor.expect_verdict("good")
    editor.expect_terminal(*whole)


def duplicate(editor: Editor) -> Editor:
    """A tab that a page opens has the page's sessionStorage, as a tab that is duplicated has."""
    with editor.page.context.expect_page() as opened:
        editor.page.evaluate("void open(location)")
    return Editor(opened.value, editor.home)


def test_in_a_duplicated_tab_both_can_type(editor: Editor) -> None:
    editor.talk("while True: print('got', input('? '))")
    editor.wait_terminal("?")
    editor.type("before", "Enter")
    editor.wait_terminal("got before")
    copy = duplicate(editor)
    copy.wait_terminal("got before")
    for number in range(3):
        # In each both type as much.
        for tab, name in ((copy, "copied"), (editor, "origin")):
            tab.type(f"{name} {number}", "Enter")
            for other in (editor, copy):
                other.wait_terminal(f"got {name} {number}")
    copy.page.reload()
    copy.wait_terminal("got origin 2")
    copy.type("after", "Enter")
    editor.wait_terminal("got after")
    editor.type("end", "Enter")
    whole = ["before", *[f"{name} {n}" for n in range(3) for name in ("copied", "origin")]]
    lines = [line for each in [*whole, "after", "end"] for line in (f"? {each}", f"got {each}")]
    for tab in (editor, copy):
        tab.expect_terminal(*lines, "?")


def test_two_tabs_that_were_cut_off_both_say_what_was_typed(
    browser: Browser, server: Server
) -> None:
    with relay(server.port) as between, new_context(browser, DESK) as context:
        editor = Editor(context.new_page(), f"http://127.0.0.1:{between.port}/")
        editor.open()
        editor.talk("print(sorted(input() for _ in range(4)))")
        expect(editor.part("verdict")).to_have_text("Running…")
        copy = duplicate(editor)
        expect(copy.part("verdict")).to_have_text("Running…")
        between.cut()
        for tab in (editor, copy):
            expect(tab.part("verdict")).to_have_text("Waiting for the server…")
            tab.type("same", "Enter", "same", "Enter")
        between.mend()
        for tab in (editor, copy):
            tab.wait_terminal("['same', 'same', 'same', 'same']")


def test_a_question_to_the_terminal_is_answered_by_one_of_two_tabs(editor: Editor) -> None:
    editor.talk(
        "import tty, os; tty.setraw(0); got = b''\n"
        "print('waits\\r'); os.read(0, 1); print('\\x1b[5nasked\\r')\n"
        "while got.count(b'x') < 2: got += os.read(0, 99)\n"
        "print('got', got, '\\r')"
    )
    editor.wait_terminal("waits")
    copy = duplicate(editor)
    copy.wait_terminal("waits")
    copy.type("?")
    for tab in (copy, editor):
        tab.wait_terminal("asked")
    for tab in (copy, editor):
        tab.type("x")
    for tab in (copy, editor):
        tab.wait_terminal("got b'\\x1b[0nxx'")


def wait_written(server: Server, id: str, text: str) -> None:
    """Wait until the server has the text, seen by nobody's page."""
    written = ""
    line = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE_MS / 1000)
    with closing(line):
        line.request("GET", f"{API}/submissions/{id}/events", headers={"Accept": NDJSON})
        for each in line.getresponse():
            event: dict[str, Any] = json.loads(each)["event"]
            written += str(event.get("data", ""))
            if text in written:
                return
    raise AssertionError(written)


def test_a_cut_of_ten_seconds_misses_nothing_and_doubles_nothing(
    browser: Browser, server: Server
) -> None:
    with relay(server.port) as between, new_context(browser, DESK) as context:
        editor = Editor(context.new_page(), f"http://127.0.0.1:{between.port}/")
        editor.open()
        editor.talk(
            "import time\n"
            "print('go', input('go? '))\n"
            "for n in range(10): time.sleep(1); print('tick', n)\n"
            "print([input(), input()])"
        )
        editor.expect_terminal("go?")
        id = json.loads(editor.page.evaluate("sessionStorage['occd:shown']"))["id"]
        editor.type("on", "Enter")
        editor.wait_terminal("tick 0")
        between.cut()
        expect(editor.part("verdict")).to_have_text("Waiting for the server…")
        clock = editor.part("clock").inner_text()
        editor.type("é", "Enter", "two")
        wait_written(server, id, "tick 9")
        assert editor.part("clock").inner_text() == clock  # it stands while nothing is known
        between.mend()
        editor.wait_terminal("tick 9")
        editor.type("Enter")
        editor.expect_verdict("good")
        ticks = [f"tick {n}" for n in range(10)]
        editor.expect_terminal("go? on", "go on", *ticks, "é", "two", "['é', 'two']")


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=["stopped", "killed"])
def test_a_server_that_starts_again_in_the_middle_of_typing_says_so(
    browser: Browser, tmp_path: Path, how: signal.Signals
) -> None:
    server = start(tmp_path / "data", grace_s="0.5")
    try:
        wait_open(server)
        with new_context(browser, DESK) as context:
            editor = Editor(context.new_page(), f"http://127.0.0.1:{server.port}/")
            editor.open()
            editor.talk("print('hello', input('name? ')); print('so', input('more? '))")
            editor.expect_terminal("name?")
            editor.type("you", "Enter")
            editor.wait_terminal("more?")
            editor.type("mo")
            editor.wait_terminal("more? mo")
            server.signal(how)
            server.process.wait()
            expect(editor.part("verdict")).to_have_text("Waiting for the server…")
            editor.type("re")
            server = start(tmp_path / "data", f"--listen=127.0.0.1:{server.port}")
            wait_open(server)
            expect(editor.part("detail")).to_have_text(
                "The machine it ran on was lost, so it starts again, with all that you typed."
            )
            editor.wait_terminal("more?")
            editor.type("Enter")
            editor.expect_verdict("good")
            lines = editor.wait_terminal(
                "so more"
            )  # what was typed is there before it is asked for
            assert "\n".join(lines).count("hello you") == 1
    finally:
        server.stop()


def test_a_failure_of_ours_is_said_to_be_ours_and_the_program_is_run_again(
    browser: Browser, tmp_path: Path
) -> None:
    """The server dies while the program runs, three times."""
    server = start(tmp_path / "data")
    try:
        wait_open(server)
        with new_context(browser, DESK) as context:
            editor = Editor(context.new_page(), f"http://127.0.0.1:{server.port}/")
            editor.open()
            editor.talk("print('hello', input('name? '))")
            editor.expect_terminal("name?")
            id = json.loads(editor.page.evaluate("sessionStorage['occd:shown']"))["id"]
            for attempt in (1, 2, 3):
                wait_attempt(server, id, attempt)
                server.signal(signal.SIGKILL)
                server.process.wait()
                server = start(tmp_path / "data", f"--listen=127.0.0.1:{server.port}")
                wait_open(server)
            editor.expect_verdict("ours", "Our fault, not yours")
            expect(editor.part("detail")).to_contain_text("Tried 3 times.")
            expect(editor.part("detail")).to_contain_text(id)
            offers = editor.part("offers").locator("button:visible")
            expect(offers).to_have_text(["Run again"])
            offers.press("Enter")
            editor.expect_verdict("busy", "Running…")  # until then it shows the last run's prompt
            editor.wait_terminal("name?")
            editor.type("you", "Enter")
            editor.expect_verdict("good")
            expect(editor.part("offers")).to_be_hidden()
            editor.expect_terminal("name? you", "hello you")
        assert server.stop() == 0
    finally:
        if server.process.poll() is None:
            server.process.kill()
            server.process.wait()


def wait_attempt(server: Server, id: str, number: int) -> None:
    """Wait until this attempt runs the program."""
    deadline = time.monotonic() + PATIENCE_MS / 1000
    while (seen := server.look(id))["status"] != "running" or seen["attempts"] != number:
        assert time.monotonic() < deadline, seen
        time.sleep(0.02)
