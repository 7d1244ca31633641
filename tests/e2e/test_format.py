"""The language's own formatter in the page."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Route, expect
from serving import Server

from e2e.editor import PHONE, Editor, new_context

WIDE = (1280, 800)
BOTH = pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
MESSY = 'package main\nimport "fmt"\nfunc main( ) {\nfmt.Println( "one" )\n   x := 1; _ = x\n}\n'
NEAT = 'package main\n\nimport "fmt"\n\nfunc main() {\n\tfmt.Println("one")\n\tx := 1\n\t_ = x\n}\n'


@pytest.fixture
def size() -> tuple[int, int]:
    return WIDE


@pytest.fixture
def at(browser: Browser, server: Server, size: tuple[int, int]) -> Iterator[Editor]:
    with new_context(browser, size) as context:
        editor = Editor(context.new_page(), f"http://127.0.0.1:{server.port}/")
        editor.open()
        yield editor
        assert editor.complaints == []


def expect_text(at: Editor, wanted: str) -> None:
    expect(at.page.locator(".cm-line")).to_have_text(
        [re.compile(f"^{re.escape(line)}$") for line in wanted.split("\n")]
    )


@BOTH
def test_a_program_is_put_in_order_and_the_cursor_stays(at: Editor) -> None:
    at.part("language").select_option("go")
    at.write(MESSY)
    at.page.keyboard.press("Control+Home")
    for key in ("ArrowDown", "ArrowDown", "ArrowDown", "End", "ArrowLeft", "ArrowLeft"):
        at.page.keyboard.press(key)
    if at.part("switch").is_visible():
        at.part("format").click()
    else:
        at.page.keyboard.press("Alt+Shift+f")
    expect_text(at, NEAT)
    at.page.locator(".cm-content").focus()
    at.page.keyboard.type("!")
    expect_text(at, NEAT.replace('"one")', '"one"!)'))
    for _ in range(2):
        at.page.keyboard.press("Control+z")
    expect_text(at, MESSY)
    at.page.keyboard.press("Control+y")
    expect_text(at, NEAT)


@pytest.mark.parametrize(
    ("language", "source", "words"),
    [
        ("python", "x = 1\ndef f(:\n", "Line 2: def f(:"),
        ("go", "package main\n\nfunc main() { 1 + }\n", "Line 3: expected operand, found '}'"),
        ("rust", "fn main() { let }\n", "Line 1: expected pattern, found `}`"),
        ("bash", "if true; then\n", 'Line 1: if statement must end with "fi"'),
    ],
)
def test_what_cannot_be_formatted_is_said_and_nothing_is_lost(
    at: Editor, language: str, source: str, words: str
) -> None:
    at.part("language").select_option(language)
    at.write(source)
    at.page.keyboard.press("Alt+Shift+f")
    expect(at.part("done")).to_contain_text(f"Not formatted. {words}")
    expect_text(at, source)


def test_what_was_written_meanwhile_stays(at: Editor) -> None:
    held: list[Route] = []
    at.page.route("**/submissions?wait=*", lambda route: held.append(route))
    at.write("x  =  1")
    at.page.keyboard.press("Alt+Shift+f")
    expect(at.part("note")).to_have_text("Formatting…")
    while not held:
        at.page.wait_for_timeout(20)
    at.page.keyboard.type("0")
    held[0].continue_()
    expect(at.part("done")).to_contain_text("you went on writing")
    expect_text(at, "x  =  10")


def test_a_program_in_order_stays_and_a_language_without_a_formatter_says_so(at: Editor) -> None:
    at.write("x = 1\n")
    at.part("format").click()
    expect(at.part("note")).to_have_text("Already in order")
    at.part("language").select_option("sql")
    expect(at.part("format")).to_be_hidden()
    at.page.locator(".cm-content").focus()
    at.page.keyboard.press("Alt+Shift+f")
    expect(at.part("done")).to_contain_text("no formatter for SQL")


def test_a_server_that_is_away_is_said(at: Editor) -> None:
    at.write("x  = 1")
    at.page.route("**/submissions?wait=*", lambda route: route.abort())
    at.page.keyboard.press("Alt+Shift+f")
    expect(at.part("done")).to_contain_text("the server cannot be reached")
    expect_text(at, "x  = 1")
    at.complaints.clear()


def test_a_file_of_another_kind_is_left_as_it_is(at: Editor) -> None:
    at.part("language").select_option("c")
    at.write("int main(void) { return 0; }")
    for name, text in (("a.json", '{"a":1}'), ("a.h", "int  a;")):
        at.part("add-file").click()
        at.part("name").fill(name)
        at.page.keyboard.press("Enter")
        at.write(text)
        at.part("format").click()
        if name == "a.json":
            expect(at.part("done")).to_contain_text("a.json is no file of C.")
            at.expect_program(text)
    at.expect_program("int a;")
