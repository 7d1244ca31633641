"""How JSON leaves the server: compact, and without a lone surrogate whatever it was given."""

import json
from typing import Any


def dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
