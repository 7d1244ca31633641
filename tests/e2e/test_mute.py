"""A connection that opens, and then carries nothing, or something that no server of ours has sent."""

import json
import time
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, WebSocketRoute, expect
from serving import Server

from e2e.editor import ASKS, DESK, Editor, new_context
from e2e.relay import relay

_ANSWER_S = 5
WHY = "may not pass WebSocket frames"


def run_clock(page: Page, seconds: int) -> None:
    for _ in range(seconds):
        page.clock.run_for(1000)
        page.wait_for_timeout(20)  # what it asks meanwhile is answered


class Way:
    """What lies between the page and its server. The page's clock goes faster."""

    def __init__(self, page: Page) -> None:
        self.connections = 0
        self.up = self.down = True
        """Whether what the page sends goes on, and what the server sends."""
        self.junk: str | bytes | None = None
        """What comes instead of what the server sends."""
        self._dead = 0
        self._asked: set[tuple[int, str]] = set()
        """What went on over each connection and is not answered yet."""
        self.page = page
        page.clock.install()
        page.route_web_socket("**/ws", self._carry)

    def _carry(self, socket: WebSocketRoute) -> None:
        self.connections += 1
        number, server = self.connections, socket.connect_to_server()

        def up(text: str | bytes) -> None:
            if self.up and number > self._dead:
                self._asked.add((number, json.loads(text)["ref"]))
                server.send(text)

        def down(text: str | bytes) -> None:
            self._asked.discard((number, json.loads(text).get("ref")))
            if self.down and number > self._dead:
                socket.send(self.junk or text)

        def closed(code: int | None, reason: str | None) -> None:
            self._asked = {each for each in self._asked if each[0] != number}
            server.close(code=code, reason=reason)

        socket.on_close(closed)
        socket.on_message(up)
        server.on_message(down)

    def cut_off(self) -> None:
        """What there is carries nothing any more."""
        self._dead = self.connections

    def wait(self, seconds: int) -> None:
        """What the page does in this time, it does at once. A busy server has the time to answer."""
        for _ in range(seconds):
            run_clock(self.page, 1)
            deadline = time.monotonic() + _ANSWER_S
            while self._asked and time.monotonic() < deadline:
                self.page.wait_for_timeout(5)

    def wait_until(self, shown: Callable[[], bool]) -> None:
        for _ in range(300):
            if shown():
                return
            self.wait(1)
        raise AssertionError("it is not shown within five minutes")


@pytest.fixture
def way(context: BrowserContext, server: Server) -> Way:
    return Way(context.new_page())


@pytest.fixture
def editor(way: Way, server: Server) -> Iterator[Editor]:
    editor = Editor(way.page, f"http://127.0.0.1:{server.port}/")
    editor.open()
    yield editor
    # By the fast clock, a busy machine opens a connection too late: the browser tells that it was given up.
    given_up = "WebSocket is closed before the connection is established"
    assert [each for each in editor.complaints if given_up not in each] == []


@pytest.mark.parametrize("swallowed", ["both", "answers"])
def test_a_program_that_is_not_answered_is_given_up_in_words(
    way: Way, editor: Editor, swallowed: str
) -> None:
    way.down = False
    if swallowed == "both":
        way.up = False
    editor.talk("print('ran')")
    editor.expect_verdict("busy", "Sending…")
    way.wait_until(lambda: WHY in editor.part("detail").inner_text())
    editor.expect_verdict("busy", "Waiting for the server…")
    way.wait_until(lambda: editor.part("status").inner_text() == "No answer")
    way.wait_until(lambda: editor.part("run").get_attribute("data-state") == "run")
    editor.expect_verdict("ours", "No answer from the server")
    expect(editor.part("detail")).to_contain_text("Your program is still here")
    assert way.connections <= 4
    way.up = way.down = True
    editor.part("run-again").click()
    editor.expect_verdict("good")
    editor.expect_terminal("ran")
    expect(editor.part("status")).to_have_text("Connected")


def test_a_connection_that_carries_nothing_any_more_is_renewed(way: Way, editor: Editor) -> None:
    """The program waits for a person meanwhile."""
    editor.talk(ASKS)
    editor.expect_terminal("name?")
    way.cut_off()
    way.wait_until(lambda: way.connections == 2)
    editor.expect_verdict("busy", "Running…")
    expect(editor.part("status")).to_have_text("Connected")
    editor.type("you", "Enter")
    editor.expect_terminal("name? you", "hello you")


def test_a_run_of_which_nothing_comes_any_more_says_so_and_goes_on(
    way: Way, editor: Editor
) -> None:
    editor.talk(ASKS)
    editor.expect_terminal("name?")
    way.down = False
    way.wait_until(lambda: WHY in editor.part("detail").inner_text())
    editor.expect_verdict("busy", "Waiting for the server…")
    expect(editor.part("detail")).to_contain_text("what it writes will be shown here")
    way.wait_until(lambda: editor.part("status").inner_text() == "No answer")
    editor.type("you", "Enter")
    before = way.connections
    way.wait(100)
    assert way.connections - before <= 10
    way.down = True
    way.wait_until(lambda: editor.part("status").inner_text() == "Connected")
    editor.expect_verdict("busy", "Running…")
    expect(editor.part("detail")).to_be_hidden()
    editor.expect_terminal("name? you", "hello you")
    editor.type("Control+d")
    editor.expect_verdict("good")


def test_keys_that_do_not_arrive_are_noticed_though_the_program_writes(
    way: Way, editor: Editor
) -> None:
    editor.talk(
        "import select\n"
        "while not select.select([0], [], [], 0.05)[0]: print('.', end='', flush=True)\n"
        "print('got', input())"
    )
    editor.wait_terminal("...")
    way.up = False
    editor.type("x", "Enter")
    way.wait_until(lambda: way.connections == 2)
    way.up = True
    way.wait_until(lambda: editor.part("verdict").get_attribute("data-tone") == "good")
    editor.wait_terminal("got x")


JUNK: list[str | bytes] = [
    "<html>",
    b"{}",
    "null",
    "[]",
    "{}",
    '{"type": "error", "problem": null}',
    '{"type": "event", "id": "x", "seq": 1, "event": {"name": "finished"}}',
]


@pytest.mark.parametrize("junk", JUNK, ids=repr)
def test_a_frame_that_no_server_of_ours_has_sent_ends_the_connection(
    way: Way, editor: Editor, junk: str | bytes
) -> None:
    editor.talk(ASKS)
    editor.expect_terminal("name?")
    way.junk = junk
    editor.type("you", "Enter")
    way.wait_until(lambda: WHY in editor.part("detail").inner_text())
    editor.expect_verdict("busy", "Waiting for the server…")
    before = way.connections
    way.wait(60)
    assert 1 <= way.connections - before <= 20
    way.junk = None
    way.wait_until(lambda: editor.part("verdict").inner_text() == "Running…")
    editor.expect_terminal("name? you", "hello you")


def test_a_program_that_is_answered_with_junk_is_given_up_in_words(
    way: Way, editor: Editor
) -> None:
    way.junk = JUNK[0]
    editor.talk("print('ran')")
    way.wait_until(lambda: editor.part("run").get_attribute("data-state") == "run")
    editor.expect_verdict("ours", "No answer from the server")


def test_a_program_that_waits_for_long_is_asked_for_seldom(way: Way, editor: Editor) -> None:
    asked: list[str] = []
    editor.page.on("request", lambda request: asked.append(request.url))
    editor.talk(ASKS)
    editor.expect_terminal("name?")
    asked.clear()
    way.wait(300)
    assert 2 <= len([url for url in asked if url.endswith("readyz")]) <= 10
    assert way.connections == 1
    editor.expect_verdict("busy", "Running…")


def test_a_large_program_has_its_time_on_a_slow_line(browser: Browser, server: Server) -> None:
    with relay(server.port) as between, new_context(browser, DESK) as context:
        editor = Editor(context.new_page(), f"http://127.0.0.1:{between.port}/")
        connections: list[object] = []
        editor.page.on("websocket", lambda each: connections.append(each))
        editor.page.clock.install()
        editor.open()
        editor.write("print(len(input()))")
        editor.give("x" * 4_000_000)
        between.pause_s = 0.05
        editor.part("run").click()
        run_clock(editor.page, 60)
        between.pause_s = 0
        editor.expect_verdict("good")
        editor.expect_whole_output("4000000\n")
        assert len(connections) == 1
