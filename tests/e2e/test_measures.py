"""The page opens fast, and no flood of output holds it up or fills it. `make bench-page` has the figures."""

import pytest
from playwright.sync_api import Browser
from serving import Server

from e2e.measuring import FLOODS, flood, opening


def test_the_first_view_is_small_and_three_round_trips_away(
    browser: Browser, server: Server
) -> None:
    for _ in range(3):
        first = opening(browser, f"http://127.0.0.1:{server.port}/")
        assert len(first.fetched) >= 5
        assert not [each for each in first.fetched if "terminal.js" in each]
        assert 50_000 < first.size < 200_000, first.fetched
        if first.trips < 4:
            return
    raise AssertionError(first)


@pytest.mark.parametrize("kind", FLOODS)
def test_a_flood_of_output_holds_the_page_up_for_no_moment_and_is_kept_once(
    browser: Browser, server: Server, kind: str
) -> None:
    url = f"http://127.0.0.1:{server.port}/"
    told = flood(browser, url, kind, seconds=60, most=8_000_000, raised={"output": 2**24})
    assert told.received > 8_000_000
    assert told.longest_cpu_ms < 250
    assert told.heap < 20_000_000 + 3 * told.received
    assert told.nodes < 50_000
