"""Created keys (`occd/key.py`): how many state keeps, and for how long."""

KEYS_MAX = 10_000

EXPIRED_KEPT_S = 7 * 24 * 3600.0
"""A key that has expired is listed for this time, and may then be forgotten."""
