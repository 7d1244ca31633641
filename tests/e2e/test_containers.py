"""The page of a daemon that runs programs in Docker's containers."""

from collections.abc import Iterator

import pytest
from everywhere import at, serving_at
from serving import Server

from e2e.editor import ASKS, Editor
from occd.images.users import CONTAINER_USERS


@pytest.fixture(scope="module", params=at("docker"))
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """In place of the one for all tests of the page."""
    folder = tmp_path_factory.mktemp("containers") / "data"
    with serving_at(request, folder, request.param) as server:
        yield server


def test_a_program_is_run_answered_and_stopped_in_a_container(editor: Editor) -> None:
    editor.run(f"import os; print(os.getuid() in {CONTAINER_USERS}, os.getcwd(), input())")
    editor.expect_verdict("good")
    editor.expect_whole_output("True /box some input\n")

    editor.talk(ASKS)
    editor.expect_terminal("name?")
    editor.type("yuo", "Backspace", "Backspace", "ou", "Enter")
    editor.expect_terminal("name? you", "hello you")
    editor.type("Control+d")
    editor.expect_verdict("good")
    editor.expect_terminal("name? you", "hello you", "bye")

    editor.talk("import time; print('up'); time.sleep(600)")
    editor.wait_terminal("up")
    editor.type("Control+c")
    editor.expect_verdict("stopped", "Ended by Ctrl-C")

    editor.give("some input\n")
    editor.allow_long_runs()
    editor.run("import time; print('before', flush=True); time.sleep(600)")
    editor.expect_output("before")
    editor.stop()
    editor.expect_verdict("stopped")
    editor.expect_whole_output("before\n")

    editor.choose("c")
    editor.run("int main(void) { return }")
    editor.expect_verdict("bad", "ompile")
    editor.run('#include <stdio.h>\nint main(void) { puts("fine"); }')
    editor.expect_verdict("good")
    editor.expect_whole_output("fine\n")
