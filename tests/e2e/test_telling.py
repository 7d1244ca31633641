"""What the page tells of a run beside its verdict, and what can be taken away of it."""

from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect
from serving import Server

from e2e.editor import DESK, PHONE, Editor, new_context

HEARD = """() => {
    window.heard = [];
    const region = document.querySelector('#announce');
    new MutationObserver(() => heard.push(region.textContent)).observe(region, { childList: true });
}"""


def heard(editor: Editor, text: str) -> list[str]:
    """All that is said until something is with this text."""
    editor.page.wait_for_function("text => heard.some(said => said.includes(text))", arg=text)
    said: list[str] = editor.page.evaluate("heard.splice(0)")
    return said


def sentences(said: list[str]) -> list[str]:
    """Without what a run is at, which is said of a run that takes a second, as on a busy machine."""
    return [each for each in said if "." in each]


def test_a_screen_reader_hears_the_end_once_with_the_last_line_and_a_live_programs_prompt(
    editor: Editor,
) -> None:
    editor.page.evaluate(HEARD)
    editor.run("print('one'); print(); print('the last')")
    assert sentences(heard(editor, "last")) == ["Finished. 3 lines of output: the last"]
    editor.talk("print('hello', input('your name? '))")
    editor.wait_terminal("your name?")
    live = editor.page.locator(".xterm-accessibility .live-region")
    expect(live).to_contain_text("your name?")
    assert sentences(heard(editor, "Running")) == []
    editor.type("you", "Enter")
    assert sentences(heard(editor, "you")) == ["Finished. 2 lines of output: hello you"]


def test_the_title_tells_of_a_run_and_how_it_ended_while_nobody_looked(editor: Editor) -> None:
    expect(editor.page).to_have_title("main.py – occd")
    editor.talk("input(); raise SystemExit('no')")
    expect(editor.page).to_have_title("● main.py – occd")
    icon = editor.page.locator("link[rel=icon]")
    assert (icon.get_attribute("href") or "").startswith("data:")
    editor.page.evaluate(
        "Object.defineProperty(document, 'hidden', { configurable: true, get: () => true })"
    )
    editor.type("Enter")
    expect(editor.page).to_have_title("✕ main.py – occd")
    editor.page.evaluate(
        "delete document.hidden; document.dispatchEvent(new Event('visibilitychange'))"
    )
    expect(editor.page).to_have_title("main.py – occd")
    assert "favicon.svg" in (icon.get_attribute("href") or "")


def test_output_can_be_copied_without_https_and_downloaded(editor: Editor, tmp_path: Path) -> None:
    editor.page.add_init_script("delete Navigator.prototype.clipboard")
    editor.page.reload()
    editor.expect_ready()
    editor.run("print('to be copied')")
    editor.expect_verdict("good")
    editor.part("copy").click()
    expect(editor.part("copy")).to_contain_text("Copied")
    editor.part("stdin").focus()
    editor.page.keyboard.press("Control+a")
    editor.page.keyboard.press("Control+v")
    expect(editor.part("stdin")).to_have_value("to be copied\n")
    with editor.page.expect_download() as saved:
        editor.part("download").click()
    assert saved.value.suggested_filename == "output.txt"
    assert Path(saved.value.path()).read_text() == "to be copied\n"


@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
def test_what_is_no_text_is_not_shown_as_text_but_as_bytes(
    browser: Browser, server: Server, size: tuple[int, int]
) -> None:
    with new_context(browser, size) as context:
        editor = Editor(context.new_page(), f"http://127.0.0.1:{server.port}/")
        editor.open()
        editor.run("import sys; sys.stdout.buffer.write(bytes(range(256)) * 4)")
        editor.expect_verdict("good")
        expect(editor.part("binary")).to_contain_text("1 kB of binary")
        expect(editor.part("output")).to_be_hidden()
        editor.page.get_by_role("button", name="Show as hex").click()
        expect(editor.part("hex")).to_contain_text("000040  40 41 42")
        with editor.page.expect_download() as saved:
            editor.part("binary").get_by_role("button", name="Download").click()
        assert Path(saved.value.path()).read_bytes() == bytes(range(256)) * 4
        editor.run("print('text again')")
        editor.expect_whole_output("text again\n")
        expect(editor.part("binary")).to_be_hidden()
        assert editor.complaints == []


def test_the_warnings_of_a_program_that_runs_are_folded(editor: Editor) -> None:
    editor.choose("c")
    editor.run('int main(void) { int a = 1 / 0; return "x"; }')
    fold = editor.part("compile-fold")
    expect(fold).to_have_text("2 warnings")
    expect(editor.part("compile-output")).to_be_hidden()
    fold.click()
    expect(editor.part("compile-output")).to_contain_text("main.c:1")
    editor.run("int main(void) { return }")
    editor.expect_verdict("bad")
    expect(editor.part("compile-output")).to_be_visible()
