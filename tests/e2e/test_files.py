"""A program of several files: tabs, keys, names, and what comes in from outside and goes out again."""

import io
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, expect
from serving import Server

from e2e.dropping import drop, zipped
from e2e.editor import BOTH, DESK, PHONE, Editor, new_context

EXAMPLE = "import sys"
MINE = "print('mine')"


@pytest.fixture(params=[DESK, PHONE], ids=["desk", "phone"])
def either(request: pytest.FixtureRequest, browser: Browser, server: Server) -> Iterator[Editor]:
    with new_context(browser, request.param) as context:
        editor = Editor(context.new_page(), f"http://127.0.0.1:{server.port}/")
        editor.open()
        yield editor
        assert editor.complaints == []


def names(editor: Editor) -> list[str]:
    labels = editor.part("tabs").locator(".label")
    return labels.all_text_contents()


def expect_names(editor: Editor, *wanted: str) -> None:
    expect(editor.part("tabs").locator(".label")).to_have_text(list(wanted))


def expect_active(editor: Editor, name: str) -> None:
    expect(editor.part("tabs").locator("[aria-selected=true] .label")).to_have_text(name)


def add(editor: Editor, name: str, content: str = "") -> None:
    editor.part("add-file").click()
    editor.part("name").fill(name)
    editor.page.keyboard.press("Enter")
    expect_active(editor, name)
    if content:
        editor.write(content)


def choose(editor: Editor, name: str) -> None:
    editor.part("tabs").locator(f"[data-name='{name}']").click()
    expect_active(editor, name)


def act(editor: Editor, name: str) -> None:
    """Something of the menu of files."""
    editor.part("file-menu-button").click()
    editor.part("file-menu").locator(f"[data-act={name}]").click()


def undo(editor: Editor) -> None:
    editor.part("done").get_by_text("Undo").click()


def open_files(editor: Editor, *files: Path) -> None:
    editor.part("file-picker").set_input_files(list(files))


def path(folder: Path, name: str, content: bytes | str) -> Path:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return file


# Tabs


def test_a_program_of_two_files_runs_and_is_there_again(either: Editor) -> None:
    editor = either
    editor.write("import util\nprint(util.double(21))")
    add(editor, "util.py", "def double(n):\n    return 2 * n")
    expect_names(editor, "main.py", "util.py")
    editor.give("some\n")
    editor.part("run").click()
    editor.expect_verdict("good")
    editor.expect_whole_output("42\n")
    editor.page.reload()
    editor.expect_ready()
    expect_names(editor, "main.py", "util.py")
    expect_active(editor, "util.py")
    editor.expect_program("def double(n):\n    return 2 * n")
    expect(editor.part("stdin")).to_have_value("some\n")
    expect(editor.part("old")).to_be_hidden()


def test_a_problem_in_another_file_opens_its_tab(either: Editor) -> None:
    editor = either
    editor.write("import util\nprint(util.half(0))")
    add(editor, "util.py", "def half(n):\n    return 1 / n")
    choose(editor, "main.py")
    editor.give("some\n")
    editor.part("run").click()
    editor.expect_verdict("bad", "ZeroDivisionError in util.py:2")
    editor.show("code")
    editor.page.locator(".cm-content").focus()
    editor.page.keyboard.press("F8")
    expect_active(editor, "util.py")
    expect(editor.page.locator(".cm-problem-error")).to_have_text("1 / n")
    expect(editor.page.locator(".cm-activeLineGutter")).to_have_text("2")
    choose(editor, "main.py")
    editor.show("problems")
    editor.page.locator("[data-testid=problem]").first.click()
    expect_active(editor, "util.py")


@BOTH
def test_the_cross_of_a_new_tab_is_in_sight(editor: Editor) -> None:
    for name in ("a.py", "a_file_with_a_long_name.py"):
        add(editor, name)
        cross = editor.part("tabs").locator("[aria-selected=true] .cross")
        expect(cross).to_be_in_viewport(ratio=1)
    cross.click()
    expect_names(editor, "main.py", "a.py")


def test_files_by_keys_alone(editor: Editor) -> None:
    keys = editor.page.keyboard
    editor.write(MINE)
    editor.part("add-file").focus()
    keys.press("Enter")
    keys.type("b.py")
    keys.press("Enter")
    keys.type("print('b')")  # the editor has the focus
    editor.expect_program("print('b')")
    editor.part("tabs").locator("[aria-selected=true]").focus()
    keys.press("F2")
    keys.type("c")  # in the place of what stands before the suffix
    keys.press("Enter")
    expect_names(editor, "main.py", "c.py")
    editor.expect_program("print('b')")
    keys.press("ArrowLeft")
    expect_active(editor, "main.py")
    editor.expect_program(MINE)
    keys.press("End")
    expect_active(editor, "c.py")
    keys.press("Delete")
    expect_names(editor, "main.py")
    expect(editor.part("tabs").locator("[role=tab]")).to_be_focused()
    expect(editor.part("done")).to_contain_text("Deleted c.py.")
    editor.part("done").get_by_text("Undo").press("Enter")
    expect_names(editor, "main.py", "c.py")
    editor.expect_program("print('b')")


def test_each_file_has_its_own_text_and_its_own_history(editor: Editor) -> None:
    editor.write("print('first')")
    add(editor, "b.py", "b = 1")
    choose(editor, "main.py")
    editor.expect_program("print('first')")
    editor.write("print('second')")
    choose(editor, "b.py")
    editor.expect_program("b = 1")
    choose(editor, "main.py")
    editor.page.locator(".cm-content").focus()
    editor.page.keyboard.press("Control+z")
    editor.expect_program("print('first')")
    choose(editor, "b.py")
    editor.expect_program("b = 1")


def test_a_name_is_taken_back_with_what_was_written_since(editor: Editor) -> None:
    editor.write(MINE)
    add(editor, "a.py", "one = 1")
    act(editor, "file_rename")
    editor.part("name").fill("b.py")
    editor.page.keyboard.press("Enter")
    expect_active(editor, "b.py")
    editor.write("two = 2")
    undo(editor)
    expect_active(editor, "a.py")
    editor.expect_program("two = 2")
    editor.page.locator(".cm-content").focus()
    editor.page.keyboard.press("Control+z")
    editor.expect_program("one = 1")


def test_what_is_taken_back_is_shown_and_kept_though_another_language_was_chosen(
    editor: Editor,
) -> None:
    editor.write(MINE)
    add(editor, "a.py", "one = 1")
    act(editor, "file_remove")
    expect_names(editor, "main.py")
    editor.choose("c")
    undo(editor)
    editor.expect_language("python")
    expect_names(editor, "main.py", "a.py")
    editor.choose("c")
    editor.page.reload()
    editor.expect_ready()
    editor.choose("python")
    expect_names(editor, "main.py", "a.py")


def test_what_cannot_be_read_is_said_and_can_be_tried_again(editor: Editor, tmp_path: Path) -> None:
    editor.write(MINE)
    editor.page.route("**/incoming*.js*", lambda route: route.abort())
    open_files(editor, path(tmp_path, "data.txt", "some"))
    expect(editor.part("done")).to_contain_text("Not opened")
    editor.expect_program(MINE)
    editor.complaints.clear()  # the browser's, of what it did not get


def test_a_name_that_the_server_would_refuse_is_refused_in_words(editor: Editor) -> None:
    wrong = {
        "../up.py": "begins in the program's own folder",
        "/etc/passwd": "begins in the program's own folder",
        "-rf": "must not begin with",
        "a\\b.py": "Folders are written with",
        "é" * 200: "too long",
        "main.py": "There is a file of this name",
        "main.py/b.py": "cannot have the same name",
        " ": "Give the file a name",
    }
    editor.part("add-file").click()
    for name, words in wrong.items():
        editor.part("name").fill(name)
        editor.page.keyboard.press("Enter")
        expect(editor.part("name-wrong")).to_contain_text(words)
        expect(editor.part("name")).to_be_focused()
    editor.page.keyboard.press("Escape")
    expect_names(editor, "main.py")


def test_what_is_shown_to_run_is_what_runs(editor: Editor) -> None:
    editor.write("import sys\nprint(sys.argv[0])")
    add(editor, "src/a.py", "print('a')")
    runs = editor.part("tabs").locator("[data-runs=true] .label")
    expect(runs).to_have_text("main.py")
    choose(editor, "main.py")
    act(editor, "file_rename")
    editor.part("name").fill("solve.txt")
    editor.page.keyboard.press("Enter")
    expect(runs).to_have_text("src/a.py")
    expect(editor.part("done")).to_contain_text("src/a.py is the file that runs")
    editor.give("x")
    editor.part("run").click()
    editor.expect_verdict("good")
    editor.expect_whole_output("a\n")
    choose(editor, "solve.txt")
    act(editor, "file_rename")
    editor.part("name").fill("main.py")
    editor.page.keyboard.press("Enter")
    expect_names(editor, "main.py", "src/a.py")
    editor.part("run").click()
    editor.expect_verdict("good")
    editor.expect_output("main.py")


def test_a_copy_and_the_last_file(either: Editor) -> None:
    editor = either
    editor.write(MINE)
    act(editor, "file_duplicate")
    expect_names(editor, "main.py", "main_2.py")
    editor.expect_program(MINE)
    act(editor, "file_remove")
    act(editor, "file_remove")
    expect(editor.part("done")).to_contain_text("The last file stays")
    expect_names(editor, "main.py")
    add(editor, "data.csv")
    choose(editor, "main.py")
    act(editor, "file_remove")
    expect(editor.part("done")).to_contain_text("One file must end in .py")
    expect_names(editor, "main.py", "data.csv")


# In


def test_a_zip_is_a_program_and_goes_out_as_it_came_in(editor: Editor, tmp_path: Path) -> None:
    editor.write(MINE)
    files: dict[str, bytes | str] = {
        "project/main.py": "import subprocess\nprint(open('data/é.txt').read(), flush=True)\n"
        "subprocess.run(['./tool'])\nprint(open('blob', 'rb').read())\n",
        "project/data/é.txt": "data",
        "project/tool": "#!/bin/sh\necho tool\n",
        "project/blob": b"\0\xff",
        "__MACOSX/._main.py": b"\0",
    }
    packed = path(tmp_path, "project.zip", zipped(files, executable=("project/tool",)))
    drop(editor, packed)
    expect(editor.part("done")).to_contain_text("Opened project.zip: 4 files.")
    undo(editor)
    expect_names(editor, "main.py")
    editor.expect_program(MINE)
    drop(editor, packed)
    expect_names(editor, "main.py", "data/é.txt", "tool", "blob")
    editor.give("x")
    editor.part("run").click()
    editor.expect_verdict("good")
    editor.expect_whole_output("data\ntool\nb'\\x00\\xff'\n")
    choose(editor, "blob")
    expect(editor.part("file-binary")).to_contain_text("Binary file, 2 B")
    expect(editor.page.locator(".cm-content")).to_be_hidden()
    with editor.page.expect_download() as alone:
        editor.part("file-binary").get_by_text("Download").click()
    assert Path(alone.value.path()).read_bytes() == b"\0\xff"
    with editor.page.expect_download() as whole:
        act(editor, "program_download")
    assert whole.value.suggested_filename == "main.zip"
    with zipfile.ZipFile(whole.value.path()) as out:
        assert out.testzip() is None
        got = {info.filename: out.read(info) for info in out.infolist()}
        modes = {info.filename: info.external_attr >> 16 for info in out.infolist()}
    assert got == {
        name.removeprefix("project/"): content.encode() if isinstance(content, str) else content
        for name, content in files.items()
        if name.startswith("project/")
    } | {"stdin.txt": b"x"}
    assert modes["tool"] == 0o100755
    assert modes["blob"] == 0o100644


def test_what_a_program_reads_goes_out_with_it_and_comes_in_again(
    editor: Editor, tmp_path: Path
) -> None:
    editor.write("import sys; print(sys.stdin.read(), open('stdin.txt').read())")
    add(editor, "stdin.txt", "a file of mine")
    editor.give("given\n")
    with editor.page.expect_download() as whole:
        act(editor, "program_download")
    packed = tmp_path / "main.zip"
    packed.write_bytes(Path(whole.value.path()).read_bytes())
    choose(editor, "main.py")
    with editor.page.expect_download() as alone:
        act(editor, "file_download")
    assert alone.value.suggested_filename == "main.py"
    act(editor, "file_remove")  # the last source stays
    editor.give("")
    editor.write(MINE)
    open_files(editor, packed)
    expect(editor.part("done")).to_contain_text("Opened main.zip: 2 files.")
    expect(editor.part("done")).to_contain_text("Its input is under Input.")
    undo(editor)
    editor.expect_program(MINE)
    expect(editor.part("stdin")).to_have_value("")
    open_files(editor, packed)
    expect_names(editor, "main.py", "stdin.txt")
    expect(editor.part("stdin")).to_have_value("given\n")
    editor.part("run").click()
    editor.expect_verdict("good")
    editor.expect_whole_output("given\n a file of mine\n")


def test_a_folder_is_a_program(editor: Editor, tmp_path: Path) -> None:
    path(tmp_path, "work/main.py", "from lib.a import A\nprint(A)")
    path(tmp_path, "work/lib/a.py", "A = 'from a'")
    path(tmp_path, "work/.git/config", "no")
    path(tmp_path, "work/__pycache__/main.pyc", b"\0")
    drop(editor, tmp_path / "work")
    expect(editor.part("done")).to_contain_text("Opened work: 2 files.")
    assert sorted(names(editor)) == ["lib/a.py", "main.py"]
    editor.give("x")
    editor.part("run").click()
    editor.expect_whole_output("from a\n")


def test_a_dropped_source_takes_the_place_of_the_example_and_joins_a_program(
    editor: Editor, tmp_path: Path
) -> None:
    first = path(tmp_path, "first.py", "print('first')")
    second = path(tmp_path, "second.py", "print('second')")
    drop(editor, first)
    expect(editor.part("done")).to_contain_text("Opened first.py.")
    expect_names(editor, "first.py")
    editor.expect_program("print('first')")
    expect(editor.part("stdin")).to_have_value("")
    drop(editor, second)
    expect(editor.part("done")).to_contain_text("Added second.py. first.py is the file that runs.")
    expect_names(editor, "first.py", "second.py")
    editor.expect_program("print('second')")
    editor.part("done").get_by_text("Open it alone").click()
    expect_names(editor, "second.py")
    undo(editor)
    expect_names(editor, "first.py", "second.py")
    first.write_text("print('newer')")
    drop(editor, first)
    expect(editor.part("done")).to_contain_text("Replaced first.py.")
    editor.expect_program("print('newer')")
    undo(editor)
    choose(editor, "first.py")
    editor.expect_program("print('first')")


def test_a_source_of_another_language_chooses_the_language(editor: Editor, tmp_path: Path) -> None:
    editor.write(MINE)
    drop(editor, path(tmp_path, "Hello.java", "class Hello {}"))
    editor.expect_language("java")
    expect_names(editor, "Hello.java")
    undo(editor)
    editor.expect_language("python")
    editor.expect_program(MINE)


def test_a_file_that_is_pasted_is_opened_and_a_text_that_is_pasted_stays_one(
    editor: Editor,
) -> None:
    editor.write(MINE)
    editor.page.locator(".cm-content").evaluate(
        """(element) => {
            const data = new DataTransfer()
            data.items.add(new File(['1,2'], 'data.csv'))
            const at = {clipboardData: data, bubbles: true, cancelable: true}
            element.dispatchEvent(new ClipboardEvent('paste', at))
        }"""
    )
    expect_names(editor, "main.py", "data.csv")
    editor.expect_program("1,2")


# Files that cannot be opened


def bomb() -> bytes:
    """65 kB that would be 64 MB."""
    return zipped({"main.py": b"\0" * 2**26})


def lying_bomb() -> bytes:
    packed = bytearray(zipped({"main.py": b"\0" * 2**26}))
    at = packed.index(b"PK\1\2")
    packed[at + 24 : at + 28] = struct.pack("<I", 1000)
    return bytes(packed)


def million() -> bytes:
    one = zipped({"a": ""})
    at = one.index(b"PK\1\2")
    entry = one[at : one.index(b"PK\5\6")]
    size = 20_001 * len(entry)
    end = struct.pack("<4sQHHIIQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, 10**6, 10**6, size, at)
    locator = struct.pack("<4sIQI", b"PK\6\7", 0, at + size, 1)
    last = struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, 65535, 65535, 2**32 - 1, 2**32 - 1, 0)
    return one[:at] + entry * 20_001 + end + locator + last


def locked() -> bytes:
    packed = bytearray(zipped({"main.py": "print()"}))
    for mark, at in ((b"PK\1\2", 8), (b"PK\3\4", 6)):
        packed[packed.index(mark) + at] |= 1
    return bytes(packed)


def test_a_zip_that_cannot_be_opened_says_why_and_nothing_is_lost(
    editor: Editor, tmp_path: Path
) -> None:
    editor.write(MINE)
    wrong = {
        "bomb": (bomb(), "would be 64 MB, and a program has at most 8 MB."),
        "lying": (lying_bomb(), "is damaged, or is no zip."),
        "million": (million(), "has 1,000,000 files, and a program has at most 200."),
        "locked": (locked(), "is locked by a password."),
        "damaged": (b"PK", "is damaged, or is no zip."),
        "empty": (zipped({"a/": ""}), "there is no file in"),
    }
    for name, (packed, words) in wrong.items():
        drop(editor, path(tmp_path, f"{name}.zip", packed))
        expect(editor.part("done")).to_contain_text(f"{name}.zip")
        expect(editor.part("done")).to_contain_text(words)
        expect_names(editor, "main.py")
        editor.expect_program(MINE)


def test_what_leads_out_of_a_zip_is_left_out_and_told(editor: Editor, tmp_path: Path) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("main.py", MINE)
        archive.writestr("../up.py", "")
        link = zipfile.ZipInfo("link")
        link.create_system = 3
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    drop(editor, path(tmp_path, "x.zip", packed.getvalue()))
    expect(editor.part("done")).to_contain_text(
        "Left out: ../up.py (leads out of the folder), link (a link)."
    )
    expect_names(editor, "main.py")
    editor.expect_program(MINE)


def test_too_much_is_not_opened(editor: Editor, tmp_path: Path) -> None:
    editor.write(MINE)
    drop(editor, path(tmp_path, "big.bin", b"\0" * (9 * 2**20)))
    expect(editor.part("done")).to_contain_text("Not opened: larger than 8 MB by 1 MB.")
    many = tmp_path / "many"
    for n in range(201):
        path(many, f"{n}.py", "")
    drop(editor, many)
    expect(editor.part("done")).to_contain_text("Not opened: a program has at most 200 files.")
    expect_names(editor, "main.py")
    editor.expect_program(MINE)


def test_a_program_that_is_too_large_is_not_run_and_says_by_how_much(
    editor: Editor, tmp_path: Path
) -> None:
    source = path(tmp_path, "main.py", "#\n" * 100_000)
    drop(editor, source, path(tmp_path, "big.bin", b"\0" * (8 * 2**20 - 200_000)))
    expect_names(editor, "main.py", "big.bin")
    choose(editor, "main.py")
    editor.page.locator(".cm-content").focus()
    editor.page.keyboard.insert_text("#" * 100_000)
    editor.part("run").click()
    editor.expect_verdict("bad", "Larger than 8 MB")
    expect(editor.part("detail")).to_have_text("It is 98 kB too large.")


def test_a_program_that_is_too_large_leaves_the_run_that_goes_on_in_sight(
    editor: Editor, tmp_path: Path
) -> None:
    editor.allow_long_runs()
    editor.run("import time; print('up', flush=True); time.sleep(600)")
    editor.expect_output("up")
    open_files(editor, path(tmp_path, "big.bin", b"\0" * (8 * 2**20)))
    expect(editor.part("done")).to_contain_text("Not opened: larger than 8 MB")
    open_files(editor, path(tmp_path, "big.bin", b"\0" * (8 * 2**20 - 100)))
    expect_active(editor, "big.bin")
    choose(editor, "main.py")
    editor.page.locator(".cm-content").focus()
    editor.page.keyboard.insert_text("#" * 100)
    editor.page.keyboard.press("Control+Enter")
    expect(editor.part("done")).to_contain_text("Larger than 8 MB, so it is not run.")
    editor.expect_verdict("busy", "Running")
    editor.expect_output("up")
    editor.stop()
    editor.expect_verdict("stopped")


def test_two_hundred_files(editor: Editor, tmp_path: Path) -> None:
    files = {"main.py": MINE} | {f"file{n}.txt": f"{n}" for n in range(199)}
    drop(editor, path(tmp_path, "many.zip", zipped(files)))
    expect(editor.part("tabs").locator("[role=tab]")).to_have_count(200)
    editor.part("tabs").locator("[aria-selected=true]").focus()
    editor.page.keyboard.press("End")
    expect_active(editor, "file198.txt")
    expect(editor.part("tabs").locator("[aria-selected=true]")).to_be_in_viewport()
    editor.part("add-file").click()
    expect(editor.part("done")).to_contain_text("A program has at most 200 files.")
    editor.give("x")
    editor.part("run").click()
    editor.expect_verdict("good")
    editor.expect_whole_output("mine\n")


# Input


def test_the_input_of_the_example_goes_with_the_example_and_comes_back_with_it(
    either: Editor,
) -> None:
    editor = either
    expect(editor.part("stdin")).to_have_value("the quick brown fox\njumps over\n")
    editor.talk("print('hello', input('name? '))")
    editor.wait_terminal("name?")
    editor.stop()
    editor.show("code")
    expect(editor.part("stdin")).to_have_value("")
    editor.part("restore").click()
    expect(editor.part("stdin")).to_have_value("the quick brown fox\njumps over\n")
    undo(editor)
    editor.expect_program("print('hello', input('name? '))")
    expect(editor.part("stdin")).to_have_value("")


def test_undoing_in_the_editor_brings_the_input_back_too(editor: Editor) -> None:
    editor.write(MINE)
    expect(editor.part("stdin")).to_have_value("")
    editor.page.keyboard.press("Control+z")
    expect(editor.part("stdin")).to_have_value("the quick brown fox\njumps over\n")


# Tabs of the browser


def test_two_tabs_that_write_in_different_files_go_together(
    context: BrowserContext, editor: Editor
) -> None:
    editor.write("import b")
    add(editor, "b.py", "b = 1")
    editor.page.reload()  # a tab that has changed nothing yet
    editor.expect_ready()
    other = Editor(context.new_page(), editor.home)
    other.open()
    expect_names(other, "main.py", "b.py")
    other.write("import b\nprint(b.b)")
    editor.write("b = 2")
    choose(other, "b.py")
    other.expect_program("b = 2")
    choose(editor, "main.py")
    editor.expect_program("import b\nprint(b.b)")
    for each in (editor, other):
        expect(each.part("program-contest")).to_be_hidden()
    assert other.complaints == []


def test_two_tabs_of_which_one_has_input_leave_each_other_alone(
    context: BrowserContext, editor: Editor
) -> None:
    expect(editor.part("stdin")).to_have_value("the quick brown fox\njumps over\n")
    other = Editor(context.new_page(), editor.home)
    other.open()
    other.part("stdin").fill("")
    expect(other.part("saved")).to_have_attribute("data-state", "saved")
    other.choose("c")
    other.part("stdin").fill("")
    editor.choose("go")
    editor.part("stdin").fill("some")
    other.page.evaluate("() => { heard = 0; addEventListener('storage', () => heard += 1) }")
    editor.write("package main")  # is saved with what there is to say of the input
    for n in range(50):  # news goes to and fro, and nothing else does
        for here, there, word in ((editor, other, f"to {n}"), (other, editor, f"fro {n}")):
            here.page.evaluate("word => localStorage.setItem('probe', word)", word)
            there.page.wait_for_function("word => localStorage.getItem('probe') === word", arg=word)
    assert other.page.evaluate("() => heard") < 100


# What is said of it


def test_what_was_said_goes_with_the_next_run(editor: Editor) -> None:
    editor.give("x")
    add(editor, "a.py")
    expect(editor.part("done")).to_contain_text("Added a.py.")
    editor.page.keyboard.press("Control+Enter")
    expect(editor.part("done")).to_be_hidden()


def test_what_was_said_goes_a_while_after_something_was_written_and_not_from_the_pointer(
    editor: Editor,
) -> None:
    add(editor, "a.py")
    done = editor.part("done")
    done.hover()
    editor.page.clock.install()
    editor.page.keyboard.type("x = 1")
    editor.page.clock.run_for(9_000)  # longer than it stays for who looks elsewhere
    expect(done).to_be_visible()
    editor.part("verdict").hover()
    expect(done).to_be_hidden()
    act(editor, "file_remove")
    expect(done).to_contain_text("Deleted a.py.")
    editor.page.clock.run_for(9_000)  # nobody has done anything
    expect(done).to_be_visible()
    done.get_by_text("Undo").focus()
    editor.page.keyboard.press("Control+Enter")
    editor.expect_verdict("good")
    expect(done).to_be_visible()
    editor.page.keyboard.press("Enter")  # it has the focus still
    expect_names(editor, "main.py", "a.py")
    editor.expect_program("x = 1")


# By the palette


def command(editor: Editor, words: str, wanted: str) -> None:
    """Find a command by some of its words, and do it."""
    editor.page.keyboard.press("F1")
    palette = editor.page.get_by_role("dialog", name="Commands")
    expect(palette).to_be_visible()
    editor.page.keyboard.type(words)
    expect(palette.get_by_role("option", selected=True)).to_have_text(wanted)
    editor.page.keyboard.press("Enter")


def test_files_by_the_palette(editor: Editor, tmp_path: Path) -> None:
    keys = editor.page.keyboard
    editor.write(MINE)
    command(editor, "add file", "Add a file")
    keys.type("b.py\n")
    expect_names(editor, "main.py", "b.py")
    command(editor, "rename", "Rename this file")
    keys.type("c\n")
    expect_names(editor, "main.py", "c.py")
    keys.type("c = 1")
    command(editor, "dupl", "Duplicate this file")
    expect_names(editor, "main.py", "c.py", "c_2.py")
    command(editor, "file c.py", "Go to the file c.py")
    expect_active(editor, "c.py")
    expect(editor.page.locator(".cm-content")).to_be_focused()
    command(editor, "delete this", "Delete this file")
    expect_names(editor, "main.py", "c_2.py")
    with editor.page.expect_download() as alone:
        command(editor, "download this", "Download this file")
    assert Path(alone.value.path()).read_text() == "c = 1"
    with editor.page.expect_download() as whole:
        command(editor, "download program", "Download the program, with all files and the input")
    assert zipfile.is_zipfile(whole.value.path())
    with editor.page.expect_file_chooser() as asked:
        command(editor, "open files", "Open files, or a zip")
    asked.value.set_files(path(tmp_path, "data.csv", "1,2"))
    expect_names(editor, "main.py", "c_2.py", "data.csv")
