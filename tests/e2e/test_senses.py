"""What a person asks of the page by settings: larger text, and nothing that moves."""

import pytest
from playwright.sync_api import Browser, expect
from serving import Server

from e2e.editor import BOTH, LAPTOP, Editor, new_context

MOVING = "() => document.getAnimations().map(each => each.animationName ?? each.transitionProperty)"
OVERLAPS = """() => {
    const parts = '#switch [role=tab], #verdict, #run, .result > .bar button';
    const shown = [...document.querySelectorAll(parts)].filter(each => each.checkVisibility())
        .map(each => [each.id, each.getBoundingClientRect()]);
    const overlap = (a, b) => a.left < b.right - 1 && b.left < a.right - 1
        && a.top < b.bottom - 1 && b.top < a.bottom - 1;
    return shown.flatMap(([one, a], n) =>
        shown.slice(n + 1).filter(([, b]) => overlap(a, b)).map(([other]) => [one, other]));
}"""
"""Pairs of parts that lie over each other."""


@pytest.mark.parametrize("less", [True, False], ids=["less motion", "usual"])
def test_nothing_moves_for_who_wants_less_motion(
    browser: Browser, server: Server, less: bool
) -> None:
    with new_context(browser, LAPTOP) as context:
        editor = Editor(context.new_page(), f"http://127.0.0.1:{server.port}/")
        editor.page.emulate_media(reduced_motion="reduce" if less else "no-preference")
        editor.open()
        # The editor's cursor blinks.
        editor.allow_long_runs()
        usual = set() if less else {"cm-blink", "cm-blink2"}
        editor.run("import time; print('up', flush=True); time.sleep(600)")
        editor.expect_output("up")
        editor.expect_verdict("busy", "Running")
        moves = set() if less else {"turn"}
        assert set(editor.page.evaluate(MOVING)) - usual == moves
        editor.stop()
        editor.expect_verdict("stopped")
        editor.talk("input('name? ')")
        editor.wait_terminal("name?")
        assert set(editor.page.evaluate(MOVING)) - usual == moves
        editor.page.keyboard.press("Control+.")
        editor.expect_verdict("stopped")
        assert editor.complaints == []


@BOTH
def test_larger_text_is_larger_everywhere_and_lies_within_the_page(
    editor: Editor, size: tuple[int, int]
) -> None:
    shown = ".cm-content", "#stdin", "#output", "#compile-output", ".xterm-rows"
    editor.talk("import os; print(*os.get_terminal_size())")
    editor.expect_verdict("good")
    usual = int(editor.wait_terminal(" ")[0].split()[0])
    editor.part("options").click()
    editor.part("options-size").select_option("24")
    editor.part("options-close").click()
    editor.part("run").click()
    editor.expect_verdict("good")
    editor.page.wait_for_function(
        "usual => parseInt(document.querySelector('.xterm-rows').textContent) < usual", arg=usual
    )
    sizes = editor.page.evaluate(
        "all => all.map(each => getComputedStyle(document.querySelector(each)).fontSize)", shown
    )
    assert set(sizes) == {"24px"}
    editor.run("print('x' * 500)")
    editor.expect_verdict("good")
    for pane in ("code", "output", "input"):
        editor.show(pane)
        widths = editor.page.evaluate(
            "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
        )
        assert widths == [size[0], size[0]]
        expect(editor.part("run")).to_be_in_viewport(ratio=1)


@BOTH
def test_a_browser_with_twice_the_text_cuts_no_words_off(
    editor: Editor, size: tuple[int, int]
) -> None:
    """As by its setting for all pages: the measures of the page are in `rem`, and follow."""
    editor.page.evaluate("document.documentElement.style.fontSize = '32px'")
    editor.run("print(1 / 0)")
    editor.expect_verdict("bad")
    for pane in ("code", "output", "input", "problems"):
        editor.show(pane)
        width = editor.page.evaluate("document.documentElement.scrollWidth")
        assert width == size[0]
        assert editor.page.evaluate(OVERLAPS) == []
        expect(editor.part("run")).to_be_in_viewport(ratio=1)
