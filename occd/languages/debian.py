"""Releases of Debian: some languages have their packages in a later one only."""

import platform

RELEASES = {"bookworm": 12, "trixie": 13}


def of_machine() -> int | None:
    """The release of this machine; None for one that is not Debian, or is between releases."""
    try:
        said = platform.freedesktop_os_release()
    except OSError:
        return None
    number = said.get("VERSION_ID", "")
    return int(number) if said["ID"] == "debian" and number.isdecimal() else None
