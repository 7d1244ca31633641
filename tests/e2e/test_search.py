"""The editor's panels to find, to replace and to go to a line: the page's words and measures."""

import json
from pathlib import Path

from playwright.sync_api import Locator, expect

from e2e.editor import BOTH, Editor

WORDS: dict[str, str] = json.loads(
    (Path(__file__).parent.parent.parent / "templates/words.json").read_text()
)
OURS = {text for key, text in WORDS.items() if key.startswith("editor_")}
SAID = """panel => [...panel.querySelectorAll('input, button, label')].flatMap(each =>
    [each.textContent, each.placeholder, each.ariaLabel].filter(text => /\\w/.test(text ?? '')))"""
MEASURES = """panel => [...panel.querySelectorAll('input:not([type=checkbox]), button, label')]
    .map(each => [each, getComputedStyle(each).fontSize, each.getBoundingClientRect().height])
    .map(([each, size, height]) => [each.name || each.textContent, size, Math.round(height)])"""


def open_panel(editor: Editor, key: str) -> Locator:
    editor.page.locator(".cm-content").focus()
    editor.page.keyboard.press(key)
    panel = editor.page.locator(".cm-panel")
    expect(panel).to_be_visible()
    return panel


@BOTH
def test_the_panel_to_find_has_the_pages_words_and_measures(editor: Editor) -> None:
    panel = open_panel(editor, "Control+f")
    said = panel.evaluate(SAID)
    assert {"Regular expression", "Whole words", "Replace by", "Close"} <= set(said)
    assert set(said) <= OURS
    touch = 44 if editor.part("switch").is_visible() else 30
    measures = [each for each in panel.evaluate(MEASURES) if each[0] != "close"]
    assert len(measures) == 10
    # A browser would zoom into a smaller field of a narrow page.
    field = "16px" if editor.part("switch").is_visible() else "13px"
    fields = {"search", "replace"}
    assert {size for name, size, _ in measures[:1] + measures[-3:-2]} == {field}
    assert {size for name, size, _ in measures if name not in fields} == {"13px"}
    assert [name for name, _, height in measures if height < touch] == []
    box = panel.bounding_box()
    assert box
    for part in panel.locator("input, button, label").all():
        inside = part.bounding_box()
        assert inside
        assert inside["x"] >= 0
        assert inside["x"] + inside["width"] <= box["x"] + box["width"]


def test_what_is_found_and_replaced_is_said_in_the_pages_words(editor: Editor) -> None:
    editor.write("one two\none three")
    panel = open_panel(editor, "Control+f")
    panel.get_by_role("textbox", name="Find").fill("one")
    panel.get_by_role("textbox", name="Replace by").fill("1")
    panel.get_by_role("button", name="Replace all").click()
    editor.expect_program("1 two\n1 three")
    expect(editor.page.locator(".cm-announced")).to_have_text("Replaced: 2.")


def test_the_panel_to_go_to_a_line_has_the_pages_words(editor: Editor) -> None:
    assert set(open_panel(editor, "Control+Alt+g").evaluate(SAID)) <= OURS | {"Go to line: "}
