"""The page shows the output of programs and compilers."""

import pytest
from playwright.sync_api import Browser, BrowserContext, expect
from serving import Server

from e2e.editor import DESK, PHONE, Editor, new_context

WRONG_C = "int main(void) {\n" + "".join(
    f"    undeclared_{n} = {'1 + ' * 60}1;\n" for n in range(60)
)


def test_a_line_is_written_over_as_in_a_terminal(editor: Editor) -> None:
    editor.run(
        "import time\n"
        "for n in range(101):\n"
        "    print(f'\\r{n:3} %', end='', flush=True)\n"
        "    if n % 25 == 0: time.sleep(0.05)\n"
        "print('\\r\\x1b[Kdone')\n"
        "print('abc\\b\\bX', end='\\r\\n')\n"
        "print('ding\\a')"
    )
    editor.expect_verdict("good")
    editor.expect_whole_output("done\naXc\nding\n")


def test_a_long_line_is_gone_on_from_and_all_can_be_copied(
    context: BrowserContext, editor: Editor
) -> None:
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    editor.run(
        "import time\n"
        "print('x' * 3000, end='\\r', flush=True); time.sleep(0.1); print('y')\n"
        "print('z' * 3000, end='\\r\\n')\n"
        "print('ab', end='\\r', flush=True); time.sleep(0.1); print('\\x1b[31mc' * 2500)\n"
        "print('\\x1b[0munfinished\\b\\b\\bX', end='')"
    )
    editor.expect_verdict("good")
    whole = f"{'x' * 3000}\ny\n{'z' * 3000}\n{'c' * 2500}\nunfinisXed"
    editor.expect_whole_output(whole)
    editor.page.locator("#copy").click()
    editor.page.wait_for_function(
        "async wanted => await navigator.clipboard.readText() === wanted", arg=whole
    )


def test_colours_are_shown_and_can_be_read(browser: Browser, server: Server) -> None:
    source = (
        "print('plain \\x1b[33myellow\\x1b[0m \\x1b[38;5;208morange\\x1b[0m '\n"
        "      '\\x1b[1;4;38;2;250;250;250mwhite\\x1b[0m \\x1b[97;103mboth\\x1b[0m')"
    )
    for dark in (False, True):
        with new_context(browser, DESK, dark) as context:
            editor = Editor(context.new_page(), f"http://127.0.0.1:{server.port}/")
            editor.open()
            editor.run(source)
            editor.expect_verdict("good")
            editor.expect_whole_output("plain yellow orange white both\n")
            spans = editor.part("output").locator(".sgr")
            expect(spans).to_have_text(["yellow", "orange", "white", "both"])
            shown = spans.evaluate_all(
                "all => all.map(each => getComputedStyle(each)).map(s => [s.color, s.backgroundColor])"
            )
            page = editor.part("output").evaluate("each => getComputedStyle(each).color")
            assert len({colour for colour, _ in shown} | {page}) == 5
            assert spans.nth(2).evaluate("each => getComputedStyle(each).fontWeight") == "700"
            assert shown[3][1] == "rgb(230, 200, 0)"
            assert editor.complaints == []


def test_a_flood_of_colours_stays_cheap(editor: Editor) -> None:
    editor.run(
        "import sys\n"
        "sys.stdout.write(''.join(f'\\x1b[3{n % 8}m{n % 10}\\r\\b' for n in range(15_000)))\n"
        "for n in range(15_000): sys.stdout.write(f'\\x1b[38;5;{n % 256}m.' + '\\n' * (n % 100 == 0))\n"
        "print('\\x1b[0mend')"
    )
    editor.expect_verdict("good")
    editor.expect_output("end")
    assert editor.part("output").locator(".sgr").count() <= 10_000
    editor.run("print('next')")
    editor.expect_verdict("good")
    editor.expect_whole_output("next\n")


@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
def test_a_compilers_messages_open_at_the_first_unwrapped_and_have_all_the_room(
    browser: Browser, server: Server, size: tuple[int, int]
) -> None:
    with new_context(browser, size) as context:
        editor = Editor(context.new_page(), f"http://127.0.0.1:{server.port}/")
        editor.open()
        editor.choose("c")
        editor.run(WRONG_C)
        editor.expect_verdict("bad", "Does not compile")
        pane = editor.part("compile-output")
        expect(pane).to_contain_text("undeclared_59")
        top, inside, height, wide, width = pane.evaluate(
            "each => [each.scrollTop, each.scrollHeight, each.clientHeight,"
            " each.scrollWidth, each.clientWidth]"
        )
        assert (top, inside > height, wide > width) == (0, True, True)
        expect(editor.part("output")).to_be_hidden()
        editor.write("int main(void) { return 0; }")
        editor.part("run").click()
        editor.expect_verdict("good")
        expect(editor.part("output")).to_be_visible()
        assert editor.complaints == []


def test_in_forced_colours_the_bar_is_stderrs_alone(browser: Browser, server: Server) -> None:
    with new_context(browser, DESK, forced=True) as context:
        editor = Editor(context.new_page(), f"http://127.0.0.1:{server.port}/")
        editor.open()
        editor.run("import sys; print('out', flush=True); print('err', file=sys.stderr)")
        editor.expect_verdict("good")
        style = (
            "each => [getComputedStyle(each).borderLeftColor,"
            " getComputedStyle(document.body).backgroundColor]"
        )
        out, page = editor.part("output").locator(".stdout").evaluate(style)
        err, _ = editor.part("output").locator(".stderr").evaluate(style)
        assert (out, err == page) == (page, False)


def test_what_a_killed_program_kept_in_memory_is_explained(editor: Editor) -> None:
    editor.choose("c")
    editor.run(
        '#include <stdio.h>\nint main(void) { printf("before\\n"); return *(volatile int *)0; }'
    )
    editor.expect_verdict("bad", "Crashed: segmentation fault")
    expect(editor.part("output")).to_have_attribute(
        "data-placeholder",
        "Nothing arrived. C keeps output in memory until 4 KB or the end; add fflush(stdout).",
    )


def test_a_program_that_wanted_more_input_is_told_how_to_give_it(editor: Editor) -> None:
    editor.give("you")
    editor.run("print('Hi', input('Name: '), input('Age: '))")
    editor.expect_verdict("bad", "Wanted more input than there was")
    editor.part("drawer-toggle").click()
    editor.part("write-input").click()
    expect(editor.part("stdin")).to_be_focused()
    editor.part("type-live").click()
    expect(editor.part("offers")).to_be_hidden()
    editor.expect_terminal("Name:")
    editor.type("me", "Enter", "9", "Enter")
    editor.expect_verdict("good")
    expect(editor.part("stdin")).to_have_value("you")


def test_a_program_wider_than_the_editor_can_be_scrolled_by_keys(editor: Editor) -> None:
    editor.write("x = '" + "long " * 100 + "'")
    expect(editor.page.locator(".cm-scroller [tabindex='0']")).to_have_count(1)


def test_pictures_that_a_program_left_are_shown(editor: Editor) -> None:
    editor.run(
        "import matplotlib; matplotlib.use('Agg')\n"
        "import matplotlib.pyplot as plt, os\n"
        "plt.plot([1, 4, 9]); plt.savefig('a plot.png'); os.mkdir('more'); plt.savefig('more/#2.jpg')\n"
        "open('none.png', 'w').write('<svg onload=alert(1)>')"
    )
    editor.expect_verdict("good")
    pictures = editor.part("pictures").locator("img")
    expect(pictures).to_have_count(2)
    for number, name in enumerate(("a plot.png", "more/#2.jpg")):
        expect(pictures.nth(number)).to_have_attribute("alt", name)
        editor.page.wait_for_function(
            "at => document.querySelectorAll('#pictures img')[at].naturalWidth > 100", arg=number
        )
    editor.run("print('another run')")
    editor.expect_verdict("good")
    expect(pictures).to_have_count(0)


def test_accents_without_end_do_not_hold_the_page(context: BrowserContext, editor: Editor) -> None:
    """200,000 on one character kept the browser's layout for four seconds. All of them can be copied."""
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    editor.run("print('A' + '\\u0301' * 400_000 + 'B')")
    editor.expect_verdict("good")
    editor.expect_whole_output("A" + "\u0301" * 32 + "B\n")
    editor.page.locator("#copy").click()
    editor.page.wait_for_function(
        "async () => (await navigator.clipboard.readText()).length === 400_003"
    )
