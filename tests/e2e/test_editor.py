"""The editor's page in a real browser, against a real server."""

import re
import time
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect
from serving import Server

from e2e.editor import DESK, PATIENCE_MS, PHONE, Editor, new_context


def test_the_example_runs_as_the_page_opens(editor: Editor) -> None:
    editor.expect_language("python")
    expect(editor.part("banner")).to_be_hidden()
    editor.part("run").click()
    editor.expect_verdict("good")
    editor.expect_output("4 words: fox brown quick the")


def test_run_shows_output_verdict_and_usage(editor: Editor) -> None:
    editor.run("print('hello')")
    editor.expect_verdict("good")
    editor.expect_whole_output("hello\n")
    expect(editor.part("cpu-time")).to_contain_text("ms")
    expect(editor.part("wall-time")).to_contain_text("ms")
    expect(editor.part("memory")).to_contain_text("MB")
    expect(editor.part("run")).to_have_text(re.compile("^Run"))


def test_the_page_asks_nobody_but_its_own_server(editor: Editor) -> None:
    policy = editor.page.request.get(editor.home).headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    editor.run("print(1)")
    editor.expect_verdict("good")  # the fixture looks at requests and console


def test_lines_are_seen_while_the_program_runs(editor: Editor) -> None:
    editor.allow_long_runs()
    editor.run("import time\nfor n in range(600): print('line', n, flush=True); time.sleep(0.2)")
    seen: set[int] = set()
    deadline = time.monotonic() + PATIENCE_MS / 1000
    while len(seen) < 5 and time.monotonic() < deadline:
        seen.add(editor.output().count("line"))
    assert len(seen) == 5
    editor.stop()
    editor.expect_verdict("stopped")


def test_the_program_reads_the_input_box(editor: Editor) -> None:
    editor.give("one\ntwo\n")
    editor.run("import sys; print([line for line in sys.stdin])")
    editor.expect_output(r"['one\n', 'two\n']")


def test_stop_ends_the_program_and_keeps_its_output(editor: Editor) -> None:
    editor.allow_long_runs()
    editor.run("import time; print('before', flush=True); time.sleep(600)")
    editor.expect_output("before")
    editor.stop()
    editor.expect_verdict("stopped")
    editor.expect_whole_output("before\n")
    editor.run("print('after')")
    editor.expect_verdict("good")
    editor.expect_whole_output("after\n")


def test_a_compile_error_is_shown_as_the_compilers(editor: Editor) -> None:
    editor.choose("c")
    editor.run("int main(void) { return }")
    editor.expect_verdict("bad", "ompile")
    expect(editor.part("compile-output")).to_contain_text("main.c:1")
    editor.run('#include <stdio.h>\nint main(void) { puts("fine"); }')
    editor.expect_verdict("good")
    editor.expect_output("fine")
    expect(editor.part("compile-output")).to_be_hidden()


def test_stdout_and_stderr_are_told_apart(editor: Editor) -> None:
    editor.run("import sys; print('out', flush=True); print('err', file=sys.stderr)")
    editor.expect_verdict("good")
    output = editor.part("output")
    expect(output.locator(".stdout")).to_have_js_property("textContent", "out\n")
    expect(output.locator(".stderr")).to_have_js_property("textContent", "err\n")

    def colour(selector: str) -> object:
        return output.locator(selector).evaluate("each => getComputedStyle(each).color")

    assert colour(".stdout") != colour(".stderr")


@pytest.mark.parametrize(
    ("source", "tone", "headline", "line"),
    [
        ("raise SystemExit(3)", "stopped", "Ended with exit code 3", ""),
        ("raise SystemExit('no user')", "bad", "Ended with exit code 1", "no user"),
        (
            "import os; os.kill(os.getpid(), 11)",
            "bad",
            "Crashed: segmentation fault",
            "null pointer",
        ),
        ("while True: print('x' * 1000)", "bad", "Wrote more than 1 MB", "The first 1 MB is kept."),
        ("x = [0] * 10**9", "bad", "Needed more than 256 MB", ""),
    ],
)
def test_a_failure_says_what_happened(
    editor: Editor, source: str, tone: str, headline: str, line: str
) -> None:
    editor.run(source)
    editor.expect_verdict(tone)
    expect(editor.part("verdict")).to_have_text(headline)
    expect(editor.part("detail")).to_contain_text(line)


def test_what_a_program_prints_is_text_and_nothing_else(editor: Editor) -> None:
    editor.run("print('<img src=x onerror=alert(1)><script>alert(2)</script>\\x1b[31m&amp;')")
    editor.expect_verdict("good")
    editor.expect_output("<script>alert(2)</script>")
    assert editor.part("output").locator("img, script").count() == 0


def test_switching_languages_keeps_each_program(editor: Editor) -> None:
    editor.write("print('mine')")
    editor.choose("javascript")
    expect(editor.page.locator(".cm-content")).not_to_contain_text("mine")
    editor.run("console.log(6 * 7)")
    editor.expect_output("42")
    editor.choose("python")
    expect(editor.page.locator(".cm-content")).to_contain_text("print('mine')")


def test_a_reload_keeps_the_program_and_goes_on_following(editor: Editor) -> None:
    editor.run("import time; print('one', flush=True); time.sleep(2.5); print('two')")
    editor.expect_output("one")
    editor.page.reload()
    editor.expect_output("two")
    editor.expect_verdict("good")
    expect(editor.page.locator(".cm-content")).to_contain_text("time.sleep(2.5)")
    editor.expect_whole_output("one\ntwo\n")


def test_a_long_line_scrolls_beneath_the_line_numbers(editor: Editor) -> None:
    editor.write("x = 1 " + "# a long comment " * 50)
    gutter = editor.page.locator(".cm-gutters")
    colour = gutter.evaluate("each => getComputedStyle(each).backgroundColor")
    assert colour not in ("transparent", "rgba(0, 0, 0, 0)")


def test_control_enter_runs(editor: Editor) -> None:
    editor.give("some")
    editor.write("print('by key')")
    editor.page.locator(".cm-content").press("Control+Enter")
    editor.expect_output("by key")
    editor.expect_verdict("good")
    assert editor.page.locator(".cm-content").inner_text().strip() == "print('by key')"


def test_the_keyboard_alone_gets_everywhere(editor: Editor) -> None:
    editor.page.locator(".cm-content").click()
    editor.page.keyboard.press("Escape")
    editor.page.keyboard.press("Tab")
    reached = set()
    for _ in range(40):
        reached.add(editor.page.evaluate("document.activeElement.dataset.testid"))
        editor.page.keyboard.press("Tab")
    assert {"run", "stdin"} <= reached


def test_much_output_leaves_the_page_usable(editor: Editor) -> None:
    editor.run("for n in range(60_000): print('line', n)")
    editor.expect_verdict("good")
    editor.expect_output("line 59999")
    editor.run("print('next')")
    editor.expect_verdict("good")
    expect(editor.part("output")).to_have_text("next")  # and nothing else; painted a frame later


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
def test_nothing_lies_beyond_the_edge(
    browser: Browser, server: Server, tmp_path: Path, size: tuple[int, int], dark: bool
) -> None:
    with new_context(browser, size, dark) as context:
        editor = Editor(context.new_page(), f"http://127.0.0.1:{server.port}/")
        editor.open()
        editor.page.screenshot(path=tmp_path / "open.png", full_page=True)
        editor.run(
            "import sys\nprint('x' * 500, flush=True)\nprint('oops', file=sys.stderr)\n"
            f"# {'a long comment ' * 30}"
        )
        editor.expect_verdict("good")
        editor.page.screenshot(path=tmp_path / "run.png", full_page=True)
        editor.choose("c")
        editor.run("int main(void) { return }")
        editor.expect_verdict("bad")
        editor.page.screenshot(path=tmp_path / "compile-error.png", full_page=True)
        editor.give("")
        editor.choose("python")
        editor.run("print('x' * 500); print('hello', input('name? '))")
        editor.type("you", "Enter")
        editor.expect_verdict("good")
        editor.wait_terminal("hello you")
        widths = editor.page.evaluate(
            "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
        )
        editor.page.screenshot(path=tmp_path / "terminal.png", full_page=True)
        assert widths == [size[0], size[0]]
        for name in ("run", "language", "terminal"):
            box = editor.part(name).bounding_box()
            assert box
            assert 0 <= box["x"] <= box["x"] + box["width"] <= size[0]
        assert editor.complaints == []
