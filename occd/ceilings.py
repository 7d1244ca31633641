"""The limits of a request: none above its ceiling, and the defaults for those that it does not name."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from occd.accounts import ClassCeilings
from occd.config import CeilingConfig, Config
from occd.errors import FieldError, Rejected
from occd.model import Limits
from occd.rules import amount

LIMITS = tuple(
    name for name in CeilingConfig.model_fields if name not in ("total_time", "interactive_s")
)
"""The limits that a request may name."""

_IDLE_S = 300.0
"""How long an interactive program waits for input, unless its client says otherwise."""


class Ceilings:
    """Those of the server, and those of a class instead of them."""

    def __init__(self, config: Config, of_class: ClassCeilings | None = None) -> None:
        lower = of_class.model_dump(exclude_none=True) if of_class else {}
        self._most = limits_by_name(config.ceilings) | lower
        self._caps: dict[str, float] = lower
        self._interactive_s = min(
            config.interactive_s, lower.get("wall_time", config.interactive_s)
        )

    def refuse_above(self, asked: Mapping[str, float], *, interactive: bool = False) -> None:
        """The refusal names each limit that is beyond its ceiling. An interactive program may run for as long
        as it may by default, and no ceiling is lower for it. Raises Rejected."""
        most = dict(self._most)
        if interactive:
            most["wall_time"] = max(most["wall_time"], self._interactive_s)
        errors = [
            FieldError(
                f"limits.{name}",
                f"{value} is above {self._whose(name)} ceiling of {amount(name, most[name])}",
            )
            for name, value in asked.items()
            if value > most[name]
        ]
        if errors:
            detail = "; ".join(f"{each.field}: {each.message}" for each in errors)
            raise Rejected("limit-above-ceiling", detail, errors)

    def _whose(self, name: str) -> str:
        return "your" if name in self._caps else "this server's"

    def lowered(self, default: Limits) -> Limits:
        """Limits that nobody asked for, where the class has lower ceilings."""
        return replace(default, **self._lower_than(default))

    def filled(self, asked: Mapping[str, Any], default: Limits) -> Limits:
        """Raises Rejected, and Broken for a value that no limit can have."""
        self.refuse_above(asked)
        return self._filled(asked, default)

    def filled_for_run(
        self,
        asked: Mapping[str, Any],
        default: Limits,
        *,
        tty: bool,
        interactive: bool,
        idles: bool,
    ) -> Limits:
        """A terminal may show as much as the ceiling allows, and an interactive program has time for its
        user, where the nodes know the limit on idle time (`idles`). Raises as `filled`."""
        self.refuse_above(asked, interactive=interactive)
        if tty:
            asked = {"output": self._most["output"]} | dict(asked)
        if interactive and "wall_time" not in asked and idles:
            idle = min(_IDLE_S, self._most["idle"])
            asked = {"wall_time": self._interactive_s, "idle": idle} | dict(asked)
        return self._filled(asked, default)

    def _filled(self, asked: Mapping[str, Any], default: Limits) -> Limits:
        lowered = self._lower_than(default)
        cpu_time = asked.get("cpu_time", lowered.get("cpu_time", default.cpu_time))
        wall_time = min(max(10.0, 2 * cpu_time), self._most["wall_time"])
        return replace(default, **{**lowered, "wall_time": wall_time, **asked})

    def _lower_than(self, default: Limits) -> dict[str, Any]:
        base = limits_by_name(default)
        return {name: most for name, most in self._caps.items() if base.get(name, 0) > most}


def limits_by_name(limits: Limits | CeilingConfig) -> dict[str, float]:
    """Those that a request may name, and that there are."""
    found = {name: getattr(limits, name) for name in LIMITS}
    return {name: value for name, value in found.items() if value is not None}
