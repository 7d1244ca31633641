"""The page loses no work: not to another tab, not to a reload, not to a server that is away."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, expect
from serving import Server, serving, start, wait_open
from stuck import stick, stuck_nsjail

from e2e.editor import DESK, Editor, new_context

Tabs = tuple[Editor, Editor]
AROUND = """[document.body, document.querySelector('.cm-content'), document.getElementById('output')]
    .map(part => [getComputedStyle(part).color, part.getBoundingClientRect().left])"""
"""The colour and the place of what an old result leaves as it is: the page, the program and the output."""


def another(context: BrowserContext, editor: Editor) -> Editor:
    tab = Editor(context.new_page(), editor.home)
    tab.open()
    return tab


@pytest.fixture
def tabs(context: BrowserContext, editor: Editor) -> Iterator[Tabs]:
    two = (editor, another(context, editor))
    yield two
    assert two[1].complaints == []


def leave(tab: Editor) -> None:
    """As by its cross, but so that we know when it has gone."""
    tab.page.goto("about:blank")


def save(tab: Editor) -> None:
    """Run the program, which saves it first."""
    tab.part("run").click()
    tab.expect_idle()


# Tabs


def test_a_tab_that_saves_without_a_pause_holds_no_other_up(tabs: Tabs) -> None:
    """A page looks at what is kept once for many such events, and sees the last."""
    busy, quiet = tabs
    quiet.page.evaluate(
        """() => {
          looks = 0
          told = 0
          const { getItem } = Storage.prototype
          Storage.prototype.getItem = function (key) {
            if (this === localStorage && key === 'occd:draft:python') looks++
            return getItem.call(this, key)
          }
          addEventListener('storage', () => told++)
        }"""
    )
    busy.page.evaluate(
        "for (let n = 0; n < 5000; n++) localStorage['occd:draft:python'] = `print(${n})`"
    )
    quiet.expect_program("print(4999)")
    quiet.page.wait_for_function("() => told === 5000")
    assert quiet.page.evaluate("looks") < 1000


def test_closing_an_untouched_tab_keeps_what_another_has_saved(
    context: BrowserContext, tabs: Tabs
) -> None:
    written, untouched = tabs
    written.write("print('a week of work')")
    leave(written)
    leave(untouched)
    another(context, written).expect_program("print('a week of work')")


def test_an_untouched_tab_follows_and_may_choose_a_language_without_harm(
    context: BrowserContext, tabs: Tabs
) -> None:
    written, untouched = tabs
    written.write("print('mine')")
    untouched.expect_program("print('mine')")
    written.give("my input")
    expect(untouched.part("stdin")).to_have_value("my input")
    untouched.choose("c")
    untouched.choose("python")
    leave(untouched)
    another(context, written).expect_program("print('mine')")


def test_of_two_tabs_that_were_written_in_a_person_chooses_and_the_other_text_is_kept(
    context: BrowserContext, tabs: Tabs
) -> None:
    one, two = tabs
    one.write("print('one')")
    two.expect_program("print('one')")
    two.write("print('two')")
    expect(one.part("program-contest")).to_contain_text("Changed in another tab")
    one.expect_program("print('one')")
    expect(one.part("saved")).to_have_text("Not saved: choose which one to keep")
    expect(one.part("saved")).to_have_attribute("data-state", "lost")
    one.page.keyboard.press("Control+s")
    expect(one.part("announce")).to_contain_text("Not saved")
    one.give("written just before")
    one.part("program-contest").get_by_text("Take theirs").click()
    one.expect_program("print('two')")
    expect(one.part("stdin")).to_have_value("written just before")
    expect(one.part("program-contest")).to_be_hidden()
    expect(one.part("saved")).to_have_text("Saved in this browser")

    one.write("print('three')")
    expect(two.part("program-contest")).to_be_visible()
    two.part("program-contest").get_by_text("Keep mine").click()
    two.expect_program("print('two')")
    expect(one.part("program-contest")).to_be_visible()
    another(context, two).expect_program("print('two')")

    one.part("versions").click()
    one.part("versions-dialog").get_by_text("1 line and input: print('one')").click()
    one.expect_program("print('one')")
    expect(one.part("stdin")).to_have_value("written just before")


def test_a_program_that_was_pasted_over_comes_back(context: BrowserContext, editor: Editor) -> None:
    editor.write("print('a week of work')")
    leave(editor)
    tab = another(context, editor)
    tab.write("print('pasted')")
    save(tab)
    tab.page.reload()
    tab.expect_ready()
    tab.part("versions").click()
    tab.part("versions-dialog").get_by_text("a week of work").click()
    tab.expect_program("print('a week of work')")
    tab.part("versions").click()
    tab.part("versions-dialog").get_by_text("pasted").click()
    tab.expect_program("print('pasted')")


def test_what_was_written_just_before_a_paste_comes_back(editor: Editor) -> None:
    editor.page.locator(".cm-content").focus()
    # Both at once: no moment passes in which the page could save.
    editor.page.evaluate(
        """texts => {
            for (const text of texts) {
                const content = document.querySelector('.cm-content')
                getSelection().selectAllChildren(content)
                document.dispatchEvent(new Event('selectionchange'))
                const data = new DataTransfer()
                data.setData('text/plain', text)
                const paste = {clipboardData: data, bubbles: true, cancelable: true}
                content.dispatchEvent(new ClipboardEvent('paste', paste))
            }
        }""",
        ["print('a moment ago')", "print('pasted')"],
    )
    editor.expect_program("print('pasted')")
    editor.part("versions").click()
    editor.part("versions-dialog").get_by_text("a moment ago").click()
    editor.expect_program("print('a moment ago')")


# Results


def test_a_result_survives_a_reload(editor: Editor) -> None:
    editor.run("print('out'); raise SystemExit(1)")
    editor.expect_verdict("stopped", "Ended with exit code 1")
    editor.page.reload()
    editor.expect_verdict("stopped", "Ended with exit code 1")
    editor.expect_whole_output("out\n")
    expect(editor.part("cpu-time")).to_contain_text("ms")
    expect(editor.part("old")).to_be_hidden()
    editor.run("print('again')")
    editor.expect_verdict("good")
    editor.expect_whole_output("again\n")


def test_an_old_result_says_so(editor: Editor) -> None:
    editor.run("print(1)")
    editor.expect_verdict("good")
    expect(editor.part("old")).to_be_hidden()
    around = editor.page.evaluate(AROUND)
    editor.write("print(2)")
    expect(editor.part("old")).to_have_text("From before your last change")
    assert editor.page.evaluate(AROUND) == around
    editor.page.reload()
    expect(editor.part("old")).to_have_text("From before your last change")
    editor.write("print(1)")
    expect(editor.part("old")).to_be_hidden()
    editor.choose("c")
    expect(editor.part("old")).to_have_text("From main.py")
    editor.run("int main(void) { return 0; }")
    expect(editor.part("old")).to_be_hidden()
    editor.expect_verdict("good")


def test_running_again_stops_what_runs_and_runs_the_text_as_it_is_now(
    server: Server, editor: Editor
) -> None:
    editor.allow_long_runs()
    editor.run("import time; print('first', flush=True); time.sleep(600)")
    editor.expect_output("first")
    editor.write("print('second')")
    expect(editor.part("old")).to_be_visible()
    editor.page.keyboard.press("Control+Enter")
    editor.expect_verdict("good")
    editor.expect_whole_output("second\n")
    expect(editor.part("old")).to_be_hidden()


# The server


def test_a_server_that_is_away_is_waited_for_and_then_runs_the_program(
    browser: Browser, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    with new_context(browser, DESK) as context:
        with serving(data) as server:
            port = server.port
            editor = Editor(context.new_page(), f"http://127.0.0.1:{port}/")
            editor.open()
        editor.run("print('after all')")
        editor.expect_verdict("busy", "Waiting for the server…")
        expect(editor.part("detail")).to_have_text("Your program is kept and will run.")
        expect(editor.part("try-now")).to_be_visible()
        again = start(data, f"--listen=127.0.0.1:{port}")
        try:
            wait_open(again)
            editor.part("try-now").dispatch_event("click")  # hidden, if the page was faster
            editor.expect_verdict("good")
            editor.expect_whole_output("after all\n")
            expect(editor.part("try-now")).to_be_hidden()
        finally:
            again.stop()


def test_a_page_says_why_a_program_does_not_start(browser: Browser, tmp_path: Path) -> None:
    stuck = tmp_path / "stuck"
    nsjail = stuck_nsjail(tmp_path, stuck)
    with (
        serving(tmp_path / "data", sandbox__nsjail=nsjail, execute__slots="1") as server,
        new_context(browser, DESK) as context,
    ):
        editor = Editor(context.new_page(), f"http://127.0.0.1:{server.port}/")
        editor.open()
        stick(stuck)
        for _ in range(3):
            server.submit("print(1)")  # by jails that stood already
        editor.run("print('at last')")
        expect(editor.part("detail")).to_contain_text("Programs cannot be run")
        editor.expect_verdict("busy")
        stuck.unlink()
        editor.expect_verdict("good")
        editor.expect_whole_output("at last\n")
        expect(editor.part("detail")).to_be_hidden()
