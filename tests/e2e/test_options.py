"""How a program is compiled and run, and how the editor behaves, as a person chooses it under Options."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect
from serving import Server

from e2e.editor import PHONE, Editor, new_context

WIDE = (1280, 800)
BOTH = pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])

SHOWS = """\
#include <cstdlib>
#include <iostream>
int main(int count, char **words) {
    std::cout << __cplusplus << '\\n';
    for (int at = 1; at < count; at++) std::cout << '<' << words[at] << ">\\n";
    std::cout << (std::getenv("MY_NAME") ?: "no name") << '\\n';
}"""


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


def open_options(at: Editor) -> None:
    at.part("options").click()
    expect(at.part("options-dialog")).to_be_visible()


def close_options(at: Editor) -> None:
    at.part("options-close").click()
    expect(at.part("options-dialog")).to_be_hidden()


def chip(at: Editor, argument: str) -> None:
    at.part("options-dialog").get_by_role("button", name=argument, exact=True).click()


@BOTH
def test_arguments_flags_and_environment_reach_the_program(at: Editor) -> None:
    at.part("language").select_option("cpp")
    at.give("x")
    expect(at.part("options")).to_have_attribute("data-changed", "false")
    open_options(at)
    chip(at, "-std=c++17")
    chip(at, "-std=c++20")
    expect(at.part("options-compile_args")).to_have_value("-std=c++20")
    at.part("options-args").fill("""one 'two  three' "it's" """)
    gets = at.part("options-args-gets").locator("code")
    expect(gets).to_have_text(["one", "two  three", "it's"])
    at.part("env-add").click()
    at.part("env-name").fill("MY_NAME")
    at.part("env-value").fill("Ada L")
    close_options(at)
    expect(at.part("options")).to_have_attribute("data-changed", "true")
    expect(at.part("options")).to_have_accessible_name("Options, changed")
    at.run(SHOWS)
    at.expect_verdict("good")
    at.expect_whole_output("202002\n<one>\n<two  three>\n<it's>\nAda L\n")
    at.page.reload()
    at.expect_ready()
    expect(at.part("options")).to_have_attribute("data-changed", "true")
    open_options(at)
    expect(at.part("env-value")).to_have_value("Ada L")
    at.part("options-reset").click()
    expect(at.part("options-args")).to_have_value("")
    expect(at.part("env-name")).to_have_count(0)
    close_options(at)
    expect(at.part("options")).to_have_attribute("data-changed", "false")
    at.show("output")
    expect(at.part("old")).to_be_visible()
    at.part("run").click()
    at.expect_whole_output("201703\nno name\n")


def test_each_language_has_options_of_its_own(at: Editor) -> None:
    open_options(at)
    expect(at.part("options-compile_args")).to_have_count(0)
    at.part("options-args").fill("mine")
    close_options(at)
    at.part("language").select_option("c")
    expect(at.part("options")).to_have_attribute("data-changed", "false")
    at.part("language").select_option("python")
    expect(at.part("options")).to_have_attribute("data-changed", "true")


@BOTH
def test_what_is_wrong_is_said_at_its_field_and_nothing_is_run(at: Editor) -> None:
    at.give("x")
    open_options(at)
    dialog = at.part("options-dialog")
    for field, text, words in (
        ("options-args", "it's", "A quotation mark ' is not closed."),
        ("options-cpu_time", "61", "At most 60 s on this server."),
        ("options-memory", "much", "A number, such as 2 or 2.5."),
    ):
        at.part(field).fill(text)
        expect(at.part(field)).to_have_attribute("aria-invalid", "true")
        expect(at.part(field)).to_have_accessible_description(words)
    at.part("env-add").click()
    at.part("env-name").fill("A B")
    expect(dialog).to_contain_text("“A B” is no name of a variable")
    at.part("options-cpu_time").fill("60")
    expect(dialog).not_to_contain_text("At most 60 s on this server.")
    close_options(at)
    at.write("print('ran')")
    at.part("run").click()
    expect(at.part("options-args")).to_be_focused()
    expect(at.part("options-args")).to_have_value("it's")
    at.expect_idle()
    at.part("options-reset").click()
    close_options(at)
    at.part("run").click()
    at.expect_whole_output("ran\n")


def test_limits_are_those_that_were_chosen(at: Editor) -> None:
    at.give("x")
    expect(at.part("limits")).to_have_text("5 s, 256 MB")
    open_options(at)
    at.part("options-cpu_time").fill("0,5")
    at.part("options-memory").fill("128")
    close_options(at)
    expect(at.part("limits")).to_have_text("0.5 s, 128 MB")
    at.run("while True: pass")
    at.expect_verdict("bad")
    expect(at.part("verdict")).to_contain_text("0.5 s")
    at.run("x = bytearray(150 * 2**20)")
    at.expect_verdict("bad", "128 MB")


def test_a_limit_that_the_server_refuses_is_said_in_its_words(at: Editor) -> None:
    """The ceiling may have been lowered since, or may not be known yet."""
    at.page.evaluate(
        'localStorage.setItem(\'occd:options:python\', \'{"limits":{"cpu_time":"600"}}\')'
    )
    at.page.reload()
    at.expect_ready()
    at.part("run").click()
    at.expect_verdict("bad")
    expect(at.part("detail")).to_contain_text("cpu_time")


def test_colours_and_text_size_are_the_pages_own(at: Editor) -> None:
    open_options(at)
    at.part("options-theme").select_option("dark")
    expect(at.page.locator("html")).to_have_attribute("data-theme", "dark")
    at.part("options-size").select_option("20")
    expect(at.page.locator(".cm-content")).to_have_css("font-size", "20px")
    close_options(at)
    expect(at.part("options")).to_have_attribute("data-changed", "false")
    at.page.reload()
    at.expect_ready()
    expect(at.page.locator("html")).to_have_attribute("data-theme", "dark")
    expect(at.page.locator(".cm-content")).to_have_css("font-size", "20px")


def test_options_are_left_by_escape_and_by_their_button(at: Editor) -> None:
    open_options(at)
    at.page.keyboard.press("Escape")
    expect(at.part("options-dialog")).to_be_hidden()
    expect(at.part("options")).to_be_focused()
    at.page.keyboard.press("Enter")
    expect(at.part("options-dialog")).to_be_visible()
    expect(at.part("options-close")).to_be_focused()  # not on what takes all of them away
    at.part("options").click()
    expect(at.part("options-dialog")).to_be_hidden()


@pytest.mark.parametrize("size", [PHONE, (320, 640)], ids=["phone", "small"])
def test_options_fit_a_narrow_page(at: Editor) -> None:
    at.part("language").select_option("cpp")
    open_options(at)
    dialog = at.part("options-dialog")
    assert dialog.evaluate("each => each.scrollWidth <= each.clientWidth")
    assert dialog.evaluate("each => each.matches(':modal')")
    small = dialog.evaluate(
        "each => [...each.querySelectorAll('button, input, select')]"
        ".filter(part => part.offsetHeight < 44).map(part => part.outerHTML)"
    )
    assert small == []


def choose_keys(at: Editor, keys: str) -> None:
    open_options(at)
    at.part("options-keys").select_option(keys)
    close_options(at)
    expect(at.page.locator(f".cm-{keys}Mode")).to_be_visible()
    at.page.locator(".cm-content").focus()


def text(at: Editor) -> str:
    lines = at.page.locator(".cm-line").all_inner_texts()
    return "\n".join(line.rstrip("\n") for line in lines)


def test_vim_keys(at: Editor) -> None:
    at.give("x")
    at.write("one\ntwo\nthree")
    choose_keys(at, "vim")
    press = at.page.keyboard.press
    expect(at.page.locator(".cm-vim-panel")).to_be_visible()
    press("Escape")
    at.page.keyboard.type("ggddAx")
    press("Escape")
    expect(at.page.locator(".cm-content")).to_be_focused()
    assert text(at) == "twox\nthree"
    at.page.keyboard.type("u")
    assert text(at) == "two\nthree"
    at.page.keyboard.type(":w")
    press("Enter")
    expect(at.part("announce")).to_have_text("Saved in this browser")
    assert "two\\nthree" in at.page.evaluate("localStorage.getItem('occd:draft:python')")
    at.page.keyboard.type("ggdGiprint('by vim')")
    press("Escape")
    press("Control+Enter")
    at.expect_output("by vim")
    at.page.reload()
    at.expect_ready()
    expect(at.page.locator(".cm-vim-panel")).to_be_visible()


def test_emacs_keys(at: Editor) -> None:
    at.give("x")
    at.write("one\ntwo")
    choose_keys(at, "emacs")
    press = at.page.keyboard.press
    for key in ("Control+Home", "Control+k", "Control+End", "Enter", "Control+y"):
        press(key)
    assert text(at) == "\ntwo\none"
    press("Control+x")
    press("Control+s")
    expect(at.part("announce")).to_have_text("Saved in this browser")
    press("Control+x")
    press("h")
    at.page.keyboard.type("if True:")
    press("Enter")
    at.page.keyboard.type("print('by emacs')")
    press("Control+Enter")
    at.expect_output("by emacs")
    assert text(at) == "if True:\n    print('by emacs')"


def test_keys_that_cannot_be_loaded_are_said(at: Editor) -> None:
    at.page.route("**/keys-vim.js*", lambda route: route.abort())
    open_options(at)
    at.part("options-keys").select_option("vim")
    expect(at.part("done")).to_contain_text("could not be loaded")
    close_options(at)
    at.write("still written")
    at.complaints.clear()  # of the browser, for the file that did not come
