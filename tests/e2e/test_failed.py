"""A test that fails leaves pictures of its pages."""

from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext

from e2e import failed
from e2e.conftest import pytest_pyfunc_call
from e2e.editor import PHONE, new_context


class Fault(Exception):
    pass


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(failed, "FOLDER", tmp_path / "failed")
    return tmp_path / "failed"


def test_of_pages_that_a_fixture_opened(
    context: BrowserContext,
    folder: Path,
    request: pytest.FixtureRequest,
    capsys: pytest.CaptureFixture[str],
) -> None:
    context.new_page()
    hook = pytest_pyfunc_call(request.node)
    next(hook)
    with pytest.raises(Fault):
        hook.throw(Fault())
    (picture,) = folder.iterdir()
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert request.node.name in picture.name
    assert str(picture) in capsys.readouterr().out


def test_of_pages_that_the_test_opened(browser: Browser, folder: Path) -> None:
    def fail() -> None:
        with new_context(browser, PHONE) as context:
            context.new_page()
            context.new_page()
            raise Fault

    with pytest.raises(Fault):
        fail()
    assert len(list(folder.iterdir())) == 2
