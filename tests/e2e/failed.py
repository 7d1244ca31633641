"""A picture of each page when a test fails."""

import os
import re
from contextlib import suppress
from pathlib import Path

from playwright.sync_api import BrowserContext, Error

FOLDER = Path(__file__).parent.parent.parent / "failed"
_MOST_MS = 5_000


def take_pictures(context: BrowserContext) -> None:
    """One of each page, named after the test. Where they lie is printed, and so stands beside the failure."""
    test = os.environ["PYTEST_CURRENT_TEST"].rpartition("/")[2].rpartition(" ")[0]
    name = re.sub(r"[^\w.-]+", "-", test)[:150]
    for number, page in enumerate(context.pages, 1):
        path = FOLDER / f"{name}-{number}.png"
        with suppress(Error):  # of a page that has crashed there is none
            page.screenshot(path=path, timeout=_MOST_MS)
            print("The page is shown in", path)
