"""Addresses that bring a program with them."""

from collections.abc import Iterator
from urllib.parse import urlencode

import pytest
from playwright.sync_api import Browser, expect
from serving import Server

from e2e.editor import PHONE, Editor, new_context

WIDE = (1280, 800)
BOTH = pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
SHOWS = "import sys\nprint(sys.argv[1:], sys.stdin.read())"


@pytest.fixture
def at(browser: Browser, server: Server, size: tuple[int, int]) -> Iterator[Editor]:
    with new_context(browser, size) as context:
        editor = Editor(context.new_page(), f"http://127.0.0.1:{server.port}/")
        editor.open()
        yield editor
        assert editor.complaints == []


@pytest.fixture
def size() -> tuple[int, int]:
    return WIDE


def follow(at: Editor, behind: str = "?", **parts: str) -> None:
    at.page.goto("about:blank")
    at.page.goto(f"{at.home}{behind}{urlencode(parts)}")
    at.expect_ready()


@BOTH
@pytest.mark.parametrize("behind", ["?", "#"])
def test_a_link_brings_its_program(at: Editor, behind: str) -> None:
    follow(at, behind, language="PY", source=SHOWS, stdin="in\n", args="one 'two three'")
    at.expect_program(SHOWS)
    expect(at.part("done")).to_be_hidden()
    at.part("run").click()
    at.expect_whole_output("['one', 'two three'] in\n\n")
    assert at.page.url == at.home
    at.page.reload()
    at.expect_program(SHOWS)


def test_a_link_names_a_language_alone(at: Editor) -> None:
    at.write("print('mine')")
    follow(at, language="Rust")
    expect(at.part("language")).to_have_value("rust")
    expect(at.page.locator(".cm-content")).to_contain_text("fn main")
    at.part("language").select_option("python")
    at.expect_program("print('mine')")


@BOTH
def test_a_draft_is_kept_and_comes_back(at: Editor) -> None:
    at.write("print('mine')")
    at.give("my input")
    follow(at, language="python", source="print('theirs')", args="theirs")
    at.show("code")
    at.expect_program("print('theirs')")
    expect(at.part("stdin")).to_have_value("")
    expect(at.part("done")).to_contain_text("Your program from before is kept")
    at.part("versions").click()
    expect(at.part("versions-dialog")).to_contain_text("print('mine')")
    at.page.keyboard.press("Escape")
    at.part("done").get_by_role("button", name="Undo").click()
    at.expect_program("print('mine')")
    expect(at.part("stdin")).to_have_value("my input")
    expect(at.part("options")).to_have_attribute("data-changed", "false")


def test_a_language_that_is_not_here_is_said(at: Editor) -> None:
    at.write("print('mine')")
    follow(at, language="cobol", source="DISPLAY 1")
    said = expect(at.part("done"))
    said.to_contain_text("“cobol”")
    said.to_contain_text("Bash, C, C++, Go, Java")
    at.expect_program("print('mine')")
    assert "cobol" in at.page.url


def test_a_link_that_is_too_long_is_said(at: Editor) -> None:
    at.write("print('mine')")
    follow(at, "#", source="x" * 200_001)
    expect(at.part("done")).to_contain_text("“source” has more than 200,000 characters")
    at.expect_program("print('mine')")
