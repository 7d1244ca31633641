"""The language's own formatter in the page."""

import re

import pytest
from playwright.sync_api import Route, expect

from e2e.editor import BOTH, Editor

MESSY = 'package main\nimport "fmt"\nfunc main( ) {\nfmt.Println( "one" )\n   x := 1; _ = x\n}\n'
NEAT = 'package main\n\nimport "fmt"\n\nfunc main() {\n\tfmt.Println("one")\n\tx := 1\n\t_ = x\n}\n'


def expect_text(editor: Editor, wanted: str) -> None:
    expect(editor.page.locator(".cm-line")).to_have_text(
        [re.compile(f"^{re.escape(line)}$") for line in wanted.split("\n")]
    )


@BOTH
def test_a_program_is_put_in_order_and_the_cursor_stays(editor: Editor) -> None:
    editor.choose("go")
    editor.write(MESSY)
    editor.page.keyboard.press("Control+Home")
    for key in ("ArrowDown", "ArrowDown", "ArrowDown", "End", "ArrowLeft", "ArrowLeft"):
        editor.page.keyboard.press(key)
    if editor.part("switch").is_visible():
        editor.part("format").click()
    else:
        editor.page.keyboard.press("Alt+Shift+f")
    expect_text(editor, NEAT)
    editor.page.locator(".cm-content").focus()
    editor.page.keyboard.type("!")
    expect_text(editor, NEAT.replace('"one")', '"one"!)'))
    for _ in range(2):
        editor.page.keyboard.press("Control+z")
    expect_text(editor, MESSY)
    editor.page.keyboard.press("Control+y")
    expect_text(editor, NEAT)


@pytest.mark.parametrize(
    ("language", "source", "words"),
    [
        ("python", "x = 1\ndef f(:\n", "Line 2: def f(:"),
        ("go", "package main\n\nfunc main() { 1 + }\n", "Line 3: expected operand, found '}'"),
        ("rust", "fn main() { let }\n", "Line 1: expected pattern, found `}`"),
        ("bash", "if true; then\n", 'Line 1: if statement must end with "fi"'),
    ],
)
def test_what_cannot_be_formatted_is_said_and_nothing_is_lost(
    editor: Editor, language: str, source: str, words: str
) -> None:
    editor.choose(language)
    editor.write(source)
    editor.page.keyboard.press("Alt+Shift+f")
    expect(editor.part("done")).to_contain_text(f"Not formatted. {words}")
    expect_text(editor, source)


@BOTH
def test_what_the_formatter_cannot_read_is_a_problem_at_its_place(editor: Editor) -> None:
    editor.choose("go")
    editor.run("package main\n\nfunc main() {\n\tx := 1\n}\n")
    editor.expect_verdict("bad", "Does not compile: line 4")
    editor.show("code")
    wrong = "package main\n\nfunc main() { 1 + }\n"
    editor.write(wrong)
    editor.part("format").click()
    rows = editor.page.locator("[data-testid=problem]")
    expect(rows).to_have_count(2)
    expect(rows.first).to_contain_text("Formatter: expected operand, found '}'")
    expect(rows.first).to_contain_text("main.go:3")
    expect(editor.page.locator(".cm-problem-error")).to_have_text("func main() { 1 + }")
    editor.page.locator(".cm-content").focus()
    editor.page.keyboard.press("Control+Home")
    editor.page.keyboard.insert_text("// more\n")
    editor.page.keyboard.press("F8")
    expect(editor.page.locator(".cm-activeLineGutter")).to_have_text("4")
    expect(editor.part("problem-told")).to_contain_text("1 of 2: Error: Formatter: expected")
    editor.write(wrong.replace("1 +", "_ = 1"))
    editor.part("format").click()
    expect(rows).to_have_count(1)
    expect(editor.page.locator(".cm-problem-error")).to_have_count(0)
    editor.write(wrong)
    editor.part("format").click()
    expect(rows).to_have_count(2)
    editor.run("package main\n\nfunc main() {\n}\n")
    editor.expect_verdict("good")
    expect(rows).to_have_count(0)
    expect(editor.page.locator(".cm-problem-error")).to_have_count(0)


def test_what_was_written_meanwhile_stays(editor: Editor) -> None:
    held: list[Route] = []
    editor.page.route("**/submissions?wait=*", lambda route: held.append(route))
    editor.write("x  =  1")
    editor.page.keyboard.press("Alt+Shift+f")
    expect(editor.part("note")).to_have_text("Formatting…")
    while not held:
        editor.page.wait_for_timeout(20)
    editor.page.keyboard.type("0")
    held[0].continue_()
    expect(editor.part("done")).to_contain_text("you went on writing")
    expect_text(editor, "x  =  10")


def test_a_program_in_order_stays_and_a_language_without_a_formatter_says_so(
    editor: Editor,
) -> None:
    editor.write("x = 1\n")
    editor.part("format").click()
    expect(editor.part("note")).to_have_text("Already in order")
    editor.choose("sql")
    expect(editor.part("format")).to_be_hidden()
    editor.page.locator(".cm-content").focus()
    editor.page.keyboard.press("Alt+Shift+f")
    expect(editor.part("done")).to_contain_text("no formatter for SQL")


def test_a_server_that_is_away_is_said(editor: Editor) -> None:
    editor.write("x  = 1")
    editor.page.route("**/submissions?wait=*", lambda route: route.abort())
    editor.page.keyboard.press("Alt+Shift+f")
    expect(editor.part("done")).to_contain_text("the server cannot be reached")
    expect_text(editor, "x  = 1")
    editor.complaints.clear()


def test_a_file_of_another_kind_is_left_as_it_is(editor: Editor) -> None:
    editor.choose("c")
    editor.write("int main(void) { return 0; }")
    for name, text in (("a.json", '{"a":1}'), ("a.h", "int  a;")):
        editor.part("add-file").click()
        editor.part("name").fill(name)
        editor.page.keyboard.press("Enter")
        editor.write(text)
        editor.part("format").click()
        if name == "a.json":
            expect(editor.part("done")).to_contain_text("a.json is no file of C.")
            editor.expect_program(text)
    editor.expect_program("int a;")
