"""What strangers wrote stands in the page's own lines, and stays within its place there."""

from pathlib import Path

import pytest
from playwright.sync_api import expect

from e2e.dropping import drop, zipped
from e2e.editor import BOTH, Editor
from e2e.test_links import follow

TURNS = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c"
"""Signs that turn the direction of a text."""
SEEN = "•" * len(TURNS)
OWN = """() => {
  const theirs = '.cm-content, #output, #compile-output, .xterm'
  const turns = /[\\u061c\\u200e\\u200f\\u202a-\\u202e\\u2066-\\u2069]/
  const found = turns.test(document.title) ? ['title'] : []
  for (const each of document.querySelectorAll('*')) {
    if (each.closest(theirs)) continue
    const texts = [...each.childNodes].filter(({ nodeType }) => nodeType === Node.TEXT_NODE)
    if (texts.some(({ data }) => turns.test(data))) found.push(each.outerHTML)
    for (const name of ['title', 'aria-label', 'alt', 'placeholder']) {
      if (turns.test(each.getAttribute(name) ?? '')) found.push(each.outerHTML)
    }
  }
  return found
}"""
"""The page's own elements that have such a sign in what is read of them."""


def check_own(editor: Editor) -> None:
    assert editor.page.evaluate(OWN) == []


@BOTH
def test_signs_that_turn_the_text_are_seen_and_do_nothing(editor: Editor, tmp_path: Path) -> None:
    pixel = "89504e470d0a1a0a0000000d4948445200000001000000010806000000"
    source = (
        f"from pathlib import Path\nPath('{TURNS}.png').write_bytes(bytes.fromhex('{pixel}'))\n"
        f"raise ValueError('{TURNS}')"
    )
    program = tmp_path / f"{TURNS}.zip"
    program.write_bytes(zipped({"main.py": "pass", f"{TURNS}.py": source, f"../{TURNS}": "out"}))
    drop(editor, program)
    expect(editor.part("done")).to_contain_text(SEEN)
    expect(editor.part("tabs")).to_contain_text(f"{SEEN}.py")
    editor.page.get_by_role("tab", name=f"{SEEN}.py").click()
    check_own(editor)
    editor.page.keyboard.press("F2")
    expect(editor.page.locator("#name-title")).to_contain_text(SEEN)
    check_own(editor)
    editor.part("name").fill(f"-{TURNS}")
    editor.page.keyboard.press("Enter")
    expect(editor.part("name-wrong")).not_to_be_empty()
    check_own(editor)
    editor.page.keyboard.press("Escape")
    editor.part("options").click()
    editor.part("options-args").fill(f"'{TURNS} x")
    expect(editor.part("options-args-gets")).to_be_hidden()
    editor.part("options-args").fill(TURNS)
    expect(editor.part("options-args-gets")).to_contain_text(SEEN)
    check_own(editor)
    editor.page.keyboard.press("Escape")
    follow(editor, language="python", source=source)
    editor.part("run").click()
    editor.expect_verdict("bad", "ValueError")
    expect(editor.part("detail")).to_contain_text(SEEN)
    expect(editor.part("pictures")).to_contain_text(f"{SEEN}.png")
    expect(editor.part("announce")).to_contain_text(SEEN)
    editor.show("problems")
    expect(editor.part("problem")).to_contain_text(SEEN)
    editor.page.keyboard.press("F8")
    expect(editor.part("problem-told")).to_contain_text(SEEN)
    check_own(editor)
    follow(editor, language=TURNS)
    expect(editor.part("done")).to_contain_text(SEEN)
    check_own(editor)


@BOTH
@pytest.mark.parametrize("letters", ["a", "a ", "é🙂"])
def test_a_notice_leaves_the_editor_in_sight(editor: Editor, letters: str) -> None:
    follow(editor, "#", language=letters * 3000)
    expect(editor.part("done")).to_contain_text("Choose a language from the list")
    box, code = editor.part("done").bounding_box(), editor.part("editor").bounding_box()
    assert box
    assert code
    assert box["height"] < 160
    assert code["height"] > 200
