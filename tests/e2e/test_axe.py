"""Axe finds nothing in any state of the page, in both themes, on a wide and on a narrow page."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, expect
from serving import Server

from e2e.editor import PHONE, Editor, new_context
from e2e.relay import Relay, relay

WIDE = (1280, 800)
WARNS = '#include <stdio.h>\nint main(void) { int unused; puts("done"); }\n'
WRONG = 'int main(void) {\n  int x = "a";\n  foo(x)\n  return nix;\n}\n'
FAULTS = """async () => (await axe.run()).violations.flatMap(({ id, impact, nodes }) =>
    nodes.map(({ html, failureSummary }) => [id, impact, html, failureSummary]))"""


class Watched:
    """A page, and what axe finds wrong with it by the name of its state."""

    def __init__(self, editor: Editor, between: Relay, axe: str) -> None:
        self.editor = editor
        self.between = between
        self.found: dict[str, Any] = {}
        editor.page.evaluate(axe)

    def look(self, state: str) -> None:
        root = self.editor.page.locator("html")
        for theme in ("light", "dark"):
            self.editor.page.emulate_media(color_scheme=theme)
            expect(root).to_have_attribute("data-theme", theme)
            if faults := self.editor.page.evaluate(FAULTS):
                self.found[f"{state}, {theme}"] = faults


@pytest.fixture(params=[WIDE, PHONE], ids=["wide", "narrow"])
def watched(
    browser: Browser, server: Server, axe: str, request: pytest.FixtureRequest
) -> Iterator[Watched]:
    with relay(server.port) as between, new_context(browser, request.param) as context:
        editor = Editor(context.new_page(), f"http://127.0.0.1:{between.port}/")
        editor.open()
        watched = Watched(editor, between, axe)
        yield watched
        assert watched.found == {}, json.dumps(watched.found, indent=2)


def test_before_while_and_after_a_program_runs(watched: Watched) -> None:
    editor = watched.editor
    watched.look("first view")
    editor.show("input")
    watched.look("input")
    editor.allow_long_runs()
    editor.run("import time; print('up', flush=True); time.sleep(600)")
    editor.expect_output("up")
    watched.look("running")
    editor.stop()
    editor.expect_verdict("stopped")
    watched.look("stopped")
    editor.run(
        "import sys; print('\\x1b[31mred\\x1b[0m', flush=True); print('bad', file=sys.stderr)"
    )
    editor.expect_verdict("good")
    watched.look("ended well")
    editor.talk("print('\\x1b[7;33mname\\x1b[0m'); input('? '); [][1]")
    editor.wait_terminal("?")
    watched.look("live")
    editor.type("Enter")
    editor.expect_verdict("bad")
    watched.look("ended badly")
    editor.show("problems")
    watched.look("problems")


def test_what_compilers_say(watched: Watched) -> None:
    editor = watched.editor
    editor.choose("c")
    editor.run(WARNS)
    editor.expect_verdict("good")
    watched.look("warnings")
    editor.run(WRONG)
    editor.expect_verdict("bad")
    watched.look("compile error")
    editor.show("problems")
    watched.look("list of problems")
    editor.page.locator("[data-testid=problem]").first.click()
    watched.look("problem in the editor")


def test_with_dialogs_and_notices(watched: Watched) -> None:
    editor = watched.editor
    editor.write("print('mine')")
    other = Editor(editor.page.context.new_page(), editor.home)
    other.open()
    other.expect_program("print('mine')")
    other.write("print('theirs')")
    expect(editor.part("program-contest")).to_be_visible()
    watched.look("contest")
    other.page.close()
    editor.part("program-contest").get_by_text("Keep mine").click()
    editor.part("versions").click()
    expect(editor.part("versions-dialog")).to_be_visible()
    watched.look("versions")
    editor.page.keyboard.press("Escape")
    editor.part("add-file").click()
    expect(editor.part("name-dialog")).to_be_visible()
    watched.look("name of a file")
    editor.page.keyboard.press("Escape")
    editor.choose("cpp")
    editor.part("language").click()
    expect(editor.languages.get_by_role("group").first).to_have_accessible_name("Recently used")
    watched.look("languages")
    editor.languages.get_by_role("combobox").fill("py")
    expect(editor.languages.get_by_role("option").first).to_contain_text("Python")
    watched.look("languages that were looked for")
    editor.languages.get_by_role("combobox").fill("of no such name")
    expect(editor.languages.get_by_role("option")).to_have_count(0)
    watched.look("no language")
    editor.page.keyboard.press("Escape")
    editor.part("options").click()
    expect(editor.part("options-dialog")).to_be_visible()
    watched.look("options")
    editor.page.keyboard.press("Escape")
    for key, dialog in (("F1", "palette"), ("?", "keys")):
        editor.page.locator("#run").focus()
        editor.page.keyboard.press(key)
        expect(editor.page.locator("dialog[open]")).to_be_visible()
        watched.look(dialog)
        editor.page.keyboard.press("Escape")


def test_without_the_server(watched: Watched) -> None:
    editor = watched.editor
    watched.between.cut()
    editor.run("print('after all')")
    editor.expect_verdict("busy", "Waiting for the server…")
    watched.look("away")
    watched.between.mend()
    editor.expect_verdict("good")


def test_options_and_words_that_are_offered(watched: Watched) -> None:
    editor = watched.editor
    editor.choose("cpp")
    editor.part("options").click()
    expect(editor.part("options-dialog")).to_contain_text("at most 60 s")
    watched.look("options")
    editor.part("options-args").fill("it's")
    editor.part("options-cpu_time").fill("61")
    editor.part("env-add").click()
    editor.part("env-name").fill("A B")
    editor.part("options-dialog").get_by_role("button", name="-Wall").click()
    watched.look("options that are wrong")
    editor.part("options-close").click()
    editor.write("")
    editor.page.keyboard.press("Control+Space")
    expect(editor.page.locator(".cm-tooltip-autocomplete")).to_be_visible()
    editor.page.keyboard.press("ArrowDown")
    watched.look("words that are offered")
