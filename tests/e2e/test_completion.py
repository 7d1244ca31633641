"""Words that the editor offers to complete."""

import re

import pytest
from playwright.sync_api import Locator, expect

from e2e.editor import Editor


def offered(editor: Editor) -> Locator:
    return editor.page.locator(".cm-tooltip-autocomplete li")


def text(editor: Editor) -> str:
    lines = editor.page.locator(".cm-line").all_inner_texts()
    return "\n".join(line.rstrip("\n") for line in lines)


def wait_for_help(editor: Editor) -> None:
    """The page loads completion after it has shown the program."""
    expect(editor.page.locator(".cm-content")).to_have_attribute("aria-autocomplete", "list")


def test_words_of_the_program_and_the_language_are_offered_from_the_second_letter(
    editor: Editor,
) -> None:
    editor.write("average_of_all = 1\n")
    wait_for_help(editor)
    editor.page.keyboard.type("a")
    editor.page.keyboard.type("v")
    expect(offered(editor)).to_have_text(["average_of_all"])
    editor.page.keyboard.press("Tab")
    assert text(editor) == "average_of_all = 1\naverage_of_all"
    editor.page.keyboard.press("Enter")
    editor.page.keyboard.type("contin")
    expect(offered(editor).first).to_have_text("continue")
    editor.page.keyboard.press("Escape")
    expect(offered(editor)).to_have_count(0)


def test_one_letter_a_text_and_a_comment_are_left_alone(editor: Editor) -> None:
    editor.write("average_of_all = 1\n")
    wait_for_help(editor)
    for quiet in ("a", "# average_o", "x = 'average_o"):
        editor.page.keyboard.type(quiet)
        # The list would come before that of a word which is typed later.
        editor.page.wait_for_timeout(300)
        expect(offered(editor)).to_have_count(0)
        editor.page.keyboard.press("End")
        editor.page.keyboard.press("Enter")
    editor.page.keyboard.type("av")
    expect(offered(editor)).to_have_text(["average_o", "average_of_all"])


def test_enter_makes_a_line_unless_a_word_was_chosen(editor: Editor) -> None:
    editor.write("average_of_all = 1\naverage_of_some = 2\n")
    wait_for_help(editor)
    editor.page.keyboard.type("ave")
    expect(offered(editor)).to_have_count(2)
    editor.page.keyboard.press("Enter")
    assert text(editor).endswith("= 2\nave\n")
    editor.page.keyboard.type("ave")
    expect(offered(editor)).to_have_count(3)
    editor.page.keyboard.press("ArrowDown")
    editor.page.keyboard.press("ArrowDown")
    chosen = editor.page.locator("li[aria-selected]").inner_text()
    editor.page.keyboard.press("Enter")
    assert text(editor).endswith(f"\nave\n{chosen}")


def test_control_space_offers_at_once(editor: Editor) -> None:
    editor.choose("rust")
    editor.write("")
    wait_for_help(editor)
    editor.page.keyboard.press("Control+Space")
    expect(offered(editor).filter(has_text=re.compile("^async$"))).to_have_count(1)


@pytest.mark.parametrize(
    ("language", "typed", "word"),
    [
        ("bash", "functi", "function"),
        ("c", "typed", "typedef"),
        ("cpp", "constev", "consteval"),
        ("go", "fallthr", "fallthrough"),
        ("java", "implem", "implements"),
        ("javascript", "debugg", "debugger"),
        ("lua", "elsei", "elseif"),
        ("python", "nonloc", "nonlocal"),
        ("perl", "wantarr", "wantarray"),
        ("php", "<?php\nrequire_on", "require_once"),
        ("ruby", "attr_acc", "attr_accessor"),
        ("sql", "autoinc", "autoincrement"),
        ("typescript", "readon", "readonly"),
    ],
)
def test_each_language_offers_its_keywords(
    editor: Editor, language: str, typed: str, word: str
) -> None:
    editor.choose(language)
    editor.write("")
    wait_for_help(editor)
    editor.page.keyboard.type(typed)
    expect(offered(editor).first).to_have_text(re.compile(f"^{word}$", re.IGNORECASE))


def test_what_helps_to_write_is_not_waited_for(editor: Editor) -> None:
    """A file that does not come takes the program's colours, and no more."""
    editor.page.route("**/assist.js*", lambda route: route.abort())
    editor.page.reload()
    editor.expect_ready()
    editor.run("print('plain')")
    editor.expect_output("plain")
    editor.complaints.clear()


def test_escape_closes_what_is_offered_and_nothing_else(editor: Editor) -> None:
    editor.write("average_of_all = 1\n")
    wait_for_help(editor)
    editor.part("options").click()
    expect(editor.part("options-dialog")).to_be_visible()
    editor.page.locator(".cm-content").focus()
    editor.page.keyboard.press("Control+f")
    editor.page.locator(".cm-content").focus()
    editor.page.keyboard.press("Control+End")
    editor.page.keyboard.type("aver")
    expect(offered(editor)).to_have_count(1)
    editor.page.keyboard.press("Escape")
    expect(offered(editor)).to_have_count(0)
    expect(editor.page.locator(".cm-search")).to_be_visible()
    expect(editor.part("options-dialog")).to_be_visible()
    editor.page.keyboard.press("Escape")
    expect(editor.page.locator(".cm-search")).to_have_count(0)


def test_escape_and_tab_leave_the_editor_though_nothing_was_found_to_offer(editor: Editor) -> None:
    editor.write("average_of_all = 1\n")
    wait_for_help(editor)
    editor.page.keyboard.type("averx")
    expect(offered(editor)).to_have_count(0)
    editor.page.keyboard.press("Escape")
    editor.page.keyboard.press("Tab")
    expect(editor.page.locator(".cm-content")).not_to_be_focused()
    editor.expect_program("average_of_all = 1\naverx")
