"""Presence: which subjects somebody follows now, so that a program that waits for somebody who has left can
end."""

RENEW_S = 15.0
"""Who has followers tells so once in this time."""

PRESENT_S = 60.0
"""What was told is believed for this time. An attempt asks twice, 20 s apart, before it ends its program: a
minute at least after the last follower has left."""
