"""A browser that does not keep a program says so, and the program is not lost: neither is that of a language
that has gone."""

from collections.abc import Iterator
from pathlib import Path
from zipfile import ZipFile

import pytest
from playwright.sync_api import Browser, BrowserContext, Dialog, expect
from serving import Server

from e2e.editor import DESK, Editor, new_context

FORBIDDEN = """for (const name of ['localStorage', 'sessionStorage'])
    Object.defineProperty(window, name, {get() { throw new DOMException('no', 'SecurityError') }})"""
FULL = """if (localStorage.length === 0) {
    let part = 'x'.repeat(2 ** 20)
    for (let n = 0; part.length > 0; n++) {
        try { localStorage.setItem(`other${n}`, part) } catch { part = part.slice(part.length / 2 + 1) }
    }
}"""
"""Everything is taken by something else."""
PASTE = """text => {
    const data = new DataTransfer()
    data.setData('text/plain', text)
    const paste = {clipboardData: data, bubbles: true, cancelable: true}
    document.querySelector('.cm-content').dispatchEvent(new ClipboardEvent('paste', paste))
}"""


@pytest.fixture
def fresh(browser: Browser, server: Server) -> Iterator[tuple[BrowserContext, Editor]]:
    """A page that is not opened yet."""
    with new_context(browser, DESK) as context:
        editor = Editor(context.new_page(), f"http://127.0.0.1:{server.port}/")
        yield context, editor
        assert editor.complaints == []


def expect_unkept(editor: Editor, words: str) -> None:
    expect(editor.part("unkept")).to_contain_text(words)
    expect(editor.part("saved")).to_have_attribute("data-state", "lost")


def paste(editor: Editor, text: str) -> None:
    """Over all that is there."""
    editor.page.locator(".cm-content").focus()
    editor.page.keyboard.press("Control+a")
    editor.page.evaluate(PASTE, text)


def leaving_is_asked(editor: Editor) -> bool:
    asked: list[Dialog] = []

    def answer(dialog: Dialog) -> None:
        asked.append(dialog)
        dialog.accept()

    editor.page.on("dialog", answer)
    editor.page.goto("about:blank")
    editor.page.remove_listener("dialog", answer)
    return [dialog.type for dialog in asked] == ["beforeunload"]


def test_a_browser_without_storage_says_so_once(fresh: tuple[BrowserContext, Editor]) -> None:
    context, editor = fresh
    context.add_init_script(FORBIDDEN)
    editor.open()
    expect(editor.part("unkept")).to_be_hidden()  # nothing to lose yet
    editor.run("print('all the same')")
    editor.expect_verdict("good")
    editor.expect_whole_output("all the same\n")
    expect_unkept(editor, "This browser keeps nothing: download your program")
    with editor.page.expect_download() as saved:
        editor.part("unkept").get_by_role("button", name="Download").click()
    with ZipFile(saved.value.path()) as packed:  # the program, and its input
        assert packed.read("main.py") == b"print('all the same')"
    editor.write("print('more')")
    editor.choose("c")
    editor.choose("python")
    editor.expect_program("print('more')")
    expect(editor.part("unkept")).to_be_hidden()
    assert leaving_is_asked(editor)


def test_full_storage_says_so_and_makes_room_when_asked(
    fresh: tuple[BrowserContext, Editor],
) -> None:
    _, editor = fresh
    editor.open()
    for n in range(3):
        paste(editor, f"print({n})\n" + "# long\n" * 5000)
        editor.part("run").click()
        editor.expect_verdict("good")
    editor.page.evaluate(FULL.replace("localStorage.length === 0", "true"))
    paste(editor, "# longer\n" * 6000)
    expect_unkept(editor, "This browser has no more room")
    editor.part("unkept").get_by_text("Delete earlier versions").click()
    expect(editor.part("saved")).to_have_attribute("data-state", "saved")
    expect(editor.part("unkept")).to_be_hidden()
    assert not leaving_is_asked(editor)


def test_a_paste_of_five_megabytes_runs_and_survives_that_the_page_is_loaded_again(
    fresh: tuple[BrowserContext, Editor],
) -> None:
    _, editor = fresh
    editor.open()
    editor.write("print('before')")
    editor.give("some")
    paste(editor, "print('large')\n" + f"#{'x' * 98}\n" * 53_000)
    expect_unkept(editor, "too large to keep in this browser")
    editor.part("run").click()
    editor.expect_verdict("good")
    editor.expect_whole_output("large\n")
    editor.part("versions").click()
    editor.part("versions-dialog").get_by_text("print('before')").click()
    editor.expect_program("print('before')")
    expect(editor.part("saved")).to_have_attribute("data-state", "saved")


def test_a_program_that_only_its_tab_keeps_is_there_after_a_reload(
    fresh: tuple[BrowserContext, Editor],
) -> None:
    context, editor = fresh
    context.add_init_script(FULL)
    editor.open()
    editor.write("print('kept by the tab')")
    expect_unkept(editor, "This browser has no more room")
    editor.page.on("dialog", lambda dialog: dialog.accept())
    editor.page.reload()
    editor.expect_ready()
    editor.expect_program("print('kept by the tab')")
    expect_unkept(editor, "This browser has no more room")


def test_the_program_of_a_language_that_has_gone_can_be_read_changed_and_downloaded(
    fresh: tuple[BrowserContext, Editor],
) -> None:
    context, editor = fresh
    context.add_init_script(
        """if (localStorage.getItem('occd:draft:klingon') === null) {
            const about = {name: 'COBOL', file_name: 'main.cob', suffixes: ['.cob'], editor_mode: ''}
            localStorage.setItem('occd:draft:klingon', 'DISPLAY 1.')
            localStorage.setItem('occd:about:klingon', JSON.stringify({...about, limits: {memory: 0}}))
            localStorage.setItem('occd:draft:old', 'of old')
        }"""
    )
    editor.open()
    editor.part("language").click()
    group = editor.languages.get_by_role("group").last
    expect(group).to_have_accessible_name("Not on this server")
    expect(group.get_by_role("option")).to_contain_text(["COBOL", "old"])
    editor.page.keyboard.press("Escape")
    editor.choose("old")
    editor.expect_program("of old")
    editor.choose("klingon")
    editor.expect_program("DISPLAY 1.")
    expect(editor.part("gone")).to_contain_text("COBOL cannot be run on this server now.")
    expect(editor.part("run")).to_have_attribute("aria-disabled", "true")
    editor.write("DISPLAY 2.")
    editor.page.keyboard.press("Control+Enter")
    expect(editor.part("verdict")).to_have_attribute("data-tone", "idle")
    with editor.page.expect_download() as saved:
        editor.part("gone").get_by_role("button", name="Download").click()
    assert saved.value.suggested_filename == "main.cob"
    assert Path(saved.value.path()).read_text() == "DISPLAY 2."
    editor.page.reload()
    editor.expect_ready()
    editor.expect_program("DISPLAY 2.")
    editor.choose("python")
    expect(editor.part("gone")).to_be_hidden()
    expect(editor.part("run")).to_have_attribute("aria-disabled", "false")


def test_a_run_of_several_files_goes_on_at_the_terminal_after_a_reload(
    fresh: tuple[BrowserContext, Editor],
) -> None:
    _, editor = fresh
    editor.open()
    editor.part("add-file").click()
    editor.part("name").fill("ask.py")
    editor.page.keyboard.press("Enter")
    editor.write("def ask(): return input('name? ')")
    editor.part("tabs").locator("[data-name='main.py']").click()
    editor.talk("from ask import ask\nprint('hello', ask())")
    editor.wait_terminal("name?")
    editor.page.reload()
    editor.wait_terminal("name?")
    expect(editor.part("tabs").locator("[role=tab]")).to_have_count(2)
    expect(editor.part("old")).to_be_hidden()
    editor.type("you", "Enter")
    editor.expect_verdict("good")
    editor.wait_terminal("hello you")


def test_programs_of_languages_that_are_not_shown_are_there_after_a_reload_too(
    fresh: tuple[BrowserContext, Editor],
) -> None:
    context, editor = fresh
    context.add_init_script(FULL)
    editor.open()
    editor.write("print('kept by the tab')")
    expect_unkept(editor, "This browser has no more room")
    editor.choose("c")
    expect(editor.part("unkept")).to_be_hidden()
    asked: list[str] = []

    def accept(dialog: Dialog) -> None:
        asked.append(dialog.type)
        dialog.accept()

    editor.page.on("dialog", accept)
    editor.page.reload()
    editor.expect_ready()
    editor.choose("python")
    editor.expect_program("print('kept by the tab')")
    assert asked == ["beforeunload"]


MARK = "occd program 1\n"
BROKEN = MARK + '{"files": [{"name": "a.py", "content": {"base64": "*"}}], "stdin": null}'
FOREIGN = [
    ("sessionStorage", "shown", "{"),
    ("sessionStorage", "shown", "null"),
    ("sessionStorage", "shown", '{"id": "x", "tty": true, "typed": 5}'),
    ("sessionStorage", "draft:python", "{"),
    ("sessionStorage", "draft:python", "{}"),
    ("localStorage", "draft:python", f"{MARK}{{}}"),
    ("localStorage", "draft:python", f'{MARK}{{"files": [], "stdin": null}}'),
    ("localStorage", "draft:python", f'{MARK}{{"files": [null], "stdin": null}}'),
    ("localStorage", "draft:python", MARK + '{"files": [{"name": "main.py", "content": 5}], "stdin": 7}'),
    ("localStorage", "draft:python", BROKEN),
    ("localStorage", "versions:python", "{"),
    ("localStorage", "options:python", "{"),
    ("localStorage", "about:gone", "{"),
    ("localStorage", "about:gone", '{"name": 5, "suffixes": "x", "versions": ["1"]}'),
]  # fmt: skip
"""What no page of this version keeps: the storage, the key, the value."""


@pytest.mark.parametrize(("storage", "key", "value"), FOREIGN)
def test_what_another_page_left_in_the_storage_stops_nothing(
    fresh: tuple[BrowserContext, Editor], storage: str, key: str, value: str
) -> None:
    _, editor = fresh
    editor.page.goto(f"{editor.home}healthz")
    editor.page.evaluate(
        """([storage, key, value]) => {
            localStorage.setItem('occd:draft:gone', 'of a language that is not here')
            window[storage].setItem(`occd:${key}`, value)
        }""",
        [storage, key, value],
    )
    editor.open()
    editor.choose("gone")
    editor.expect_program("of a language that is not here")
    editor.choose("python")
    editor.run("print('all the same')")
    editor.expect_verdict("good")
