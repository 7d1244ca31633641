"""The page of a server with accounts: signing in and out, what is left, and a quota's refusal."""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from people import accounts, signing_in
from playwright.sync_api import BrowserContext, Page, expect
from provider import Provider, providing
from serving import API, Server, serving

from e2e.editor import BOTH, Editor
from e2e.test_axe import FAULTS

HELLO = "print('hello, it is me')"


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    with providing() as provider:
        provider.person("ada", name="Ada Lovelace", groups=["staff"])
        provider.person("sam", name="Sam", groups=[])
        yield provider


Serve = Callable[..., Server]


@pytest.fixture(scope="module")
def serve(provider: Provider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """Gives a server, by what its accounts are and what a class may."""
    made: dict[str, Server] = {}
    with ExitStack() as stack:

        def of(anonymous: object = "refuse", **classes: object) -> Server:
            name = repr((anonymous, classes))
            if name not in made:
                folder = tmp_path_factory.mktemp("account")
                given = accounts(provider, folder, anonymous)
                given["classes"] |= classes
                made[name] = stack.enter_context(signing_in(folder / "data", given))
            return made[name]

        yield of


def opened(context: BrowserContext, server: Server, name: str = "127.0.0.1") -> Editor:
    editor = Editor(context.new_page(), f"http://{name}:{server.port}/")
    editor.page.goto(editor.home)
    editor.expect_ready()
    return editor


def agree(page: Page, name: str) -> None:
    """At the provider."""
    page.locator("input[name=sub]").fill(name)
    page.get_by_role("button", name="Authorize").click()


def sign_in(editor: Editor, name: str) -> None:
    editor.part("sign-in").click()
    agree(editor.page, name)
    editor.page.wait_for_url(editor.home)
    editor.expect_ready()
    expect(editor.part("me")).to_be_visible()


@BOTH
def test_who_must_sign_in_is_invited_and_loses_nothing(
    context: BrowserContext, serve: Serve
) -> None:
    editor = opened(context, serve())
    expect(editor.part("sign-in")).to_be_visible()
    expect(editor.part("me")).to_be_hidden()
    editor.write(HELLO)
    editor.part("run").click()
    editor.expect_verdict("ours", "Sign in to run programs")
    expect(editor.part("detail")).to_contain_text("Your program is kept")
    editor.part("sign-in-now").click()
    agree(editor.page, "ada")
    editor.page.wait_for_url(editor.home)
    editor.expect_ready()
    editor.expect_program(HELLO)
    expect(editor.part("me")).to_be_visible()
    expect(editor.part("sign-in")).to_be_hidden()
    editor.run(HELLO)
    editor.expect_output("hello, it is me\n")


@BOTH
def test_the_menu_tells_who_one_is_and_what_is_left(
    context: BrowserContext, serve: Serve, provider: Provider, size: tuple[int, int]
) -> None:
    provider.person(f"ada-{size[0]}", name="Ada Lovelace", groups=["staff"])
    limits = {"runs_per_minute": 5, "cpu_seconds_per_hour": 120, "unfinished": 3}
    editor = opened(context, serve(service=limits))
    sign_in(editor, f"ada-{size[0]}")
    menu = editor.part("me-menu")
    expect(menu).to_be_hidden()
    editor.part("me").click()
    expect(menu).to_contain_text("Ada Lovelace")
    expect(menu).to_contain_text("Class: service")
    expect(menu).to_contain_text("Runs a minute5 of 5")
    expect(menu).to_contain_text("Programs at once3 of 3")
    expect(menu).to_contain_text("Processor time an hour120 s of 120 s")
    place = menu.bounding_box()
    assert place
    assert place["x"] >= 0
    assert place["x"] + place["width"] <= size[0]
    editor.page.keyboard.press("Escape")
    expect(menu).to_be_hidden()
    editor.run(HELLO)
    editor.expect_output("hello, it is me\n")
    editor.part("me").click()
    expect(menu).to_contain_text("Runs a minute4 of 5")
    editor.part("sign-out-here").click()
    editor.expect_ready()
    expect(editor.part("sign-in")).to_be_visible()
    expect(editor.part("me")).to_be_hidden()
    assert editor.page.context.cookies() == []


def test_a_page_at_another_name_of_the_server_leads_to_a_sign_in_that_holds(
    context: BrowserContext, serve: Serve
) -> None:
    server = serve()
    editor = opened(context, server, "localhost")
    editor.write(HELLO)
    editor.part("run").click()
    editor.part("sign-in-now").click()
    agree(editor.page, "ada")
    editor.page.wait_for_url(f"http://127.0.0.1:{server.port}/")
    expect(editor.part("me-name")).to_have_text("Ada Lovelace")


def test_where_only_keys_are_taken_the_page_says_so_to_people(
    context: BrowserContext, tmp_path: Path
) -> None:
    given = {"anonymous": "refuse", "default_class": "all", "classes": {"all": {}}}
    with serving(tmp_path / "data", accounts=json.dumps(given)) as server:
        editor = opened(context, server)
        editor.write(HELLO)
        editor.part("run").click()
        editor.expect_verdict("ours", "This server takes keys only")
        expect(editor.part("detail")).to_contain_text("Your program is kept in this browser.")


def test_without_a_sign_in_the_page_tells_what_is_left(
    context: BrowserContext, serve: Serve
) -> None:
    server = serve({"class": "visitor"}, visitor={"runs_per_minute": 1})
    editor = opened(context, server)
    editor.run(HELLO)
    editor.expect_output("hello, it is me\n")
    editor.part("me").click()
    expect(editor.part("me-menu")).to_contain_text("Not signed in")
    expect(editor.part("me-menu")).to_contain_text("Runs a minute0 of 1")
    editor.page.keyboard.press("Escape")
    editor.run(HELLO)
    editor.expect_verdict("ours", "You have reached a limit")
    expect(editor.part("detail")).to_have_text(
        re.compile(r"You may run one program a minute\. Try again in \d+ s\.")
    )
    sign_in(editor, "sam")
    editor.run(HELLO)
    editor.expect_output("hello, it is me\n")


@BOTH
def test_axe_finds_nothing(context: BrowserContext, serve: Serve, axe: str) -> None:
    server = serve({"class": "visitor"}, visitor={"runs_per_minute": 10}, student={"unfinished": 5})
    found: dict[str, object] = {}

    def look(editor: Editor, state: str) -> None:
        editor.page.evaluate(axe)
        for theme in ("light", "dark"):
            editor.page.emulate_media(color_scheme=theme)
            if faults := editor.page.evaluate(FAULTS):
                found[f"{state}, {theme}"] = faults

    editor = opened(context, server)
    expect(editor.part("me")).to_be_visible()
    look(editor, "nobody")
    editor.part("me").click()
    expect(editor.part("me-menu")).to_contain_text("Left now")
    look(editor, "nobody's menu")
    editor.page.goto(f"{editor.home}sign-in?next=//evil.example")
    look(editor, "told")
    editor.page.goto(editor.home)
    editor.page.goto(f"{editor.home}sign-in")
    agree(editor.page, "sam")
    editor.expect_ready()
    editor.part("me").click()
    expect(editor.part("me-menu")).to_contain_text("Sam")
    look(editor, "a person's menu")
    context.add_cookies([{"name": "occd_session", "value": "a.b.c", "url": editor.home}])
    editor.page.reload()
    expect(editor.part("signed-out")).to_be_visible()
    look(editor, "the session has ended")
    invited = opened(context, serve())
    invited.page.context.clear_cookies()
    invited.page.reload()
    invited.expect_ready()
    invited.part("run").click()
    invited.expect_verdict("ours", "Sign in to run programs")
    look(invited, "invited")
    assert found == {}, json.dumps(found, indent=2)


def test_a_session_that_ended_elsewhere_is_told(context: BrowserContext, serve: Serve) -> None:
    server = serve({"class": "visitor"})
    one = opened(context, server)
    sign_in(one, "sam")
    other = opened(context, server)
    expect(other.part("me-name")).to_have_text("Sam")
    # Not in this browser, whose cookie stays.
    cookie = "; ".join(f"{each['name']}={each['value']}" for each in context.cookies())
    origin = f"http://127.0.0.1:{server.port}"
    assert server.request("POST", f"{API}/sign-out", cookie=cookie, origin=origin).status == 204
    expect(other.part("signed-out")).to_contain_text("Your sign-in has ended.")
    with other.page.expect_navigation():  # what is shown meanwhile has all that is waited for below
        other.part("signed-out").get_by_role("button", name="Go on without").click()
    other.expect_ready()
    expect(other.part("sign-in")).to_be_visible()
    expect(other.part("signed-out")).to_be_hidden()
    other.run(HELLO)
    other.expect_output("hello, it is me\n")


def test_a_run_with_a_session_that_ended_is_not_somebody_elses(
    context: BrowserContext, serve: Serve
) -> None:
    server = serve({"class": "visitor"})
    context.add_cookies(
        [{"name": "occd_session", "value": "a.b.c", "url": f"http://127.0.0.1:{server.port}"}]
    )
    editor = opened(context, server)
    expect(editor.part("signed-out")).to_contain_text("Your sign-in has ended.")
    editor.part("signed-out").get_by_role("button", name="Sign in").click()
    agree(editor.page, "sam")
    editor.expect_ready()
    expect(editor.part("me-name")).to_have_text("Sam")


def test_who_stops_at_the_provider_gets_a_page(context: BrowserContext, serve: Serve) -> None:
    editor = opened(context, serve())
    editor.part("sign-in").click()
    editor.page.get_by_role("button", name="Deny").click()
    told = editor.part("told")
    # The provider of the tests loses the state when somebody says no.
    expect(told).to_contain_text("This sign-in has ended, or began in another browser")
    told.get_by_role("link", name="Sign in").click()
    agree(editor.page, "sam")
    editor.expect_ready()
    expect(editor.part("me-name")).to_have_text("Sam")


def test_while_the_provider_is_away_the_page_says_so(
    context: BrowserContext, tmp_path: Path
) -> None:
    with providing() as provider:
        given = accounts(provider, tmp_path, {"class": "visitor"})
    with signing_in(tmp_path / "data", given) as server:
        editor = opened(context, server)
        editor.part("sign-in").click()
        expect(editor.part("told")).to_contain_text("does not answer")
        editor.page.get_by_role("link", name="To the editor").click()
        editor.expect_ready()
        editor.run(HELLO)
        editor.expect_output("hello, it is me\n")


def test_without_accounts_the_page_shows_nothing_of_them(editor: Editor) -> None:
    for name in ("account", "sign-in", "me", "signed-out", "sign-in-now"):
        expect(editor.part(name)).to_have_count(0)
    loaded = editor.page.evaluate("performance.getEntriesByType('resource').map(each => each.name)")
    assert not [each for each in loaded if "account" in each or each.endswith("/me")]
