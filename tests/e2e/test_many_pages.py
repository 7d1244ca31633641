"""Two hundred pages of one browser, which share what it keeps."""

import pytest
from playwright.sync_api import BrowserContext, expect

from e2e.editor import PATIENCE_MS, Editor

PAGES = 200
"""Together they take 6 GB of memory, and half a second of a quiet machine each."""
SHOWS = "text => document.querySelector('.cm-content')?.innerText.trim() === text"


def expect_all(pages: list[Editor], program: str) -> None:
    for each in pages:
        each.page.wait_for_function(SHOWS, arg=program, timeout=PATIENCE_MS)


@pytest.mark.long
def test_two_hundred_pages_have_one_program_and_lose_nothing(
    context: BrowserContext, editor: Editor
) -> None:
    editor.write("print('first')")
    editor.page.reload()  # a tab that has changed nothing yet
    editor.expect_ready()
    others = [Editor(context.new_page(), editor.home) for _ in range(PAGES - 1)]
    for each in others:
        each.open()
    expect_all(others, "print('first')")
    for each in others:
        expect(each.part("status")).to_have_attribute("data-state", "up")
    editor.page.evaluate("() => { heard = 0; addEventListener('storage', () => heard += 1) }")
    last = others.pop()
    last.write("print('last')")
    expect_all([editor, *others], "print('last')")
    assert editor.page.evaluate("heard") < 20  # no page tells what it was told
    editor.write("print('mine')")
    expect_all(others, "print('mine')")
    expect(last.part("program-contest")).to_be_visible()
    last.part("program-contest").get_by_text("Take theirs").click()
    expect_all([last], "print('mine')")
    for each in (last, others[0]):
        each.give("x")
        each.part("run").click()
        each.expect_verdict("good")
        each.expect_whole_output("mine\n")
    for each in (last, *others):
        assert each.complaints == []
        each.page.close()
    editor.page.reload()
    editor.expect_ready()
    editor.expect_program("print('mine')")
    expect(editor.part("stdin")).to_have_value("x")
