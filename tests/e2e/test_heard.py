"""What a screen reader would say of a run: the page's live regions, with the times."""

from dataclasses import dataclass

from playwright.sync_api import Page, expect

from e2e.editor import Editor

LISTEN = """() => {
    window.heard = [];
    const live = '[aria-live=polite], [aria-live=assertive], [role=status], [role=alert], [role=log]';
    const spoken = each => each.closest('[hidden], [aria-hidden=true]') === null && each.checkVisibility();
    new MutationObserver(changes => {
        const regions = new Set(changes.map(({ target }) =>
            (target instanceof Element ? target : target.parentElement)?.closest(live)));
        for (const region of regions) {
            const text = region?.textContent.trim();
            if (text && spoken(region)) heard.push([performance.now(), region.id || region.className, text]);
        }
    }).observe(document.body, { childList: true, characterData: true, subtree: true });
}"""


BUSY = ("Sending", "Queued", "Starting", "Compiling", "Running")


@dataclass(frozen=True)
class Said:
    at_ms: float
    where: str
    text: str


class Listener:
    def __init__(self, page: Page) -> None:
        self._page = page
        # The page says so when it connects, which may be after it is ready.
        expect(page.get_by_test_id("status")).to_have_attribute("data-state", "up")
        page.evaluate(LISTEN)

    def all(self) -> list[Said]:
        return [Said(*each) for each in self._page.evaluate("heard")]

    def until(self, text: str) -> list[Said]:
        """What is said until something is with these words, and in the second after it."""
        self._page.wait_for_function(
            "text => heard.some(([, , said]) => said.includes(text))", arg=text
        )
        self._page.wait_for_timeout(1000)  # so long is listened whether more comes
        said = self.all()
        self._page.evaluate("() => { heard.length = 0 }")
        return said


def texts(said: list[Said]) -> list[str]:
    """Without what a run is at, which a slow machine makes the page say."""
    return [each.text for each in said if each.text not in BUSY]


def test_a_run_that_ends_at_once_is_one_sentence_with_the_last_line(editor: Editor) -> None:
    listener = Listener(editor.page)
    editor.run("print('one'); print('two')")
    assert texts(listener.until("two")) == ["Finished. 2 lines of output: two"]
    editor.run("print(1 / 0)")
    (failed,) = texts(listener.until("ZeroDivisionError"))
    assert failed.startswith("ZeroDivisionError in line 1.")
    editor.choose("c")
    editor.run("int main(void) { return x; }")
    (wrong,) = texts(listener.until("compile"))
    assert wrong.startswith("Does not compile: line 1.")


def test_a_live_programs_prompts_are_heard_and_what_is_typed_is_not_said_twice(
    editor: Editor,
) -> None:
    listener = Listener(editor.page)
    editor.talk("print('hello', input('name? ')); print('so', input('more? '))")
    announced = [each for each in listener.until("name?") if each.where == "announce"]
    editor.type("you", "Enter")
    prompted = [each.text for each in listener.until("more?") if each.where != "announce"]
    assert any("hello you" in each for each in prompted)
    editor.type("on", "Enter")
    announced += [each for each in listener.until("Finished") if each.where == "announce"]
    assert texts(announced) == ["Finished. 4 lines of output: so on"]


def test_a_run_that_takes_its_time_is_said_to_run_after_a_second_and_no_sooner(
    editor: Editor,
) -> None:
    listener = Listener(editor.page)
    began = editor.page.evaluate("performance.now()")
    editor.give("some")
    editor.run("import time; time.sleep(3); print('done')")
    said = listener.until("done")
    assert texts(said) == ["Finished. 1 line of output: done"]
    assert "Running" in [each.text for each in said]
    assert said[0].at_ms - began >= 1000
