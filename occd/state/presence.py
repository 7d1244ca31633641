"""Presence: which subjects somebody follows now, so that a program that waits for somebody who has left can
end."""

RENEW_S = 15.0
"""A process with followers tells state of them once in this time."""

PRESENT_S = 60.0
"""State believes in a follower for this time. An attempt asks twice, 20 s apart, before it ends its program:
a minute at least after the last follower has left."""
