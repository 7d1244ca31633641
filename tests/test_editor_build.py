"""The built editor that is committed is what its sources make."""

import filecmp
import re
from pathlib import Path

import pytest
from editor_packages import install_packages, npm

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module", autouse=True)
def packages() -> None:
    install_packages()


def test_the_units_of_the_editor() -> None:
    npm("test")


def test_each_part_that_comes_later_tells_when_it_is_gone() -> None:
    later = re.compile(r"(?<!typeof )(\S*)\bimport\('")
    for source in (ROOT / "web/src").glob("*.ts"):
        for before in later.findall(source.read_text()):
            assert before.endswith("chunk("), source.name


def test_the_committed_editor_is_built_from_its_sources(tmp_path: Path) -> None:
    npm("run", "build", "--", "--out", str(tmp_path))
    built = {path.name for path in tmp_path.iterdir()}
    assert built == {path.name for path in (ROOT / "static").iterdir()}
    _, different, failed = filecmp.cmpfiles(ROOT / "static", tmp_path, built, shallow=False)
    assert not different, f"run `make web` and commit: {different}"
    assert not failed
