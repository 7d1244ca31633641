"""One real browser and one real server for all tests of the page."""

import os
from collections.abc import Generator, Iterator

import pytest
from editor_packages import WEB, install_packages
from playwright.sync_api import Browser, BrowserContext, expect, sync_playwright
from serving import Server, serving

from e2e.editor import ARGS, CHROMIUM, DESK, PATIENCE_MS, Editor, new_context
from e2e.failed import take_pictures


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if CHROMIUM.exists() or "CI" in os.environ:
        return
    for item in items:
        if "e2e" in item.path.parts:
            item.add_marker(pytest.mark.skip(reason=f"there is no {CHROMIUM}"))


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """A fixture does not hear that its test failed, so pictures of the pages it opened are taken here."""
    try:
        return (yield)
    except (Exception, pytest.fail.Exception):
        browser = pyfuncitem.funcargs.get("browser")
        if isinstance(browser, Browser):
            for context in browser.contexts:
                take_pictures(context)
        raise


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("editor") / "data") as server:
        yield server


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGS)
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def axe() -> str:
    """A script that finds what keeps people from using a page."""
    install_packages()
    return (WEB / "node_modules/axe-core/axe.min.js").read_text()


@pytest.fixture
def size() -> tuple[int, int]:
    """The window's, in pixels."""
    return DESK


@pytest.fixture
def context(browser: Browser, size: tuple[int, int]) -> Iterator[BrowserContext]:
    with new_context(browser, size) as context:
        yield context


@pytest.fixture
def editor(context: BrowserContext, server: Server) -> Iterator[Editor]:
    editor = Editor(context.new_page(), f"http://127.0.0.1:{server.port}/")
    editor.open()
    yield editor
    assert editor.complaints == []
