"""The system calls of a program, as a person asks for them under Options and reads them beside the output."""

from playwright.sync_api import expect

from e2e.editor import BOTH, Editor

ASKS = """\
import socket
print("hello")
try:
    socket.create_connection(("93.184.216.34", 80))
except OSError as error:
    print(error)
"""


def switch(editor: Editor, *, on: bool) -> None:
    editor.part("options").click()
    editor.part("options-trace").set_checked(on)
    editor.part("options-close").click()


@BOTH
def test_calls_are_counted_and_a_refused_one_comes_first(editor: Editor) -> None:
    expect(editor.part("trace")).to_be_hidden()
    switch(editor, on=True)
    editor.run(ASKS)
    editor.expect_verdict("good")
    expect(editor.part("trace")).to_contain_text("connect: not permitted here")
    rows = editor.part("trace-counts").locator("tbody tr")
    expect(rows.first.locator("th")).to_have_text("connect")
    expect(rows.first.locator("td").first).to_have_text("1")
    editor.part("trace-all").click()
    calls = editor.part("trace-each").locator("tbody tr")
    expect(calls).to_have_count(200)
    expect(calls.first).to_contain_text("execve('/usr/bin/python3")
    refused = editor.part("trace-each").locator("tr.refused")
    while editor.part("trace-more").is_visible():
        editor.part("trace-more").click()
    expect(refused).to_contain_text("93.184.216.34")
    expect(refused).to_contain_text("ENETUNREACH: not permitted here")
    wide = editor.page.evaluate("document.documentElement.scrollWidth - innerWidth")
    assert wide <= 0, "the table makes the page scroll sideways"


@BOTH
def test_the_choice_is_kept_and_what_is_shown_goes_with_the_next_run(editor: Editor) -> None:
    switch(editor, on=True)
    editor.give("x")
    editor.run("print(1)")
    expect(editor.part("trace-counts")).to_be_visible()
    editor.page.reload()
    editor.expect_ready()
    expect(editor.part("options")).to_have_attribute("data-changed", "true")
    switch(editor, on=False)
    editor.run("print(2)")
    editor.expect_verdict("good")
    expect(editor.part("trace")).to_be_hidden()
