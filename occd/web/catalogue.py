"""The answer to `GET /languages`. It is long, takes 6 ms of the loop, and seldom changes."""

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from occd.config import Config
from occd.languages.installed import Offer
from occd.web.json import dump
from occd.web.schema import brief as in_brief
from occd.web.schema import ceilings_json, language_json


@dataclass(frozen=True, slots=True)
class Told:
    body: bytes
    etag: str
    """Without quotes."""


class Catalogue:
    """Callers of one class get the same, until the offers change."""

    def __init__(self, config: Config, offered: Callable[[], Awaitable[Sequence[Offer]]]) -> None:
        """`offered` gives the same object until the offers change."""
        self._config = config
        self._offered = offered
        self._of: Sequence[Offer] | None = None
        self._told: dict[tuple[str | None, bool], Told] = {}

    async def told(self, class_name: str | None, *, brief: bool) -> Told:
        offers = await self._offered()
        if offers is not self._of:
            self._of, self._told = offers, {}
        key = class_name, brief
        if key not in self._told:
            self._told[key] = self._build(offers, class_name, brief=brief)
        return self._told[key]

    def _build(self, offers: Sequence[Offer], class_name: str | None, *, brief: bool) -> Told:
        ceilings = ceilings_json(self._config, class_name)
        traces = self._config.traces(class_name)
        offered = [language_json(each, ceilings, traces=traces) for each in offers]
        if brief:
            offered = [in_brief(each) for each in offered]
        body = dump({"languages": offered}).encode()
        return Told(body, hashlib.sha256(body).hexdigest()[:32])
