"""A page that another version of the server has sent."""

import re

import pytest
from playwright.sync_api import Browser, Page, Route, expect
from serving import Server

from e2e.editor import DESK, Editor, new_context

OTHER = "0123456789abcdef"
"""What another version's content would be called."""


def send_other(page: Page, home: str, part: str) -> None:
    """The page and its module as another version has them: both name what the server does not have."""

    def index(route: Route) -> None:
        body = route.fetch().text()
        route.fulfill(body=re.sub(r"app\.js\?v=\w+", f"app.js?v={OTHER}", body))

    def module(route: Route) -> None:
        if route.request.method == "HEAD":
            route.continue_()
            return
        body = route.fetch(url=f"{home}static/app.js").text()
        route.fulfill(
            body=re.sub(rf"{part}\.js\?v=\w+", f"{part}.js?v={OTHER}", body),
            content_type="text/javascript",
        )

    page.route(home, index)
    page.route(f"**/static/app.js?v={OTHER}", module)


@pytest.mark.parametrize("part", ["palette", "mode-ruby", "terminal", "shared"])
def test_a_part_that_is_gone_is_told_and_a_reload_helps(
    browser: Browser, server: Server, part: str
) -> None:
    with new_context(browser, DESK) as context:
        home = f"http://127.0.0.1:{server.port}/"
        editor = Editor(context.new_page(), home)
        send_other(editor.page, home, part)
        editor.page.goto(home)
        if part != "shared":  # without which there is no page
            editor.expect_ready()
            editor.write("print('mine')")
        if part == "palette":
            editor.page.keyboard.press("F1")
        if part == "mode-ruby":
            editor.choose("ruby")
        expect(editor.part("other-version")).to_contain_text("another version of this page")
        editor.page.unroute_all()
        editor.part("other-version").get_by_role("link", name="Reload").click()
        editor.expect_ready()
        expect(editor.part("other-version")).to_be_hidden()
        if part != "shared":
            editor.choose("python")
            editor.expect_program("print('mine')")
        editor.page.keyboard.press("F1")
        expect(editor.page.get_by_role("dialog", name="Commands")).to_be_visible()


def test_a_server_that_is_away_has_no_other_version(browser: Browser, server: Server) -> None:
    with new_context(browser, DESK) as context:
        editor = Editor(context.new_page(), f"http://127.0.0.1:{server.port}/")
        asked: list[str] = []

        def lose(route: Route) -> None:
            asked.append(route.request.method)
            route.abort()

        editor.page.route(re.compile(r"/static/palette"), lose)
        editor.open()
        editor.part("language").click()
        expect(editor.part("done")).to_contain_text("could not be loaded")
        editor.page.unroute_all()
        editor.choose("c")
        editor.page.route(re.compile(r"/static/"), lose)
        with editor.page.expect_event("requestfailed", lambda request: request.method == "HEAD"):
            editor.choose("ruby")
        expect(editor.part("other-version")).to_be_hidden()
        assert "HEAD" in asked
