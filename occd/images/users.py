"""The users of containers, each of which an image names: programs look for the user that they are."""

from occd.images import written

CONTAINER_USERS = range(60_706, 61_184)
"""Of the machine on which Docker's engine runs, which may be another one than ours. systemd's table of user
ids has nobody here, and an engine that maps users knows ids below 65,536 alone."""
AT_ONCE = len(CONTAINER_USERS) - 16
"""The most containers that one daemon has at once. The engine frees a name, and so its user, a moment after
it has said that the container is gone."""
_LINES = {
    "etc/passwd": "box:x:{id}:{id}:the program:/box:/bin/sh\n",
    "etc/group": "box:x:{id}:\n",
}


def naming() -> dict[str, str]:
    """The texts of the files that name them, by their paths in a root."""
    return {
        name: written()[f"/{name}"] + "".join(line.format(id=each) for each in CONTAINER_USERS)
        for name, line in _LINES.items()
    }
