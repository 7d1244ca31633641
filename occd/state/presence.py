"""Presence: which subjects somebody follows now, so that a program that waits for somebody who has left can
end."""

RENEW_S = 15.0
"""Who has followers tells so once in this time."""

PRESENT_S = 75.0
"""What was told is believed for this time: a minute beyond a last word that came in time."""
