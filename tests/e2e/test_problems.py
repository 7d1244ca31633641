"""Problems of a run: marks in the editor, the list, and the keys that go through them."""

import re
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Locator, Route, expect
from serving import Server

from e2e.editor import BOTH, Editor

THREE = 'int main(void) {\n  int x = "a";\n\tfoo(x)\n  return nix;\n}\n'
"""A warning in line 2, and in line 3 a warning and an error."""


def marks(editor: Editor, severity: str) -> Locator:
    return editor.page.locator(f".cm-problem-{severity}")


def signs(editor: Editor, severity: str) -> Locator:
    return editor.page.locator(f".cm-lineNumbers .cm-sign-{severity}")


def rows(editor: Editor) -> Locator:
    return editor.page.locator("[data-testid=problem]")


def fail(editor: Editor, source: str, language: str = "c") -> None:
    editor.choose(language)
    editor.run(source)
    editor.expect_verdict("bad")
    editor.show("code")


@BOTH
def test_an_exception_is_marked_and_listed(editor: Editor) -> None:
    fail(editor, "x = 0\nprint(1 / x)\n", "python")
    expect(marks(editor, "error")).to_have_text("1 / x")
    expect(signs(editor, "error")).to_have_text("2")
    editor.show("problems")
    expect(rows(editor)).to_have_count(1)
    expect(rows(editor)).to_contain_text("ZeroDivisionError: division by zero")
    expect(rows(editor)).to_contain_text("main.py:2:7")
    rows(editor).click()
    expect(editor.page.locator(".cm-content")).to_be_focused()
    expect(editor.page.locator(".problem-told")).to_have_text(
        "Error: ZeroDivisionError: division by zero"
    )
    expect(editor.part("problem-told")).to_have_text(
        "1 of 1: Error: ZeroDivisionError: division by zero, main.py:2:7"
    )
    editor.page.keyboard.insert_text("0 or ")
    expect(editor.page.locator(".cm-line").nth(1)).to_have_text("print(0 or 1 / x)")
    expect(editor.page.locator(".problem-told")).to_have_count(0)


@BOTH
def test_what_a_compiler_says_is_marked_and_counted(editor: Editor) -> None:
    fail(editor, THREE)
    expect(marks(editor, "warning")).to_have_text(['"a"', "foo"])
    expect(marks(editor, "error")).to_have_text([")"])
    expect(signs(editor, "warning")).to_have_text("2")
    expect(signs(editor, "error")).to_have_text("3")
    badge = "#to-problems" if editor.part("switch").is_visible() else "#problems-tab"
    expect(editor.page.locator(badge)).to_have_text("Problems 3")
    editor.run("int main(void) { return 0; }")
    editor.expect_verdict("good")
    editor.show("code")
    expect(editor.page.locator(".cm-problem")).to_have_count(0)
    expect(editor.page.locator("#problems-count")).to_be_hidden()


@BOTH
def test_the_count_has_the_colour_of_the_worst(editor: Editor) -> None:
    editor.choose("c")
    colours: list[str] = []
    for source in ('int main(void) { int x = "a"; return 0; }', THREE):
        editor.run(source)
        expect(editor.part("verdict")).to_have_attribute(
            "data-tone", "good" if not colours else "bad"
        )
        editor.show("code")
        count = editor.page.locator(".count:visible")
        expect(count).to_have_text("1" if not colours else "3")
        colours.append(count.evaluate("each => getComputedStyle(each).backgroundColor"))
    assert colours == ["rgb(138, 82, 0)", "rgb(179, 38, 30)"]


def test_nothing_to_tell_is_said(editor: Editor) -> None:
    editor.show("problems")
    expect(editor.part("problems")).to_have_text("No problems found.")
    editor.page.keyboard.press("F8")
    expect(editor.part("problem-told")).to_have_text("No problems found.")


@BOTH
def test_f8_goes_through_them_and_tells_each(editor: Editor) -> None:
    fail(editor, THREE)
    told, line = editor.part("problem-told"), editor.page.locator(".cm-activeLineGutter")
    for key, start, number in [
        ("F8", "1 of 3: Warning: initialization of", "2"),
        ("F8", "2 of 3: Warning: implicit declaration", "3"),
        ("F8", "3 of 3: Error: expected", "3"),
        ("F8", "1 of 3: ", "2"),
        ("Shift+F8", "3 of 3: ", "3"),
        ("Shift+F8", "2 of 3: ", "3"),
    ]:
        editor.page.keyboard.press(key)
        expect(told).to_contain_text(start)
        expect(line).to_have_text(number)
        expect(editor.page.locator(".cm-content")).to_be_focused()
    expect(editor.page.locator(".problem-told")).to_contain_text("Warning: implicit declaration")
    editor.show("problems")
    expect(editor.page.locator("#problems [aria-current]")).to_contain_text("implicit declaration")


def test_a_row_is_chosen_by_keys_alone(editor: Editor) -> None:
    fail(editor, THREE)
    editor.part("problems-tab").focus()
    editor.page.keyboard.press("Enter")
    editor.page.keyboard.press("Tab")  # the drawer's button
    editor.page.keyboard.press("Tab")  # the panel
    for _ in range(3):
        editor.page.keyboard.press("Tab")
    expect(rows(editor).nth(2)).to_be_focused()
    editor.page.keyboard.press("Enter")
    expect(editor.page.locator(".cm-content")).to_be_focused()
    expect(editor.part("cursor")).to_contain_text("3")


def test_marks_move_with_the_text_and_go_when_it_is_changed_there(editor: Editor) -> None:
    fail(editor, THREE)
    expect(marks(editor, "warning")).to_have_count(2)
    editor.page.locator(".cm-content").focus()
    editor.page.keyboard.press("Control+Home")
    editor.page.keyboard.insert_text("// one more line\n")
    expect(signs(editor, "warning")).to_have_text("3")
    expect(signs(editor, "error")).to_have_text("4")
    expect(marks(editor, "warning")).to_have_text(['"a"', "foo"])
    editor.page.keyboard.press("F8")
    expect(editor.page.locator(".cm-activeLineGutter")).to_have_text("3")
    editor.page.keyboard.press("Delete")
    expect(marks(editor, "warning")).to_have_text(["foo"])
    # What was found is still a place to go to.
    editor.page.keyboard.press("Shift+F8")
    editor.page.keyboard.press("F8")
    expect(editor.page.locator(".cm-activeLineGutter")).to_have_text("3")


def test_what_is_written_while_it_runs_moves_the_marks_to_come(editor: Editor) -> None:
    editor.choose("python")
    editor.run("import time\ntime.sleep(1)\nprint(nix)\n")
    editor.page.locator(".cm-content").focus()
    editor.page.keyboard.press("Control+Home")
    editor.page.keyboard.insert_text("# one\n# two\n")
    expect(signs(editor, "error")).to_have_text("5")
    expect(marks(editor, "error")).to_have_text(["nix"])


def test_a_mark_tells_its_message_under_the_pointer(editor: Editor) -> None:
    fail(editor, THREE)
    marks(editor, "warning").first.hover()
    expect(editor.page.locator(".problem-told")).to_contain_text("makes integer from pointer")
    editor.part("verdict").hover()
    expect(editor.page.locator(".problem-told")).to_have_count(0)
    marks(editor, "warning").first.click()
    expect(editor.page.locator(".problem-told")).to_contain_text("makes integer from pointer")


def test_an_exception_at_the_terminal_is_found(editor: Editor) -> None:
    editor.choose("python")
    editor.talk("print('\\x1b[31mred\\x1b[0m')\nnix\n")
    editor.expect_verdict("bad")
    expect(signs(editor, "error")).to_have_text("2")


@BOTH
def test_places_in_the_compilers_text_are_links(editor: Editor) -> None:
    fail(editor, THREE)
    editor.show("output")
    text = editor.part("compile-output")
    expect(text).to_have_js_property("scrollTop", 0)
    expect(text.locator("a")).to_have_text(["main.c:2:11", "main.c:3:9", "main.c:3:15"])
    text.locator("a").nth(1).focus()
    editor.page.keyboard.press("Enter")
    expect(editor.page.locator(".cm-content")).to_be_focused()
    expect(editor.page.locator(".cm-activeLineGutter")).to_have_text("3")
    expect(editor.page.locator(".problem-told")).to_contain_text("implicit declaration")


@BOTH
def test_the_headline_names_the_place_and_leads_there(editor: Editor) -> None:
    editor.choose("c")
    editor.run(THREE)
    editor.expect_verdict("bad", "Does not compile: line 3")
    expect(editor.part("detail")).to_have_text("expected ‘;’ before ‘return’")
    editor.choose("python")
    editor.run("x = 0\nprint(1 / x)\n")
    editor.expect_verdict("bad", "ZeroDivisionError in line 2")
    expect(editor.part("detail")).to_have_text("division by zero")
    editor.part("verdict").get_by_role("button").click()
    expect(editor.page.locator(".cm-content")).to_be_focused()
    expect(editor.page.locator(".cm-activeLineGutter")).to_have_text("2")
    expect(editor.page.locator(".problem-told")).to_contain_text("division by zero")


def test_a_problem_in_a_file_that_has_gone_leads_to_no_other_file(editor: Editor) -> None:
    editor.write("import util\n\n\nutil.fail()")
    editor.part("add-file").click()
    editor.part("name").fill("util.py")
    editor.page.keyboard.press("Enter")
    editor.run("def fail():\n    return 1 / 0")
    editor.expect_verdict("bad")
    editor.part("file-menu-button").click()
    editor.part("file-menu").locator("[data-act=file_remove]").click()
    expect(editor.part("tabs").locator(".label")).to_have_text("main.py")
    editor.page.keyboard.press("F8")
    expect(editor.part("done")).to_contain_text("util.py is not there any more")
    expect(editor.page.locator(".cm-activeLineGutter")).to_have_text("4")  # as it was


HALF = "def half(n):\n    return n / 0"


def two_files(editor: Editor) -> None:
    """The second one fails, and the first one is shown."""
    editor.write("import util\nutil.half(1)")
    add_file(editor, "util.py", HALF)
    choose_file(editor, "main.py")
    editor.give("x")
    editor.part("run").click()
    editor.expect_verdict("bad", "ZeroDivisionError in util.py:2")


def add_file(editor: Editor, name: str, text: str) -> None:
    editor.part("add-file").click()
    editor.part("name").fill(name)
    editor.page.keyboard.press("Enter")
    editor.write(text)


def choose_file(editor: Editor, name: str) -> None:
    editor.part("tabs").locator(f"[data-name='{name}']").click()


def test_a_files_marks_stay_when_it_is_renamed(editor: Editor) -> None:
    two_files(editor)
    choose_file(editor, "util.py")
    expect(marks(editor, "error")).to_have_text(["n / 0"])
    for name in ("helper.py", "third.py"):
        editor.part("tabs").locator("[aria-selected=true]").press("F2")
        editor.part("name").fill(name)
        editor.page.keyboard.press("Enter")
        choose_file(editor, "main.py")
        expect(marks(editor, "error")).to_have_count(0)
        expect(marks(editor, "note")).to_have_count(0)
        choose_file(editor, name)
        expect(marks(editor, "error")).to_have_text(["n / 0"])
        expect(signs(editor, "error")).to_have_text("2")
        choose_file(editor, "main.py")
        editor.page.keyboard.press("F8")
        expect(editor.part("tabs").locator("[aria-selected=true] .label")).to_have_text(name)
        expect(editor.part("problem-told")).to_contain_text(f"{name}:2")
        expect(editor.page.locator(".problem-told")).to_contain_text("division by zero")
    editor.part("done").get_by_text("Undo").click()
    expect(editor.part("tabs").locator("[aria-selected=true] .label")).to_have_text("helper.py")
    expect(marks(editor, "error")).to_have_text(["n / 0"])
    add_file(editor, "util.py", HALF)  # another file of the old name
    expect(marks(editor, "error")).to_have_count(0)


def test_marks_are_right_in_a_text_that_another_tab_has_changed_meanwhile(
    context: BrowserContext, editor: Editor
) -> None:
    two_files(editor)
    editor.page.reload()  # a tab that has changed nothing yet
    editor.expect_ready()
    editor.part("run").click()
    editor.expect_verdict("bad", "ZeroDivisionError in util.py:2")
    other = Editor(context.new_page(), editor.home)
    other.open()
    choose_file(other, "util.py")
    for more in (1, 2):
        other.write("# more\n" * more + HALF)
        choose_file(editor, "util.py")
        editor.expect_program("# more\n" * more + HALF)
        expect(marks(editor, "error")).to_have_text(["n / 0"])
        expect(signs(editor, "error")).to_have_text(str(2 + more))
        choose_file(editor, "main.py")
    assert other.complaints == []


def test_each_language_has_its_own_problems(editor: Editor) -> None:
    fail(editor, THREE)
    expect(editor.page.locator("#problems-count")).to_have_text("3")
    editor.choose("python")
    expect(editor.page.locator("#problems-count")).to_be_hidden()
    expect(editor.page.locator(".cm-problem")).to_have_count(0)
    editor.choose("c")
    expect(editor.page.locator("#problems-count")).to_have_text("3")
    expect(marks(editor, "warning")).to_have_count(2)


def test_what_a_run_tells_on_stdout_is_found_where_the_language_says_so(
    context: BrowserContext, server: Server
) -> None:
    def tell(route: Route) -> None:
        answer = route.fetch()
        languages = answer.json()["languages"]
        for each in languages:
            if each["id"] == "python":
                pattern = "(?<file>[^:\\n]+):(?<line>\\d+): (?<message>[^\\n]*)"
                each["problems"] = [{"stage": "run", "stdout": True, "pattern": pattern}]
        route.fulfill(response=answer, json={"languages": languages})

    told = "print('main.py:1: from a tool')\nexit(1)\n"
    editor = Editor(context.new_page(), f"http://127.0.0.1:{server.port}/")
    editor.open()
    editor.choose("python")
    editor.give("x")
    editor.run(told)
    editor.expect_verdict("stopped", "exit code 1")
    expect(rows(editor)).to_have_count(0)
    context.route(re.compile("/api/v1/languages"), tell)
    editor.page.reload()
    editor.expect_ready()
    editor.run(told)
    editor.show("problems")
    expect(rows(editor)).to_have_text([re.compile("from a tool")])
    editor.page.reload()
    editor.show("problems")
    expect(rows(editor)).to_have_text([re.compile("from a tool")])


@BOTH
def test_a_reload_keeps_them(editor: Editor) -> None:
    fail(editor, THREE)
    expect(marks(editor, "error")).to_have_count(1)
    editor.page.reload()
    editor.show("code")
    expect(marks(editor, "error")).to_have_text([")"])
    expect(signs(editor, "error")).to_have_text("3")


def test_columns_are_right_behind_characters_of_all_sizes(editor: Editor) -> None:
    fail(editor, '\tä = "😀"; print(ä.nix)', "python")
    expect(editor.page.locator(".cm-problem")).to_have_count(1)
    fail(editor, 'if 1:\n\tä = "😀"; print(ä.nix)', "python")
    expect(marks(editor, "error")).to_have_text(["ä.nix"])
    fail(editor, 'fn main() {\n\tlet _ä = "😀"; let _y: i32 = "x";\n}', "rust")
    expect(marks(editor, "error")).to_have_text(['"x"'])


def test_a_flood_of_what_looks_like_problems_is_harmless(editor: Editor) -> None:
    editor.choose("python")
    editor.run(
        "import sys\n"
        "sys.stderr.write('/box/main.py:1: ' * 30_000 + '\\n')\n"
        "for n in range(5_000): sys.stderr.write(f'/box/main.py:{n % 4 + 1}: UserWarning: {n}\\n')\n"
        "print(nix)\n"
    )
    editor.expect_verdict("bad")
    expect(rows(editor).last).to_contain_text("NameError")
    assert rows(editor).count() <= 200


@pytest.mark.parametrize(
    ("problems", "told"),
    [
        ([{"stage": "run", "pattern": "("}], "a pattern of problems"),
        (None, "null"),
    ],
    ids=["a pattern that the browser refuses", "none at all"],
)
def test_a_language_with_faulty_patterns_runs_as_others_do(
    context: BrowserContext, server: Server, problems: Any, told: str
) -> None:
    def spoil(route: Route) -> None:
        answer = route.fetch()
        languages = answer.json()["languages"]
        for each in languages:
            each["problems"] = problems
        route.fulfill(response=answer, json={"languages": languages})

    context.route(re.compile("/api/v1/languages"), spoil)
    editor = Editor(context.new_page(), f"http://127.0.0.1:{server.port}/")
    editor.open()
    editor.run("print(1 / 0)")
    editor.expect_verdict("bad", "exit code 1")
    editor.expect_idle()
    assert told in "".join(editor.complaints)
    editor.page.reload()
    editor.expect_verdict("bad", "exit code 1")
    editor.expect_ready()
