"""How quotas are told: in JSON, and as the headers of draft-ietf-httpapi-ratelimit-headers-11."""

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

from occd.quotas import Quota, whole_seconds
from occd.web.schema import timestamp

_UNITS = {"unfinished": ';qu="concurrent-requests"', "runs_per_minute": ""}
"""The quotas for which the draft has a unit. "requests" is the unit where none is named."""


def quota_json(quota: Quota) -> dict[str, Any]:
    frees = quota.frees_in_s
    return {
        "limit": quota.limit,
        "left": round(quota.left, 6),
        "frees_at": None if frees is None else timestamp(time.time() + frees),
    }


def headers_of(quotas: Sequence[Quota]) -> Mapping[str, str]:
    """`RateLimit-Policy` and `RateLimit`; none where no quota can be told so."""
    told = [each for each in quotas if each.name in _UNITS]
    if not told:
        return {}
    return {
        "RateLimit-Policy": ", ".join(map(_policy, told)),
        "RateLimit": ", ".join(map(_limit, told)),
    }


def _policy(quota: Quota) -> str:
    window = f";w={quota.window_s:.0f}" if quota.window_s else ""
    return f'"{quota.name}";q={quota.limit:.0f}{_UNITS[quota.name]}{window}'


def _limit(quota: Quota) -> str:
    time = "" if quota.frees_in_s is None else f";t={whole_seconds(quota.frees_in_s)}"
    return f'"{quota.name}";r={max(0, math.floor(quota.left))}{time}'
