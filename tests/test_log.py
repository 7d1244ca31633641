"""A stranger's text cannot forge a line of the log."""

from collections.abc import Iterator

import pytest
import structlog

from occd.log import set_up_logging


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    yield
    structlog.reset_defaults()


def test_hostile_text_stays_on_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging()
    hostile = "a\r\ntime=1 level=error event=forged\x1b[2J\x9b\u2028\ud800é"
    log = structlog.get_logger()
    log.warning("something", path=hostile)
    try:
        raise ValueError(hostile)
    except ValueError:
        log.exception("it failed", error=hostile)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split()[0][:5] for line in lines] == ["time="] * len(lines)
    assert len(lines) == 2
    for line in lines:
        assert line.isprintable()
        assert "\\r" in line
        assert "é" in line
