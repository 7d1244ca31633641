"""A person without a pointer writes, runs, reads, answers, mends and sets a program."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect
from serving import Server

from e2e.editor import Editor, new_context

WIDE = (1280, 800)
POINTERS = """() => {
    window.pointed = [];
    for (const kind of ['pointerdown', 'mousedown', 'touchstart'])
        addEventListener(kind, () => pointed.push(kind), { capture: true });
}"""
IN = "part => document.querySelector(part).contains(document.activeElement)"


@pytest.fixture
def editor(browser: Browser, server: Server) -> Iterator[Editor]:
    with new_context(browser, WIDE) as context:
        editor = Editor(context.new_page(), f"http://127.0.0.1:{server.port}/")
        editor.open()
        editor.page.evaluate(POINTERS)
        yield editor
        assert editor.page.evaluate("pointed") == []
        assert editor.complaints == []


def press(editor: Editor, *keys: str) -> None:
    for key in keys:
        editor.page.keyboard.press(key)


def reach(editor: Editor, part: str, key: str) -> None:
    """Press a key again and again, until something in this part has the focus."""
    for _ in range(30):
        if editor.page.evaluate(IN, part):
            return
        press(editor, key)
    raise AssertionError(f"{key} does not lead to {part}")


def rewrite(editor: Editor, text: str) -> None:
    press(editor, "Control+a")
    editor.page.keyboard.insert_text(text)


def test_a_program_is_written_run_answered_mended_and_set_by_keys(editor: Editor) -> None:
    reach(editor, "#editor", "F6")
    rewrite(editor, "import sys\nprint('read', sys.stdin.read())\n")
    reach(editor, "#drawer", "F6")
    rewrite(editor, "given")
    press(editor, "Control+Enter")
    editor.expect_verdict("good")
    editor.expect_output("read given")
    reach(editor, "#output", "F6")

    reach(editor, "#drawer", "Shift+F6")
    press(editor, "Control+a", "Delete")
    reach(editor, "#editor", "Shift+F6")
    rewrite(editor, "name = input('name? ')\nprint('hello', nam)\n")
    press(editor, "Control+Enter")
    editor.wait_terminal("name?")
    reach(editor, "#terminal", "F6")
    editor.page.keyboard.type("you")
    press(editor, "Enter")
    editor.expect_verdict("bad", "NameError in line 2")

    press(editor, "F8")
    expect(editor.page.locator(".cm-content")).to_be_focused()
    expect(editor.part("problem-told")).to_contain_text("main.py:2")
    press(editor, "Escape")
    reach(editor, "#drawer", "Tab")
    reach(editor, "#problems-tab", "ArrowLeft")
    reach(editor, "#problems", "Tab")
    reach(editor, "[data-testid=problem]", "Tab")
    press(editor, "Enter")
    expect(editor.page.locator(".cm-content")).to_be_focused()
    rewrite(editor, "print('hello', input('name? '))")

    press(editor, "Escape", "Escape")  # the first may close what completes a word
    reach(editor, "#options", "Shift+Tab")
    press(editor, "Enter")
    expect(editor.part("options-dialog")).to_be_visible()
    press(editor, "Escape")
    expect(editor.part("options-dialog")).to_be_hidden()
    expect(editor.part("options")).to_be_focused()
    press(editor, "Control+Enter")
    editor.wait_terminal("name?")
    reach(editor, "#run", "Tab")
    press(editor, "Enter")
    editor.expect_verdict("stopped")


_CHANGES = """() => {
    window.changes = [];
    new MutationObserver(records => {
        for (const { type, target, attributeName, oldValue } of records) {
            const same = type === 'attributes' && target.getAttribute(attributeName) === oldValue;
            if (!same) changes.push([type, target.id || target.nodeName, attributeName]);
        }
    }).observe(document, {
        subtree: true, childList: true, characterData: true, attributes: true, attributeOldValue: true
    });
    // After the page has seen the key.
    addEventListener('keydown', key => {
        if (key.key === 'Enter') window.byKey = changes.slice();
        else changes.length = 0;
    }, { capture: true });
}"""


@pytest.mark.parametrize("given", ["some", ""], ids=["with input", "terminal"])
def test_the_key_that_runs_a_program_draws_nothing(editor: Editor, given: str) -> None:
    """A browser keeps back what comes from the server until it has drawn what the key has changed."""
    editor.give(given)
    editor.write("print('Hello')")
    press(editor, "Control+Enter")
    editor.expect_verdict("good")
    editor.page.evaluate(_CHANGES)
    press(editor, "Control+Enter")
    editor.expect_verdict("good")
    assert editor.page.evaluate("byKey") == [["attributes", "result", "aria-busy"]]
    assert editor.page.evaluate("changes.length") > 5
