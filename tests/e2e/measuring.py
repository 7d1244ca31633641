"""The time and memory that the page takes to open, to show a run, and to show a flood of output."""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from playwright.sync_api import Browser, CDPSession, Page, expect

from e2e.editor import PATIENCE_MS, Editor

WIDE = (1280, 800)

_PLAIN = "f'line {n} of a program that prints as fast as it can'"
_COLOURS = "''.join(f'\\x1b[38;5;{(n + i) % 256}mword{i} ' for i in range(8)) + '\\x1b[0m'"
FLOODS = {
    "with input": ("some\n", _PLAIN),
    "terminal": ("", _PLAIN),
    "terminal, 256 colours": ("", _COLOURS),
}
"""By name: the program's input, and its lines."""
_FLOOD = """\
import time
end, n, left = time.monotonic() + {seconds}, 0, {most}
while left > 0 and time.monotonic() < end:
    line = {line}
    print(line)
    left -= len(line) + 1
    n += 1
print('the end')
"""
_LIMITS = """limits => {
    const { send } = WebSocket.prototype
    WebSocket.prototype.send = function (data) {
        const frame = JSON.parse(data)
        if (frame.type === 'submit') Object.assign((frame.submission.limits ??= {}), limits)
        return send.call(this, JSON.stringify(frame))
    }
}"""
_COUNT = """
    window.came = 0;
    WebSocket = new Proxy(WebSocket, {
        construct(target, given) {
            const socket = Reflect.construct(target, given);
            socket.addEventListener('message', ({ data }) => (came += data.length));
            return socket;
        },
    });
"""
"""In the page: told by the devtools, each message would go through two more processes."""
_WATCH = """() => {
    window.longest = 0;
    new PerformanceObserver(list => {
        longest = Math.max(longest, ...list.getEntries().map(each => each.duration));
    }).observe({ type: 'longtask' });
}"""
_LONGEST = "() => new Promise(told => setTimeout(() => told(longest), 500))"
"""A browser tells of a task some time after it."""


@dataclass(frozen=True)
class Flood:
    took_s: float
    """From the key until all was shown."""
    received: int
    """Characters of messages."""
    longest_ms: float
    """The longest time that the page could not answer a key. A busy machine adds to it."""
    longest_cpu_ms: float
    """The most processor time that the page used without a pause."""
    heap: int
    """Bytes that JavaScript keeps when all has been shown."""
    nodes: int


def flood(
    browser: Browser, url: str, kind: str, *, seconds: float, most: int, raised: Mapping[str, float]
) -> Flood:
    """A program prints at full speed for so many seconds, or until so many bytes are written. `raised`:
    limits of the submission that are not the default ones."""
    given, line = FLOODS[kind]
    width, height = WIDE
    with browser.new_context(viewport={"width": width, "height": height}) as context:
        page = context.new_page()
        page.add_init_script(_COUNT)
        editor = Editor(page, url)
        editor.open()
        page.evaluate(_LIMITS, dict(raised))
        page.wait_for_function("() => document.querySelector('.xterm-rows') !== null")
        editor.give(given)
        editor.write(_FLOOD.format(seconds=seconds, most=most, line=line))
        devtools = context.new_cdp_session(page)
        devtools.send("Performance.enable")
        browser.start_tracing(page=page, categories=["toplevel"])
        page.evaluate(_WATCH)
        began = time.monotonic()
        page.keyboard.press("Control+Enter")
        expect(editor.part("verdict")).to_have_attribute(
            "data-tone", "good", timeout=1000 * seconds + 10 * PATIENCE_MS
        )
        _wait_shown(editor, given)
        took_s = time.monotonic() - began
        longest_cpu_ms = _longest_cpu_ms(browser.stop_tracing())
        longest_ms = page.evaluate(_LONGEST)
        devtools.send("HeapProfiler.collectGarbage")
        figures = _figures(devtools)
        return Flood(
            took_s,
            page.evaluate("came"),
            longest_ms,
            longest_cpu_ms,
            int(figures["JSHeapUsedSize"]),
            int(figures["Nodes"]),
        )


def _figures(devtools: CDPSession) -> dict[str, float]:
    return {
        each["name"]: each["value"] for each in devtools.send("Performance.getMetrics")["metrics"]
    }


def _wait_shown(editor: Editor, given: str) -> None:
    """The page may be behind with what it shows."""
    shown = "#output > div > :last-child" if given else ".xterm-rows"
    editor.page.wait_for_function(
        "where => document.querySelector(where)?.textContent.includes('the end')",
        arg=shown,
        polling=200,
        timeout=10 * PATIENCE_MS,
    )


def _longest_cpu_ms(trace: bytes) -> float:
    events = json.loads(trace)["traceEvents"]
    main = {
        (each["pid"], each["tid"])
        for each in events
        if each["name"] == "thread_name" and each["args"]["name"] == "CrRendererMain"
    }
    tasks = [
        each["tdur"] / 1e3
        for each in events
        if each["name"] == "ThreadControllerImpl::RunTask"
        and (each["pid"], each["tid"]) in main
        and "tdur" in each
    ]
    assert tasks
    return float(max(tasks))


@dataclass(frozen=True)
class Opening:
    """How a page opens that was never there before."""

    fetched: list[str]
    """The addresses of all that came before the program showed."""
    size: int
    """Their bytes on the wire, heads included."""
    trips: float
    """Round trips before the program shows, without those of the connection. A busy machine adds to it."""


def opening(browser: Browser, url: str, latency_s: float = 1.0) -> Opening:
    """`latency_s` is given to each request, far more than the page works for itself."""
    asked: dict[str, dict[str, Any]] = {}
    came: list[tuple[float, str, int]] = []

    def finished(event: dict[str, Any]) -> None:
        first = asked[event["requestId"]]
        at = first["wallTime"] + event["timestamp"] - first["timestamp"]
        came.append((at, first["request"]["url"], event["encodedDataLength"]))

    with _watched(browser) as (page, devtools):
        devtools.on(
            "Network.requestWillBeSent", lambda event: asked.update({event["requestId"]: event})
        )
        devtools.on("Network.loadingFinished", finished)
        devtools.send("Network.enable")
        slow = {"offline": False, "downloadThroughput": -1, "uploadThroughput": -1}
        devtools.send("Network.emulateNetworkConditions", slow | {"latency": 1000 * latency_s})
        page.goto(url, wait_until="commit")
        page.wait_for_function("() => window.opened?.ready", timeout=4 * PATIENCE_MS)
        shown_s, began_s = page.evaluate("[opened.shown / 1000, performance.timeOrigin / 1000]")
    first = [(url, size) for at, url, size in came if at <= began_s + shown_s]
    return Opening([url for url, _ in first], sum(size for _, size in first), shown_s / latency_s)


def ready_ms(browser: Browser, url: str, slower: float) -> float:
    """Milliseconds until a program can be edited and run, by a processor so many times slower."""
    with _watched(browser) as (page, devtools):
        devtools.send("Emulation.setCPUThrottlingRate", {"rate": slower})
        page.goto(url, wait_until="commit")
        page.wait_for_function("() => window.opened?.ready", timeout=4 * PATIENCE_MS)
        ready: float = page.evaluate("opened.ready")
        return ready


_OPENED = """
    window.opened = {};
    const look = () => {
        if (document.querySelector('.cm-line')?.textContent) opened.shown ??= performance.now();
        const language = document.querySelector('#language');
        if (opened.shown && language?.value && !language.disabled) opened.ready ??= performance.now();
        else requestAnimationFrame(look);
    };
    look();
"""


@contextmanager
def _watched(browser: Browser) -> Iterator[tuple[Page, CDPSession]]:
    width, height = WIDE
    with browser.new_context(viewport={"width": width, "height": height}) as context:
        page = context.new_page()
        page.add_init_script(_OPENED)
        yield page, context.new_cdp_session(page)


_HELLO = """() => {
    const terminal = document.querySelector('#terminal');
    const plain = document.querySelector('#output');
    const pane = () => terminal.hidden ? plain : terminal.querySelector('.xterm-rows');
    const text = () => pane()?.textContent.trim();
    const begin = key => new Promise(told => {
        const before = text();
        const seen = new MutationObserver(() => {
            if (!text()?.startsWith('Hello') || text() === before) return;
            told(performance.now() - key.timeStamp);
            seen.disconnect();
        });
        for (const each of [terminal, plain]) {
            seen.observe(each, { childList: true, subtree: true, characterData: true });
        }
    });
    addEventListener('keydown', key => {
        if (key.key === 'Enter') window.hello = begin(key);
    }, { capture: true });
}"""
"""Nothing here lays the page out or draws it, which would count as the page's own time."""


class Hello:
    """The page with a program that says hello, and the frame in which the page submits it."""

    def __init__(self, page: Page, url: str, source: str, given: str) -> None:
        self._page = page
        self._frames: list[dict[str, Any]] = []
        page.on("websocket", lambda socket: socket.on("framesent", self._sent))
        editor = Editor(page, url)
        editor.open()
        editor.give(given)
        editor.write(source)
        page.evaluate(_HELLO)

    def _sent(self, data: str | bytes) -> None:
        self._frames.append(json.loads(data))

    @property
    def frame(self) -> dict[str, Any]:
        """As that of the last run, for another one."""
        last = next(each for each in reversed(self._frames) if each["type"] == "submit")
        return {**last, "idempotency_key": uuid4().hex}

    def run(self) -> float:
        """Milliseconds from Ctrl-Enter to the first character in the document."""
        keyboard = self._page.keyboard
        keyboard.down("Control")
        # The editor has seen it, as when a person presses one key after the other.
        self._page.evaluate("() => new Promise(requestAnimationFrame)")
        keyboard.down("Enter")
        ms: float = self._page.evaluate("hello")
        keyboard.up("Enter")
        keyboard.up("Control")
        expect(self._page.get_by_test_id("verdict")).to_have_attribute("data-tone", "good")
        return ms
