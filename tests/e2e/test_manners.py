"""Keys, the palette, the first view, and a page below a path."""

import re

from playwright.sync_api import Browser, Route, expect
from serving import Server

from e2e.editor import BOTH, DESK, PHONE, Editor, new_context
from e2e.proxy import proxy
from occd import __version__

LANGUAGES = "/api/v1/languages"

FETCHED = """() => performance.getEntriesByType('resource')
    .map(each => [new URL(each.name), each.startTime])
    .map(([{ pathname, search }, start]) =>
        [pathname.startsWith('/api') ? pathname + search : pathname, start])"""


def test_keys_run_stop_save_and_go_from_part_to_part(editor: Editor) -> None:
    code = editor.page.locator(".cm-content")
    keyboard = editor.page.keyboard
    expect(code).to_be_focused()  # as the page opens
    editor.allow_long_runs()
    editor.give("x")
    editor.write("import time; print('up', flush=True); time.sleep(600)")
    keyboard.press("Control+Enter")
    editor.expect_output("up")
    keyboard.press("Control+.")
    editor.expect_verdict("stopped", "Stopped by you")
    keyboard.press("Control+s")
    expect(editor.part("announce")).to_contain_text("Saved in this browser")
    expect(code).to_be_focused()
    for part in ("stdin", "output"):
        keyboard.press("F6")
        expect(editor.part(part)).to_be_focused()
    keyboard.press("F6")
    expect(code).to_be_focused()
    keyboard.press("Shift+F6")
    expect(editor.part("output")).to_be_focused()


def test_the_palette_and_the_table_of_keys(editor: Editor) -> None:
    keyboard = editor.page.keyboard
    keyboard.type("?")  # is written where one writes
    expect(editor.page.locator(".cm-content")).to_contain_text("?")
    editor.give("x")
    editor.write("print('by the palette')")
    keyboard.press("F1")
    palette = editor.page.get_by_role("dialog", name="Commands")
    expect(palette).to_be_visible()
    keyboard.type("zzz")
    expect(palette.get_by_role("option")).to_have_count(0)
    keyboard.press("Control+a")
    keyboard.type("run")
    expect(palette.get_by_role("option", selected=True)).to_contain_text("Run")
    keyboard.press("Enter")
    expect(palette).to_have_count(0)
    editor.expect_output("by the palette")
    expect(editor.page.locator(".cm-content")).to_be_focused()
    keyboard.press("F1")
    expect(palette).to_be_visible()
    keyboard.type("earlier")
    keyboard.press("Enter")
    expect(editor.part("versions-dialog")).to_be_visible()
    keyboard.press("Escape")
    editor.part("output").focus()
    keyboard.press("?")
    table = editor.page.get_by_role("dialog", name="Keys")
    expect(table.get_by_role("row", name="Ctrl-Enter")).to_contain_text("Run")
    keyboard.press("Escape")
    expect(table).to_have_count(0)
    expect(editor.part("output")).to_be_focused()


@BOTH
def test_the_help_has_the_way_to_all_commands_and_the_version(editor: Editor) -> None:
    editor.part("help").click()
    table = editor.page.get_by_role("dialog", name="Keys")
    expect(table).to_contain_text(f"occd {__version__}")
    table.get_by_role("button", name="Commands").click()
    expect(table).to_have_count(0)
    palette = editor.page.get_by_role("dialog", name="Commands")
    palette.get_by_role("option", name="Change the colours").click()
    expect(editor.part("theme")).to_have_accessible_name("Colours: light")


def test_run_waits_for_the_languages_whose_name_is_shown_at_once(
    browser: Browser, server: Server
) -> None:
    waiting: list[Route] = []

    def hold(route: Route) -> None:
        waiting.append(route)

    for size in (DESK, PHONE):
        with new_context(browser, size) as context:
            editor = Editor(context.new_page(), f"http://127.0.0.1:{server.port}/")
            editor.open()
            editor.choose("c")
            editor.page.route(re.compile("/api/v1/languages"), hold)
            editor.page.reload()
            expect(editor.part("language")).to_have_accessible_name(re.compile("^Language C( |$)"))
            editor.part("run").click()
            editor.expect_verdict("busy", "Waiting for the server…")
            while waiting:
                waiting.pop().continue_()
            editor.expect_verdict("good")
            editor.expect_language("c")


def test_the_first_view_is_asked_for_at_once(editor: Editor) -> None:
    """All that is needed before the program is seen is asked for by the page itself: two round trips."""
    editor.page.wait_for_function(f"() => ({FETCHED})().some(([name]) => name === '{LANGUAGES}')")
    fetched = editor.page.evaluate(FETCHED)
    # Modules have run then, with all that they import.
    ran = editor.page.evaluate(
        "performance.getEntriesByType('navigation')[0].domContentLoadedEventStart"
    )
    needed = [name for name, start in fetched if name.startswith("/static/") and start < ran]
    assert {"/static/app.js", "/static/chunk-codemirror-view.js"} <= set(needed)
    links = editor.page.locator("link, script[src]").evaluate_all(
        """all => all.map(each => new URL(each.href || each.src)).map(({ pathname, search }) =>
            pathname.startsWith('/api') ? pathname + search : pathname)"""
    )
    assert set(needed) <= set(links)
    assert f"{LANGUAGES}?brief=true" in links
    for once in (f"{LANGUAGES}?brief=true", LANGUAGES):
        assert [name for name, _ in fetched].count(once) == 1


def test_a_page_below_a_path_asks_for_nothing_beside_it(browser: Browser, server: Server) -> None:
    with proxy(server.port, "/code") as (port, astray), new_context(browser, DESK) as context:
        editor = Editor(context.new_page(), f"http://127.0.0.1:{port}/code/")
        editor.open()
        editor.run(
            "import matplotlib; matplotlib.use('Agg'); import matplotlib.pyplot as plt\n"
            "plt.plot([1, 2]); plt.savefig('plot.png'); print('below')"
        )
        editor.expect_verdict("good")
        editor.expect_output("below")
        editor.page.wait_for_function(
            "() => document.querySelector('#pictures img').naturalWidth > 100"
        )
        expect(editor.page.locator("h1 a")).to_have_js_property(
            "href", f"http://127.0.0.1:{port}/code/"
        )
        assert astray == []
        assert editor.complaints == []
