"""The page of the server's status, under load."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from people import accounts, signing_in
from playwright.sync_api import BrowserContext, ConsoleMessage, Page, expect
from provider import Provider, providing
from pydantic import SecretStr
from redis_server import redis_server
from serving import API, Server, serving
from test_access import accounts as by_key
from test_access import key
from test_cli import keep_dead_letters
from test_drain import drain

from e2e.editor import BOTH, Editor
from e2e.relay import relay
from e2e.test_account import agree
from e2e.test_axe import FAULTS
from occd.config import Config, RedisConfig
from occd.model import File, Submission
from occd.state import WAIT_BOUNDS_S, Load, Node, open_state

SLEEPS = "import time; time.sleep(600)"
LONG: dict[str, Any] = {"limits": {"wall_time": 600}}
OLD = Submission("old", "bash", None, "main.sh", (File("main.sh", b"echo hi"),))


@dataclass
class Overview:
    page: Page
    home: str
    complaints: list[str] = field(default_factory=list)

    def open(self) -> "Overview":
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", self._heard)
        self.page.goto(f"{self.home}status")
        return self

    def _heard(self, said: ConsoleMessage) -> None:
        ours = said.location["url"].startswith(self.home)  # a provider's page is not
        if ours and said.type in ("error", "warning"):
            self.complaints.append(said.text)

    def expect(self, part: str, *texts: str) -> None:
        for text in texts:
            expect(self.page.get_by_test_id(part)).to_contain_text(text)

    def assert_good(self, axe: str) -> None:
        """In both themes: for everybody, within the window, without a complaint."""
        self.page.evaluate(axe)
        for theme in ("light", "dark"):
            self.page.emulate_media(color_scheme=theme)
            expect(self.page.locator("html")).to_have_attribute("data-theme", theme)
            faults = self.page.evaluate(FAULTS)
            assert faults == [], json.dumps(faults, indent=2)
        width = self.page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert width <= 0
        assert self.complaints == []


@pytest.fixture
def busy(tmp_path: Path) -> Iterator[Server]:
    """Two slots that are in use, and one seat."""
    with serving(
        tmp_path / "data", execute__slots="2", ceilings__wall_time="600", grace_s="1"
    ) as server:
        for source in ("print(1)", "print(2)", "1 / 0"):
            server.run(source)
        server.run("int main() { return", language="c")
        server.wait_running(server.submit("input()", interactive=True, **LONG))
        for _ in range(2):
            server.wait_running(server.submit(SLEEPS, **LONG))
        yield server


@BOTH
def test_it_tells_how_busy_the_server_is_and_goes_on_telling(
    context: BrowserContext, busy: Server, axe: str
) -> None:
    waiting = [busy.submit(SLEEPS, **LONG) for _ in range(4)]
    view = Overview(context.new_page(), f"http://127.0.0.1:{busy.port}/").open()
    expect(view.page.get_by_test_id("ready")).to_have_attribute("data-state", "good")
    view.expect("ready", "Programs run")
    view.expect("tile-queue", "4", "the oldest for")
    view.expect("tile-slots", "2 of 2", "on 1 node that runs programs")
    view.expect("tile-seats", "1 of 64")
    view.expect("tile-waits", "95 of 100 within")
    view.expect("verdicts", "Ended by itself2", "Did not compile1", "Failed1")
    view.expect("languages", "Python13", "Java10")
    chart = view.page.get_by_role("img", name="Programs that wait: now 4, at most 4")
    expect(chart).to_be_visible()
    expect(view.page.locator("#nodes-part, #letters-part").first).to_be_hidden()
    view.assert_good(axe)
    for id in waiting:
        busy.request("DELETE", f"{API}/submissions/{id}")
    view.expect("tile-queue", "0", "nothing waits")
    expect(
        view.page.get_by_role("img", name="Programs that wait: now 0, at most 4")
    ).to_be_visible()
    view.page.get_by_role("link", name="To the editor").click()
    expect(view.page).to_have_url(view.home)


def test_it_says_since_when_the_server_does_not_answer(
    context: BrowserContext, busy: Server
) -> None:
    with relay(busy.port) as between:
        view = Overview(context.new_page(), f"http://127.0.0.1:{between.port}/").open()
        view.expect("updated", "As of")
        between.cut()
        view.expect("updated", "The server has not answered since")
        between.mend()
        view.expect("updated", "As of")


def test_it_says_why_no_program_runs(context: BrowserContext, tmp_path: Path, axe: str) -> None:
    with (
        redis_server() as redis,
        serving(tmp_path / "data", redis__url=redis.url, node="one") as server,
    ):
        view = Overview(context.new_page(), f"http://127.0.0.1:{server.port}/").open()
        view.expect("ready", "Programs run")
        view.expect("tile-slots", "0 of ")
        redis.kill()
        view.expect("ready", "Programs cannot be run now")
        view.expect("problems", "Redis")
        view.expect("tile-slots", "unknown")
        view.expect("languages", "unknown")
        view.assert_good(axe)
        redis.start()
        view.expect("ready", "Programs run")
        expect(view.page.get_by_test_id("problems")).to_be_hidden()


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    with providing() as provider:
        provider.person("root", name="Root", groups=["ops"])
        provider.person("ada", name="Ada", groups=["staff"])
        yield provider


@pytest.fixture
def guarded(provider: Provider, tmp_path: Path) -> Iterator[Server]:
    trio.run(keep_dead_letters, tmp_path / "data", OLD)
    with signing_in(tmp_path / "data", accounts(provider, tmp_path)) as server:
        yield server


def signed_in(context: BrowserContext, server: Server, name: str) -> Overview:
    view = Overview(context.new_page(), f"http://127.0.0.1:{server.port}/").open()
    view.page.get_by_test_id("sign-in").click()
    agree(view.page, name)
    expect(view.page).to_have_url(f"{view.home}status")
    return view


@BOTH
def test_administrators_see_the_nodes_and_try_dead_letters_again(
    context: BrowserContext, guarded: Server, axe: str
) -> None:
    view = signed_in(context, guarded, "root")
    view.expect("nodes", "answers", "execute, notify, submit, ws", "0 of 64")
    view.expect("letters", "old", "bad", r"it \x1b[2J killed us")
    view.assert_good(axe)
    view.page.get_by_role("button", name="Requeue bad").click()
    view.expect("requeued", "bad was not queued again: ")
    expect(view.page.get_by_role("button", name="Requeue bad")).to_be_enabled()
    view.page.get_by_role("button", name="Requeue old").click()
    view.expect("requeued", "old is queued again as ")
    expect(view.page.get_by_role("button", name="Requeue old")).to_have_count(0)
    expect(view.page.get_by_role("button", name="Requeue bad")).to_be_visible()
    view.expect("verdicts", "Ended by itself1")


@pytest.fixture
def keyed(tmp_path: Path) -> Iterator[Server]:
    """Nobody can sign in here."""
    trio.run(keep_dead_letters, tmp_path / "data", OLD)
    given = by_key({"class": "all"}) | {"oidc": None}
    with serving(tmp_path / "data", accounts=json.dumps(given)) as server:
        yield server


def give_key(view: Overview, given: str) -> None:
    view.page.get_by_label("A key with the scope admin").fill(given)
    view.page.get_by_role("button", name="Show nodes and dead letters").click()


@BOTH
def test_an_administrator_with_a_key_sees_as_much_until_the_key_is_forgotten_or_revoked(
    context: BrowserContext, keyed: Server, axe: str
) -> None:
    admin = f"Bearer {key('admin')}"
    wanted = json.dumps({"owner": "night", "class": "all", "scopes": ["admin"]}).encode()
    made = keyed.request("POST", f"{API}/keys", wanted, authorization=admin).json()
    view = Overview(context.new_page(), f"http://127.0.0.1:{keyed.port}/").open()
    nodes = view.page.get_by_test_id("nodes")
    view.page.get_by_text("For administrators").click()
    view.assert_good(axe)
    for given, said in {
        "occd_nobody": "unknown, has expired or was revoked",
        key("full"): "no key with the scope admin",
        "schlüssel": "no key with the scope admin",
    }.items():
        give_key(view, given)
        view.expect("key-said", said)
        expect(nodes).to_be_hidden()
    view.complaints.clear()  # a browser complains of each 401
    give_key(view, made["key"])
    expect(nodes).to_be_focused()
    view.expect("nodes", "answers", "execute, notify, submit, ws")
    expect(view.page.get_by_test_id("key-part")).to_be_hidden()
    view.assert_good(axe)
    view.page.get_by_role("button", name="Requeue old").click()
    view.expect("requeued", "old is queued again as ")
    kept = "JSON.stringify([{...localStorage}, {...sessionStorage}, document.body.innerHTML])"
    assert made["key"] not in view.page.evaluate(kept)
    view.page.get_by_role("button", name="Forget the key").click()
    expect(nodes).to_be_hidden()
    give_key(view, made["key"])
    expect(nodes).to_be_visible()
    keyed.request("DELETE", f"{API}/keys/{made['id']}", authorization=admin)
    view.expect("key-said", "unknown, has expired or was revoked")
    for part in ("nodes", "letters", "forget"):
        expect(view.page.get_by_test_id(part)).to_be_hidden()


def test_a_drained_node_and_one_that_has_gone_do_not_look_well(
    context: BrowserContext, tmp_path: Path, axe: str
) -> None:
    load = Load(1.0, 4, 3, 64, 2, {}, {}, (0,) * (len(WAIT_BOUNDS_S) + 1))
    gone = Node("gone", ("execute",), connections=7, load=load)

    async def tell(config: Config, *, goes: bool) -> None:
        async with open_state(config, None) as state:
            await (state.nodes.withdraw(gone) if goes else state.nodes.announce(gone))

    given = json.dumps(by_key({"class": "all"}) | {"oidc": None})
    with (
        redis_server() as redis,
        serving(tmp_path / "data", redis__url=redis.url, node="one", accounts=given) as server,
    ):
        config = Config(data_dir=tmp_path, redis=RedisConfig(url=SecretStr(redis.url)))
        view = Overview(context.new_page(), f"http://127.0.0.1:{server.port}/").open()
        view.page.get_by_text("For administrators").click()
        give_key(view, key("admin"))
        rows = view.page.get_by_test_id("nodes").get_by_role("row")
        drain(server)
        expect(rows.filter(has_text="one")).to_contain_text("takes no morenotify, submit, ws")
        while rows.filter(has_text="gone").count() == 0:
            trio.run(partial(tell, config, goes=False))
            view.page.wait_for_timeout(200)
        trio.run(partial(tell, config, goes=True))
        expect(rows.filter(has_text="gone since")).to_contain_text("execute–––")
        states = view.page.locator(".health").evaluate_all("all => all.map(e => e.dataset.state)")
        assert states == ["bad", "drained"]
        view.assert_good(axe)


def test_others_see_neither_nodes_nor_dead_letters(
    context: BrowserContext, guarded: Server
) -> None:
    view = signed_in(context, guarded, "ada")
    view.expect("ready", "Programs run")
    view.expect("who", "Ada")
    for part in ("nodes", "letters", "sign-in"):
        expect(view.page.get_by_test_id(part)).to_be_hidden()
    assert view.complaints == []


def test_the_editor_leads_to_it_and_it_needs_little(editor: Editor) -> None:
    editor.page.locator("#run").focus()
    editor.page.keyboard.press("?")
    link = editor.page.get_by_role("link", name="Status of this server")
    with editor.page.expect_navigation():
        link.click()
    expect(editor.page.get_by_test_id("ready")).to_contain_text("Programs run")
    transferred = editor.page.evaluate(
        "performance.getEntriesByType('resource').filter(each => each.name.includes('/static/'))"
        ".reduce((sum, each) => sum + each.encodedBodySize, 0)"
    )
    assert 0 < transferred < 20_000
