"""Words that the editor offers to complete."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Locator, expect
from serving import Server

from e2e.editor import Editor, new_context

WIDE = (1280, 800)


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


def offered(at: Editor) -> Locator:
    return at.page.locator(".cm-tooltip-autocomplete li")


def text(at: Editor) -> str:
    lines = at.page.locator(".cm-line").all_inner_texts()
    return "\n".join(line.rstrip("\n") for line in lines)


def wait_for_help(at: Editor) -> None:
    """The page loads completion after it has shown the program."""
    expect(at.page.locator(".cm-content")).to_have_attribute("aria-autocomplete", "list")


def test_words_of_the_program_and_the_language_are_offered_from_the_second_letter(
    at: Editor,
) -> None:
    at.write("average_of_all = 1\n")
    wait_for_help(at)
    at.page.keyboard.type("a")
    at.page.keyboard.type("v")
    expect(offered(at)).to_have_text(["average_of_all"])
    at.page.keyboard.press("Tab")
    assert text(at) == "average_of_all = 1\naverage_of_all"
    at.page.keyboard.press("Enter")
    at.page.keyboard.type("contin")
    expect(offered(at).first).to_have_text("continue")
    at.page.keyboard.press("Escape")
    expect(offered(at)).to_have_count(0)


def test_one_letter_a_text_and_a_comment_are_left_alone(at: Editor) -> None:
    at.write("average_of_all = 1\n")
    wait_for_help(at)
    for quiet in ("a", "# average_o", "x = 'average_o"):
        at.page.keyboard.type(quiet)
        # The list would come before that of a word which is typed later.
        at.page.wait_for_timeout(300)
        expect(offered(at)).to_have_count(0)
        at.page.keyboard.press("End")
        at.page.keyboard.press("Enter")
    at.page.keyboard.type("av")
    expect(offered(at)).to_have_text(["average_o", "average_of_all"])


def test_enter_makes_a_line_unless_a_word_was_chosen(at: Editor) -> None:
    at.write("average_of_all = 1\naverage_of_some = 2\n")
    wait_for_help(at)
    at.page.keyboard.type("ave")
    expect(offered(at)).to_have_count(2)
    at.page.keyboard.press("Enter")
    assert text(at).endswith("= 2\nave\n")
    at.page.keyboard.type("ave")
    expect(offered(at)).to_have_count(3)
    at.page.keyboard.press("ArrowDown")
    at.page.keyboard.press("ArrowDown")
    chosen = at.page.locator("li[aria-selected]").inner_text()
    at.page.keyboard.press("Enter")
    assert text(at).endswith(f"\nave\n{chosen}")


def test_control_space_offers_at_once(at: Editor) -> None:
    at.part("language").select_option("rust")
    at.write("")
    wait_for_help(at)
    at.page.keyboard.press("Control+Space")
    expect(offered(at).filter(has_text=re.compile("^async$"))).to_have_count(1)


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
    at: Editor, language: str, typed: str, word: str
) -> None:
    at.part("language").select_option(language)
    at.write("")
    wait_for_help(at)
    at.page.keyboard.type(typed)
    expect(offered(at).first).to_have_text(re.compile(f"^{word}$", re.IGNORECASE))


def test_what_helps_to_write_is_not_waited_for(at: Editor) -> None:
    """A file that does not come takes the program's colours, and no more."""
    at.page.route("**/assist.js*", lambda route: route.abort())
    at.page.reload()
    at.expect_ready()
    at.run("print('plain')")
    at.expect_output("plain")
    at.complaints.clear()
