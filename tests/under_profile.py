"""Run as a program: PROFILE PROGRAM. Loads a seccomp profile of Docker as runc does, with libseccomp, and
becomes PROGRAM, as nobody where it was root."""

import ctypes
import errno
import json
import os
import sys
from typing import Any

_NOBODY = 65534
_ALLOW = 0x7FFF0000
_ERRNO = 0x00050000
_UNKNOWN = -1
_OPERATORS = {"NE": 1, "LT": 2, "LE": 3, "EQ": 4, "GE": 5, "GT": 6, "MASKED_EQ": 7}


class _Test(ctypes.Structure):
    _fields_ = (
        ("argument", ctypes.c_uint),
        ("operator", ctypes.c_int),
        ("one", ctypes.c_uint64),
        ("two", ctypes.c_uint64),
    )


def load(profile: dict[str, Any]) -> None:
    library = ctypes.CDLL("libseccomp.so.2")
    library.seccomp_init.restype = ctypes.c_void_p
    made = ctypes.c_void_p(library.seccomp_init(_ERRNO | profile["defaultErrnoRet"]))
    for entry in profile["syscalls"]:
        action = _ALLOW if entry["action"] == "SCMP_ACT_ALLOW" else _ERRNO | entry["errnoRet"]
        tests = [
            _Test(
                each["index"],
                _OPERATORS[each["op"].removeprefix("SCMP_CMP_")],
                each["value"],
                each["valueTwo"],
            )
            for each in entry.get("args", ())
        ]
        for name in entry["names"]:
            number = library.seccomp_syscall_resolve_name(name.encode())
            if number == _UNKNOWN:
                continue
            _check(
                library.seccomp_rule_add_array(
                    made, action, number, len(tests), (_Test * len(tests))(*tests)
                )
            )
    _check(library.seccomp_load(made))


def _check(result: int) -> None:
    if result != 0:
        raise OSError(-result, errno.errorcode[-result])


def main() -> None:
    with open(sys.argv[1]) as file:
        profile = json.load(file)
    program = os.open(sys.argv[2], os.O_RDONLY)
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(_NOBODY)
        os.setuid(_NOBODY)
    load(profile)
    os.execve(program, sys.argv[2:], {})


if __name__ == "__main__":
    main()
