"""Addresses that bring a program with them."""

from urllib.parse import urlencode

import pytest
from playwright.sync_api import expect

from e2e.editor import BOTH, Editor

SHOWS = "import sys\nprint(sys.argv[1:], sys.stdin.read())"


def follow(editor: Editor, behind: str = "?", **parts: str) -> None:
    editor.page.goto("about:blank")
    editor.page.goto(f"{editor.home}{behind}{urlencode(parts)}")
    editor.expect_ready()


@BOTH
@pytest.mark.parametrize("behind", ["?", "#"])
def test_a_link_brings_its_program(editor: Editor, behind: str) -> None:
    follow(editor, behind, language="PY", source=SHOWS, stdin="in\n", args="one 'two three'")
    editor.expect_program(SHOWS)
    expect(editor.part("done")).to_be_hidden()
    editor.part("run").click()
    editor.expect_whole_output("['one', 'two three'] in\n\n")
    assert editor.page.url == editor.home
    editor.page.reload()
    editor.expect_program(SHOWS)


def test_a_link_names_a_language_alone(editor: Editor) -> None:
    editor.write("print('mine')")
    follow(editor, language="Rust")
    editor.expect_language("rust")
    expect(editor.page.locator(".cm-content")).to_contain_text("fn main")
    editor.choose("python")
    editor.expect_program("print('mine')")


@BOTH
def test_a_draft_is_kept_and_comes_back(editor: Editor) -> None:
    editor.write("print('mine')")
    editor.give("my input")
    follow(editor, language="python", source="print('theirs')", args="theirs")
    editor.show("code")
    editor.expect_program("print('theirs')")
    expect(editor.part("stdin")).to_have_value("")
    expect(editor.part("done")).to_contain_text("Your program from before is kept")
    editor.part("versions").click()
    expect(editor.part("versions-dialog")).to_contain_text("print('mine')")
    editor.page.keyboard.press("Escape")
    editor.part("done").get_by_role("button", name="Undo").click()
    editor.expect_program("print('mine')")
    expect(editor.part("stdin")).to_have_value("my input")
    expect(editor.part("options")).to_have_attribute("data-changed", "false")


def test_a_language_that_is_not_here_is_said(editor: Editor) -> None:
    editor.write("print('mine')")
    follow(editor, language="klingon", source="DISPLAY 1")
    said = expect(editor.part("done"))
    said.to_contain_text("“klingon”")
    said.to_contain_text("Choose a language from the list.")
    editor.expect_program("print('mine')")
    assert "klingon" in editor.page.url


def test_a_link_that_is_too_long_is_said(editor: Editor) -> None:
    editor.write("print('mine')")
    follow(editor, "#", source="x" * 200_001)
    expect(editor.part("done")).to_contain_text("“source” has more than 200,000 characters")
    editor.expect_program("print('mine')")
