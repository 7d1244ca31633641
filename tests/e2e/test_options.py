"""How a program is compiled and run, and how the editor behaves, as a person chooses it under Options."""

import pytest
from playwright.sync_api import expect

from e2e.editor import BOTH, PHONE, Editor

SHOWS = """\
#include <cstdlib>
#include <iostream>
int main(int count, char **words) {
    std::cout << __cplusplus << '\\n';
    for (int at = 1; at < count; at++) std::cout << '<' << words[at] << ">\\n";
    std::cout << (std::getenv("MY_NAME") ?: "no name") << '\\n';
}"""


def open_options(editor: Editor) -> None:
    editor.part("options").click()
    expect(editor.part("options-dialog")).to_be_visible()


def close_options(editor: Editor) -> None:
    editor.part("options-close").click()
    expect(editor.part("options-dialog")).to_be_hidden()


def chip(editor: Editor, argument: str) -> None:
    editor.part("options-dialog").get_by_role("button", name=argument, exact=True).click()


@BOTH
def test_arguments_flags_and_environment_reach_the_program(editor: Editor) -> None:
    editor.choose("cpp")
    editor.give("x")
    expect(editor.part("options")).to_have_attribute("data-changed", "false")
    open_options(editor)
    chip(editor, "-std=c++17")
    chip(editor, "-std=c++20")
    expect(editor.part("options-compile_args")).to_have_value("-std=c++20")
    editor.part("options-args").fill("""one 'two  three' "it's" """)
    gets = editor.part("options-args-gets").locator("code")
    expect(gets).to_have_text(["one", "two  three", "it's"])
    editor.part("env-add").click()
    editor.part("env-name").fill("MY_NAME")
    editor.part("env-value").fill("Ada L")
    close_options(editor)
    expect(editor.part("options")).to_have_attribute("data-changed", "true")
    expect(editor.part("options")).to_have_accessible_name("Options, changed")
    editor.run(SHOWS)
    editor.expect_verdict("good")
    editor.expect_whole_output("202002\n<one>\n<two  three>\n<it's>\nAda L\n")
    editor.page.reload()
    editor.expect_ready()
    expect(editor.part("options")).to_have_attribute("data-changed", "true")
    open_options(editor)
    expect(editor.part("env-value")).to_have_value("Ada L")
    editor.part("options-reset").click()
    expect(editor.part("options-args")).to_have_value("")
    expect(editor.part("env-name")).to_have_count(0)
    close_options(editor)
    expect(editor.part("options")).to_have_attribute("data-changed", "false")
    editor.show("output")
    expect(editor.part("old")).to_be_visible()
    editor.part("run").click()
    editor.expect_whole_output("201703\nno name\n")


def test_each_language_has_options_of_its_own(editor: Editor) -> None:
    open_options(editor)
    expect(editor.part("options-compile_args")).to_have_count(0)
    editor.part("options-args").fill("mine")
    close_options(editor)
    editor.choose("c")
    expect(editor.part("options")).to_have_attribute("data-changed", "false")
    editor.choose("python")
    expect(editor.part("options")).to_have_attribute("data-changed", "true")


@BOTH
def test_what_is_wrong_is_said_at_its_field_and_nothing_is_run(editor: Editor) -> None:
    editor.give("x")
    open_options(editor)
    dialog = editor.part("options-dialog")
    for field, text, words in (
        ("options-args", "it's", "A quotation mark ' is not closed."),
        ("options-cpu_time", "61", "At most 60 s on this server."),
        ("options-memory", "much", "A number, such as 2 or 2.5."),
    ):
        editor.part(field).fill(text)
        expect(editor.part(field)).to_have_attribute("aria-invalid", "true")
        expect(editor.part(field)).to_have_accessible_description(words)
    editor.part("env-add").click()
    editor.part("env-name").fill("A B")
    expect(dialog).to_contain_text("“A B” is no name of a variable")
    editor.part("options-cpu_time").fill("60")
    expect(dialog).not_to_contain_text("At most 60 s on this server.")
    close_options(editor)
    editor.write("print('ran')")
    editor.part("run").click()
    expect(editor.part("options-args")).to_be_focused()
    expect(editor.part("options-args")).to_have_value("it's")
    editor.expect_idle()
    editor.part("options-reset").click()
    close_options(editor)
    editor.part("run").click()
    editor.expect_whole_output("ran\n")


def test_limits_are_those_that_were_chosen(editor: Editor) -> None:
    editor.give("x")
    expect(editor.part("limits")).to_have_text("5 s, 256 MB")
    open_options(editor)
    editor.part("options-cpu_time").fill("0,5")
    editor.part("options-memory").fill("128")
    close_options(editor)
    expect(editor.part("limits")).to_have_text("0.5 s, 128 MB")
    editor.run("while True: pass")
    editor.expect_verdict("bad")
    expect(editor.part("verdict")).to_contain_text("0.5 s")
    editor.run("x = bytearray(150 * 2**20)")
    editor.expect_verdict("bad", "128 MB")


def test_a_limit_that_the_server_refuses_is_said_in_its_words(editor: Editor) -> None:
    """The ceiling may have been lowered since, or may not be known yet."""
    editor.page.route("**/api/v1/limits", lambda route: route.abort())
    editor.page.evaluate(
        'localStorage.setItem(\'occd:options:python\', \'{"limits":{"cpu_time":"600"}}\')'
    )
    editor.page.reload()
    editor.expect_ready()
    editor.part("run").click()
    editor.expect_verdict("bad")
    expect(editor.part("detail")).to_contain_text("cpu_time")
    editor.complaints.clear()  # of the browser, for what it did not get


def test_the_servers_ceilings_are_known_before_the_options_are_opened(editor: Editor) -> None:
    editor.page.evaluate(
        'localStorage.setItem(\'occd:options:python\', \'{"limits":{"cpu_time":"600"}}\')'
    )
    with editor.page.expect_response("**/api/v1/limits"):
        editor.page.reload()
    editor.expect_ready()
    editor.page.wait_for_function(
        "() => performance.getEntriesByName(new URL('api/v1/limits', location)).length"
    )
    editor.part("run").click()
    expect(editor.part("options-cpu_time")).to_be_focused()
    expect(editor.part("options-dialog")).to_contain_text("At most 60 s on this server.")
    editor.expect_idle()


def test_colours_and_text_size_are_the_pages_own(editor: Editor) -> None:
    open_options(editor)
    editor.part("options-theme").select_option("dark")
    expect(editor.page.locator("html")).to_have_attribute("data-theme", "dark")
    editor.part("options-size").select_option("20")
    expect(editor.page.locator(".cm-content")).to_have_css("font-size", "20px")
    close_options(editor)
    expect(editor.part("options")).to_have_attribute("data-changed", "false")
    editor.page.reload()
    editor.expect_ready()
    expect(editor.page.locator("html")).to_have_attribute("data-theme", "dark")
    expect(editor.page.locator(".cm-content")).to_have_css("font-size", "20px")


@BOTH
def test_no_choice_is_cut_off(editor: Editor) -> None:
    open_options(editor)
    cut = editor.part("options-dialog").evaluate(
        """dialog => [...dialog.querySelectorAll('select')].filter(each => {
            const shown = each.offsetWidth;
            each.style.width = 'max-content';
            return each.offsetWidth > shown;
        }).map(each => each.id)"""
    )
    assert cut == []


def test_options_are_left_by_escape_and_by_their_button(editor: Editor) -> None:
    open_options(editor)
    editor.page.keyboard.press("Escape")
    expect(editor.part("options-dialog")).to_be_hidden()
    expect(editor.part("options")).to_be_focused()
    editor.page.keyboard.press("Enter")
    expect(editor.part("options-dialog")).to_be_visible()
    expect(editor.part("options-close")).to_be_focused()  # not on what takes all of them away
    editor.part("options").click()
    expect(editor.part("options-dialog")).to_be_hidden()


@pytest.mark.parametrize("size", [PHONE, (320, 640)], ids=["phone", "small"])
def test_options_fit_a_narrow_page(editor: Editor) -> None:
    editor.choose("cpp")
    open_options(editor)
    dialog = editor.part("options-dialog")
    assert dialog.evaluate("each => each.scrollWidth <= each.clientWidth")
    assert dialog.evaluate("each => each.matches(':modal')")
    small = dialog.evaluate(
        "each => [...each.querySelectorAll('button, input, select')]"
        ".filter(part => part.offsetHeight < 44).map(part => part.outerHTML)"
    )
    assert small == []


def choose_keys(editor: Editor, keys: str) -> None:
    open_options(editor)
    editor.part("options-keys").select_option(keys)
    close_options(editor)
    expect(editor.page.locator(f".cm-{keys}Mode")).to_be_visible()
    editor.page.locator(".cm-content").focus()


def text(editor: Editor) -> str:
    lines = editor.page.locator(".cm-line").all_inner_texts()
    return "\n".join(line.rstrip("\n") for line in lines)


def test_vim_keys(editor: Editor) -> None:
    editor.give("x")
    editor.write("one\ntwo\nthree")
    choose_keys(editor, "vim")
    press = editor.page.keyboard.press
    expect(editor.page.locator(".cm-vim-panel")).to_be_visible()
    press("Escape")
    editor.page.keyboard.type("ggddAx")
    press("Escape")
    expect(editor.page.locator(".cm-content")).to_be_focused()
    assert text(editor) == "twox\nthree"
    editor.page.keyboard.type("u")
    assert text(editor) == "two\nthree"
    editor.page.keyboard.type(":w")
    press("Enter")
    expect(editor.part("announce")).to_have_text("Saved in this browser")
    assert "two\\nthree" in editor.page.evaluate("localStorage.getItem('occd:draft:python')")
    editor.page.keyboard.type("ggdGiprint('by vim')")
    press("Escape")
    press("Control+Enter")
    editor.expect_output("by vim")
    editor.page.reload()
    editor.expect_ready()
    expect(editor.page.locator(".cm-vim-panel")).to_be_visible()


def test_emacs_keys(editor: Editor) -> None:
    editor.give("x")
    editor.write("one\ntwo")
    choose_keys(editor, "emacs")
    press = editor.page.keyboard.press
    for key in ("Control+Home", "Control+k", "Control+End", "Enter", "Control+y"):
        press(key)
    assert text(editor) == "\ntwo\none"
    press("Control+x")
    press("Control+s")
    expect(editor.part("announce")).to_have_text("Saved in this browser")
    press("Control+x")
    press("h")
    editor.page.keyboard.type("if True:")
    press("Enter")
    editor.page.keyboard.type("print('by emacs')")
    press("Control+Enter")
    editor.expect_output("by emacs")
    assert text(editor) == "if True:\n    print('by emacs')"


def test_keys_that_cannot_be_loaded_are_said(editor: Editor) -> None:
    editor.page.route("**/keys-vim.js*", lambda route: route.abort())
    open_options(editor)
    editor.part("options-keys").select_option("vim")
    expect(editor.part("done")).to_contain_text("could not be loaded")
    close_options(editor)
    editor.write("still written")
    editor.complaints.clear()  # of the browser, for the file that did not come
