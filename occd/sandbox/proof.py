"""The proof that a jail holds: init, run as a program in the jail, reports its view (`init.c`, `prove`)."""

import os
import re

_NAMESPACES = ("user", "mnt", "pid", "net", "ipc", "uts", "cgroup")


def unproven(told: str, uids: range | None) -> list[str]:
    """The claims of the isolation lines that do not hold. `uids` are the host's ids for jails, if jails have
    ids of their own."""
    facts = dict(re.findall(r"^(.+?):[ \t]*(.*)$", told, re.MULTILINE))
    wanted = {"Seccomp": "2", "NoNewPrivs": "1", "refused": "yes"}
    wanted |= {f"Cap{kind}": "0" * 16 for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb")}
    missing = [
        f"{name} is {facts.get(name, 'not told')}, not {value}"
        for name, value in wanted.items()
        if facts.get(name) != value
    ]
    missing += [
        f"no {name} namespace of its own"
        for name in _NAMESPACES
        if facts.get(name) in (None, os.readlink(f"/proc/self/ns/{name}"))
    ]
    if uids and int(facts.get("uid_map", "0 0").split()[1]) not in uids:
        missing.append(f"user ids are mapped {facts.get('uid_map')}")
    return missing
