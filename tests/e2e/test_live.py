"""A program that gets no input talks to a person at a terminal, in the page."""

import re

import pytest
from playwright.sync_api import Browser, BrowserContext, expect
from serving import Server

from e2e.editor import ASKS, DESK, PATIENCE_MS, PHONE, SHOWN, Editor, new_context
from e2e.relay import relay

GREETERS = {
    "python": "name = input('name? ')\nprint('hello ' + name)",
    "c": '#include <stdio.h>\nint main(void) { char name[99]; printf("name? ");'
    ' if (scanf("%98s", name) != 1) return 1; printf("hello %s\\n", name); }',
    "cpp": "#include <iostream>\n#include <string>\nint main() { std::string name;"
    ' std::cout << "name? "; std::cin >> name; std::cout << "hello " << name << "\\n"; }',
    "java": "public class Main { public static void main(String[] a) {"
    ' System.out.print("name? "); String name = new java.util.Scanner(System.in).nextLine();'
    ' System.out.println("hello " + name); } }',
    "javascript": "const rl = require('readline').createInterface(process.stdin, process.stdout);\n"
    "rl.question('name? ', name => { console.log('hello ' + name); rl.close(); });",
    "typescript": "import * as readline from 'readline';\n"
    "const rl = readline.createInterface(process.stdin, process.stdout);\n"
    "rl.question('name? ', (name: string) => { console.log('hello ' + name); rl.close(); });",
    "go": 'package main\nimport "fmt"\nfunc main() { var name string\n fmt.Print("name? ")\n'
    ' fmt.Scan(&name)\n fmt.Println("hello", name) }',
    "rust": 'fn main() { let mut name = String::new(); print!("name? ");\n'
    " std::io::Write::flush(&mut std::io::stdout()).unwrap();\n"
    ' std::io::stdin().read_line(&mut name).unwrap(); println!("hello {}", name.trim()); }',
    "ruby": "print 'name? '\nputs \"hello #{gets.chomp}\"",
    "perl": "print 'name? '; my $name = <STDIN>; chomp $name; print \"hello $name\\n\";",
    "php": "<?php echo 'name? '; $name = trim(fgets(STDIN)); echo \"hello $name\\n\";",
    "lua": "io.write('name? ') local name = io.read() print('hello ' .. name)",
    "bash": "read -p 'name? ' name\necho \"hello $name\"",
}

SIZES = """\
import os, signal
signal.signal(signal.SIGWINCH, lambda *_: print(*os.get_terminal_size()[::-1]))
print(*os.get_terminal_size()[::-1])
while input(): pass
"""

LEFT = "document.querySelector('[data-testid=left]').textContent"
"""As long as it begins with `4:`, its texts are in the order of the times."""

CURSES = """\
import curses
def main(window):
    while True:
        window.erase()
        window.addstr(0, 0, "size %d %d" % window.getmaxyx())
        window.addstr(window.getmaxyx()[0] - 2, 0, "bottom", curses.A_REVERSE)
        if window.getch() == ord("q"): return
curses.wrapper(main)
print("left")
"""


@pytest.mark.parametrize("language", GREETERS)
def test_a_prompt_without_a_newline_is_seen_before_the_answer(
    editor: Editor, language: str
) -> None:
    editor.choose(language)
    editor.talk(GREETERS[language])
    editor.expect_terminal("name?")
    editor.type("you", "Enter")
    editor.expect_verdict("good")
    editor.expect_terminal("name? you", "hello you")


def test_a_program_is_answered_as_in_a_terminal_until_control_d(editor: Editor) -> None:
    editor.talk(ASKS)
    editor.expect_terminal("name?")
    editor.type("yuo", "Backspace", "Backspace", "ou", "Enter")
    editor.expect_terminal("name? you", "hello you")
    editor.page.keyboard.insert_text("é😀")  # as from a picker, which presses no key
    editor.type("Enter")
    editor.wait_terminal("got é😀")
    editor.type("Control+d")
    editor.expect_verdict("good")
    editor.expect_terminal("name? you", "hello you", "é😀", "got é😀", "bye")


def test_given_input_there_is_no_terminal(editor: Editor) -> None:
    editor.give("one\n")
    editor.run("import sys; print(sys.stdin.isatty(), sys.stdin.read())")
    editor.expect_verdict("good")
    editor.expect_whole_output("False one\n\n")
    expect(editor.part("terminal")).to_be_hidden()


@pytest.mark.parametrize(
    ("key", "number"), [("Control+c", 2), ("Control+\\", 3), ("Control+z", 20)]
)
def test_a_control_key_is_the_programs(editor: Editor, key: str, number: int) -> None:
    editor.talk(
        "import signal\n"
        f"signal.signal({number}, lambda number, _: print('signal', number))\n"
        "print('up'); input()"
    )
    editor.wait_terminal("up")
    editor.type(key)
    editor.wait_terminal(f"signal {number}")
    editor.type("Enter")
    editor.expect_verdict("good")


def test_control_c_copies_what_is_selected_and_is_the_programs_else(
    context: BrowserContext, editor: Editor
) -> None:
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    editor.talk("print('word'); input()")
    editor.expect_terminal("word")
    editor.page.locator(".xterm-rows > div").first.evaluate(
        "row => window.box = row.getBoundingClientRect()"
    )
    left, top, height = editor.page.evaluate("[box.left, box.top, box.height]")
    editor.page.mouse.dblclick(left + 10, top + height / 2)
    editor.page.keyboard.press("Control+c")
    editor.page.wait_for_function("async () => await navigator.clipboard.readText() === 'word'")
    editor.page.keyboard.press("Control+v")
    editor.wait_terminal("word\nword")
    editor.page.keyboard.press("Control+c")
    editor.wait_terminal("KeyboardInterrupt")
    editor.expect_verdict("stopped", "Ended by Ctrl-C")


def test_colours_and_a_line_written_over(editor: Editor) -> None:
    editor.talk(
        "import time\n"
        "for n in range(101):\n"
        "    print(f'\\r{n:3} %', end='', flush=True)\n"
        "    if n % 25 == 0: time.sleep(0.05)\n"
        "print('\\r\\x1b[Kdone')\n"
        "print('plain \\x1b[31mred\\x1b[0m \\x1b[38;5;208morange\\x1b[0m '\n"
        "      '\\x1b[38;2;250;250;250mwhite\\x1b[0m \\x1b[97;103mboth\\x1b[0m')"
    )
    editor.expect_verdict("good")
    editor.expect_terminal("done", "plain red orange white both")
    colours = (
        editor.page.locator(".xterm-rows > div")
        .nth(1)
        .locator("span")
        .evaluate_all(
            "all => Object.fromEntries(all.map("
            "each => [each.textContent.trim(), getComputedStyle(each).color]))"
        )
    )
    colours.pop("", None)  # between them
    assert len(colours) == len(set(colours.values())) == 5
    assert colours["white"] != "rgb(250, 250, 250)"  # which could not be read here


def test_inverse_text_has_the_colour_of_the_background(editor: Editor) -> None:
    editor.talk("print('\\x1b[7minverse\\x1b[0m')")
    editor.expect_terminal("inverse")
    background, text = editor.page.locator(".xterm-scrollable-element").evaluate(
        "screen => [getComputedStyle(screen).backgroundColor, getComputedStyle(screen).color]"
    )
    inverse = editor.page.locator(".xterm-rows span", has_text="inverse")
    expect(inverse).to_have_css("color", background)
    expect(inverse).to_have_css("background-color", text)


@pytest.mark.parametrize("dark", [False, True])
def test_in_forced_colours_the_text_is_seen_once_and_the_cursor_too(
    browser: Browser, server: Server, dark: bool
) -> None:
    with new_context(browser, DESK, dark, forced=True) as context:
        editor = Editor(context.new_page(), f"http://127.0.0.1:{server.port}/")
        editor.open()
        editor.talk("print('\\x1b[7minverse\\x1b[0m'); input('name? ')")
        editor.expect_terminal("inverse", "name?")
        editor.type("x")
        editor.wait_terminal("name? x")
        canvas, text = ("rgb(0, 0, 0)", "rgb(255, 255, 255)")[:: 1 if dark else -1]
        nothing = "rgba(0, 0, 0, 0)"
        for part, (colour, background) in {
            ".xterm-rows span:has-text('name? x')": [text, nothing],
            ".xterm-rows span:has-text('inverse')": [canvas, text],
            ".xterm-cursor": [canvas, text],
            ".xterm-accessibility-tree > div:has-text('inverse')": [nothing, nothing],
        }.items():
            expect(editor.page.locator(part)).to_have_css("color", colour)
            expect(editor.page.locator(part)).to_have_css("background-color", background)
        assert editor.complaints == []


def test_each_program_has_a_cursor_that_is_seen_before_a_key(editor: Editor) -> None:
    for _ in range(2):
        editor.talk("input('name? ')")
        editor.expect_terminal("name?")
        expect(editor.page.locator(".xterm-cursor")).to_have_count(1)
        editor.type("Enter")
        editor.expect_verdict("good")
        expect(editor.page.locator(".xterm-cursor")).to_have_count(0)


@pytest.mark.parametrize("edits", ["the kernel", "the program"])
def test_a_wide_character_that_is_erased_is_gone_on_both_columns(
    editor: Editor, edits: str
) -> None:
    editor.talk(("import readline\n" if edits == "the program" else "") + "print(input('> '))")
    editor.expect_terminal(">")
    editor.type()
    editor.page.keyboard.insert_text("a日😀ä")
    editor.type("Backspace", "Backspace", "Backspace", "b")
    editor.expect_terminal("> ab")
    editor.page.keyboard.insert_text("世界")
    editor.type("Control+u", "c", "Enter")
    editor.expect_verdict("good")
    editor.expect_terminal("> c", "c")


def test_an_emoji_takes_two_columns(editor: Editor) -> None:
    editor.talk("print('😀|\\nab|')")
    editor.expect_terminal("😀|", "ab|")
    rights = editor.page.locator(".xterm-rows > div").evaluate_all(
        "rows => rows.slice(0, 2).map(row => { const text = document.createRange();"
        " text.selectNodeContents(row); return Math.round(text.getBoundingClientRect().right) })"
    )
    assert abs(rights[0] - rights[1]) <= 1


def test_control_s_stops_nothing_but_is_for_who_has_the_screen(editor: Editor) -> None:
    editor.talk("print('up'); input(); print('on')")
    editor.wait_terminal("up")
    editor.type("Control+s", "Enter")
    editor.expect_verdict("good")
    editor.expect_terminal("up", "", "on")
    editor.talk(
        "import os, tty; tty.setraw(0); print('\\x1b[?1049hup\\r')\n"
        "key = os.read(0, 1); print(f'\\x1b[?1049l{key}')"
    )
    editor.wait_terminal("up")
    editor.type("Control+s")
    editor.expect_verdict("good")
    editor.wait_terminal(r"b'\x13'")


def size(lines: list[str]) -> tuple[int, int]:
    rows, cols = re.findall(r"(\d+) (\d+)", "\n".join(lines))[-1]
    return int(rows), int(cols)


def drawn_size(editor: Editor, but: str = "") -> tuple[int, int]:
    """The size that CURSES tells once it has drawn all of it, which may come in pieces. `but` is the line of
    an earlier size."""
    drawn = f"""but => {{
        const lines = {SHOWN}, [told, rows] = /^size ([0-9]+) [0-9]+$/.exec(lines[0]) ?? []
        return rows && told !== but && lines[rows - 2] === "bottom" && told
    }}"""
    told = editor.page.wait_for_function(drawn, arg=but, timeout=PATIENCE_MS)
    return size([told.json_value()])


def test_a_program_is_told_the_size_of_the_pane(editor: Editor) -> None:
    editor.talk(SIZES)
    editor.page.wait_for_function("() => document.querySelectorAll('.xterm-rows > div').length > 1")
    rows = editor.page.locator(".xterm-rows > div")
    before, _ = size(editor.wait_terminal(f"{rows.count()} "))
    editor.page.set_viewport_size({"width": DESK[0], "height": 600})
    expect(rows).not_to_have_count(before)
    editor.wait_terminal(f"\n{rows.count()} ")
    editor.type("Enter")
    editor.expect_verdict("good")


def test_the_terminal_is_made_before_it_is_wanted(editor: Editor) -> None:
    rows = editor.page.locator(".xterm-rows > div")
    expect(rows.first).to_be_attached()
    expect(editor.part("terminal")).to_be_hidden()
    expect(editor.part("output")).to_be_visible()
    editor.talk("import os; print('rows', os.get_terminal_size()[1])")
    editor.expect_verdict("good")
    editor.expect_terminal(f"rows {rows.count()}")


def test_a_full_screen_program_follows_the_size_and_leaves_what_was_there(editor: Editor) -> None:
    editor.talk("print('before')\n" + CURSES)
    before = drawn_size(editor)
    editor.page.set_viewport_size({"width": DESK[0], "height": 600})
    rows, cols = drawn_size(editor, but="size {} {}".format(*before))
    assert rows < before[0]
    assert cols == before[1]
    editor.type("q")
    editor.expect_verdict("good")
    editor.expect_terminal("before", "left")


def test_an_editor_opens_edits_and_saves(editor: Editor) -> None:
    editor.choose("bash")
    editor.talk("echo one > text; /usr/bin/vi -u NONE text && echo saved && cat text")
    editor.wait_terminal("one")
    editor.type("o", "two", "Escape", ":wq", "Enter")
    editor.expect_verdict("good")
    editor.expect_terminal("saved", "one", "two")


def test_pythons_own_prompt_has_a_history(editor: Editor) -> None:
    editor.talk("import os, sys; os.execv(sys.executable, [sys.executable, '-q'])")
    editor.expect_terminal(">>>")
    editor.type("6 * 7", "Enter")
    editor.wait_terminal("42")
    editor.type("ArrowUp", "Backspace", "8", "Enter")
    editor.wait_terminal("48")
    editor.type("Control+d")
    editor.expect_verdict("good")


def test_what_ended_can_be_read_and_copied_and_not_typed_into(
    context: BrowserContext, editor: Editor
) -> None:
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    editor.talk("for n in range(300): print('line', n)")
    editor.expect_verdict("good")
    editor.wait_terminal("line 299")
    editor.type("x", "Enter", "Control+c")
    for _ in range(300):
        editor.page.keyboard.press("Shift+PageUp")
    editor.wait_terminal("line 0\nline 1\n")
    editor.page.locator("#copy").click()
    whole = "".join(f"line {n}\n" for n in range(300))
    editor.page.wait_for_function(
        "async wanted => await navigator.clipboard.readText() === wanted", arg=whole
    )


def test_a_program_that_writes_nothing_is_said_to(editor: Editor) -> None:
    editor.talk("pass")
    editor.expect_verdict("good")
    expect(editor.part("output")).to_have_attribute(
        "data-placeholder", re.compile("^It wrote nothing.")
    )
    expect(editor.part("output")).to_be_visible()


def test_what_does_not_compile_is_the_compilers_at_a_terminal_too(editor: Editor) -> None:
    editor.choose("c")
    editor.talk("int main(void) { return }")
    editor.expect_verdict("bad", "ompile")
    expect(editor.part("compile-output")).to_contain_text("main.c:1")
    expect(editor.part("terminal")).to_be_hidden()


def test_f6_leaves_the_terminal_and_a_program_that_waits_gets_the_keys(editor: Editor) -> None:
    editor.give("")
    editor.write("print(input('name? ')); print([input()])")
    editor.page.keyboard.press("Control+Enter")
    terminal = editor.page.locator(".xterm textarea")
    expect(terminal).to_be_focused()
    editor.page.keyboard.type("\ta\n")  # a tabulator is the program's, too
    editor.wait_terminal("\n        a")
    editor.page.keyboard.press("F6")
    expect(editor.page.locator(".cm-content")).to_be_focused()
    editor.page.keyboard.press("F6")
    expect(editor.part("stdin")).to_be_focused()
    editor.page.keyboard.press("F6")
    expect(terminal).to_be_focused()
    editor.page.keyboard.press("Shift+F6")
    expect(editor.part("stdin")).to_be_focused()
    editor.page.keyboard.press("F6")
    described = terminal.get_attribute("aria-describedby")
    expect(editor.page.locator(f"#{described}")).to_have_text("F6 leaves the terminal")
    editor.page.keyboard.press("Enter")
    editor.expect_verdict("good")
    editor.wait_terminal("['']")  # F6 was not the program's
    editor.page.keyboard.press("Tab")  # nothing can be typed any more
    expect(terminal).not_to_be_focused()


@pytest.mark.parametrize("how", ["by a key", "by dictation"])
def test_who_goes_on_writing_keeps_the_keys(editor: Editor, how: str) -> None:
    editor.talk("print('up'); print([input()])")
    editor.page.locator(".cm-content").click()
    editor.page.keyboard.press("Control+Enter")
    if how == "by a key":
        editor.page.keyboard.type("#")
    else:
        editor.page.keyboard.insert_text("#")  # without a key
    editor.wait_terminal("up")
    editor.page.wait_for_timeout(1000)  # twice as long as a person who only watches has to wait
    editor.page.keyboard.type(" more\n")
    expect(editor.page.locator(".cm-content")).to_be_focused()
    expect(editor.page.locator(".cm-content")).to_contain_text("# more")
    editor.page.keyboard.press("F6")
    editor.page.keyboard.press("F6")
    editor.page.keyboard.press("Enter")
    editor.wait_terminal("['']")  # nothing of it was the program's


GAME = """\
import os, select, time, tty
tty.setcbreak(0)
read = b""
while b"x" not in read:
    print({draws}, end="", flush=True)
    if select.select([0], [], [], 0.05)[0]: read += os.read(0, 99)
print("\\x1b[?1049lpressed")
"""


@pytest.mark.parametrize(
    "draws",
    [
        r"f'\x1b[?1049h\x1b[H{time.time()}'",
        r"f'\x1b[H\x1b[2J{time.time()}'",
        r"'\x1b[6n'",
    ],
    ids=["takes the screen", "erases the screen", "asks for the cursor"],
)
def test_a_game_that_is_never_quiet_gets_the_keys(editor: Editor, draws: str) -> None:
    editor.give("")
    editor.write(GAME.format(draws=draws))
    editor.page.keyboard.press("Control+Enter")
    expect(editor.page.locator(".xterm textarea")).to_be_focused()
    editor.page.keyboard.press("x")
    editor.wait_terminal("pressed")
    editor.expect_verdict("good")


def test_a_program_that_does_not_run_yet_gets_no_keys(browser: Browser, server: Server) -> None:
    with relay(server.port) as between, new_context(browser, DESK) as context:
        editor = Editor(context.new_page(), f"http://127.0.0.1:{between.port}/")
        editor.open()
        editor.give("")
        editor.write("print([input()])")
        between.cut()
        expect(editor.part("status")).to_have_attribute("data-state", "down")
        editor.page.keyboard.press("Control+Enter")
        editor.expect_verdict("busy", "Waiting for the server")
        editor.page.wait_for_timeout(1000)  # twice as long as a program has to be quiet
        expect(editor.page.locator(".cm-content")).to_be_focused()
        between.mend()
        expect(editor.page.locator(".xterm textarea")).to_be_focused()
        editor.page.keyboard.press("Enter")
        editor.wait_terminal("['']")


def test_a_paste_is_bracketed_for_who_asks_and_too_long_a_one_is_refused(
    context: BrowserContext, editor: Editor
) -> None:
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    editor.talk(
        "import tty, os; tty.setraw(0); print('\\x1b[?2004hup\\r')\n"
        "data = b''\n"
        "while not data.endswith(b'~q'): data += os.read(0, 99999)\n"
        "print(len(data), data[:8], '\\r')"
    )
    editor.wait_terminal("up")
    editor.type()
    editor.page.evaluate("navigator.clipboard.writeText('x'.repeat(70_000))")
    editor.page.keyboard.press("Control+v")
    expect(editor.part("detail")).to_contain_text("more than the program takes at once")
    editor.page.evaluate("navigator.clipboard.writeText('x'.repeat(50_000))")
    editor.page.keyboard.press("Control+v")
    editor.page.keyboard.type("q")
    editor.expect_verdict("good")
    editor.wait_terminal(f"{50_000 + 2 * len('?[200~') + 1} b'\\x1b[200~xx'")
    editor.type()
    editor.page.evaluate("navigator.clipboard.writeText('x'.repeat(70_000))")
    editor.page.keyboard.press("Control+v")
    editor.page.keyboard.press("F6")
    editor.expect_verdict("good")  # nothing takes it any more


@pytest.mark.parametrize("hours", [-1, 1])
def test_the_clock_of_a_run_is_not_the_systems(editor: Editor, hours: int) -> None:
    editor.talk("input('up? ')")
    editor.wait_terminal("up?")
    expect(editor.part("clock")).to_contain_text("s")
    before = float(editor.part("clock").inner_text().split()[0])
    editor.page.evaluate(
        "hours => { const real = Date.now; Date.now = () => real() + hours * 3_600_000 }", hours
    )
    editor.page.wait_for_function(
        f"() => parseFloat(document.querySelector('#run-key').textContent) > {before + 0.5}"
    )
    assert float(editor.part("clock").inner_text().split()[0]) < before + 300
    expect(editor.part("left")).to_contain_text("left")
    editor.stop()


def test_the_time_that_is_left_is_counted_down_and_typing_renews_it(editor: Editor) -> None:
    left, clock = editor.part("left"), editor.part("clock")
    shown = re.compile(r"^4:\d\d left$")
    editor.talk("while input('? '): pass")
    expect(left).to_have_text(shown)
    before = clock.inner_text()
    editor.page.reload()
    expect(left).to_have_text(shown)
    assert float(clock.inner_text().split()[0]) >= float(before.split()[0])  # the same clock
    first = left.inner_text()
    editor.page.wait_for_function(f"() => {LEFT} < '{first}'")
    low = left.inner_text()
    assert shown.match(low)
    editor.type("a")
    editor.page.wait_for_function(f"() => {LEFT} > '{low}'")  # nothing else lets it rise
    editor.type("Enter", "Enter")
    editor.expect_verdict("good")
    expect(left).to_be_empty()


def test_a_link_goes_nowhere(editor: Editor) -> None:
    editor.talk("print('\\x1b]8;;https://example.org/\\x1b\\\\here\\x1b]8;;\\x1b\\\\'); input()")
    editor.expect_terminal("here")
    editor.page.on("popup", lambda page: editor.complaints.append(page.url))
    editor.page.on("dialog", lambda dialog: editor.complaints.append(dialog.message))
    left, top = editor.page.locator(".xterm-rows > div").first.evaluate(
        "row => [row.getBoundingClientRect().left, row.getBoundingClientRect().top]"
    )
    editor.page.mouse.click(left + 10, top + 8)
    editor.type("Enter")
    editor.expect_verdict("good")


def test_a_flood_leaves_the_page_usable_and_can_be_copied_whole(
    context: BrowserContext, editor: Editor
) -> None:
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    editor.talk("print('x' * 10_000_000)\nfor n in range(60_000): print('line', n)")
    editor.expect_verdict("good")
    editor.page.locator("#copy").click()
    editor.page.wait_for_function(
        "async () => (await navigator.clipboard.readText()).length === 688_890 + 10_000_001"
    )
    # Not even for a screen reader is an endless line kept in the page.
    assert editor.page.evaluate("document.querySelector('.xterm').textContent.length") < 1_000_000
    editor.talk("print('next')")
    editor.expect_verdict("good")
    editor.expect_terminal("next")


@pytest.mark.parametrize(
    "writes",
    [
        *(f"'A\\x1b[2147483647{final}'" for final in "bILMSTZ"),
        "'A\\x1b[9999b' * 2000",
        "'A\\x1b[9999L' * 2000",
        "'A' + '\\u0301' * 1_000_000",
        "'A' + '\\u0301' * 20_000 + '\\x1b[9999b'",
    ],
)
def test_a_few_bytes_do_not_hold_the_page(editor: Editor, writes: str) -> None:
    """Sequences that say how often, and accents without end: a minute each, without bounds."""
    editor.talk(f"print({writes})\nprint('\\x1b[2J\\x1b[Hend')")
    editor.expect_verdict("good")
    editor.wait_terminal("end")


def test_no_cell_is_repeated_or_inserted_less_than_a_screen(editor: Editor) -> None:
    """The bounds lie beyond what can be seen."""
    editor.talk("print('A\\x1b[70b', end='')\nprint('\\x1b[Hx\\x1b[999M', end='end')")
    editor.expect_verdict("good")
    editor.expect_terminal("end")
    editor.talk("print('A\\x1b[70b')")
    editor.expect_terminal("A" * 71)


def test_by_touch_there_are_keys_for_what_a_phone_has_not(browser: Browser, server: Server) -> None:
    with new_context(browser, PHONE) as context:
        editor = Editor(context.new_page(), f"http://127.0.0.1:{server.port}/")
        editor.open()
        editor.talk(ASKS)
        editor.expect_terminal("name?")
        expect(editor.page.locator(".xterm-cursor")).to_have_count(1)
        editor.page.locator(".xterm").tap()
        editor.page.keyboard.insert_text("you")
        editor.page.keyboard.press("Enter")
        editor.wait_terminal("hello you")
        editor.part("keys").get_by_text("Ctrl D").tap()
        expect(editor.page.locator(".xterm textarea")).to_be_focused()
        editor.expect_verdict("good")
        expect(editor.part("keys")).to_be_hidden()
        assert editor.complaints == []
