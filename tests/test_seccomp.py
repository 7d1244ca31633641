"""Both forms of the policy for system calls give the same answers, and the answers that the policy gives."""

import errno
import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from sandboxed import Lab
from syscalls import Call, answer, calls, in_a_jail, numbers, prober, read, tries, written, wrong

from occd.sandbox.profile import for_docker
from occd.sandbox.seccomp import policy

pytestmark = pytest.mark.skipif(
    platform.machine() != "x86_64", reason="system call numbers are those of x86-64"
)


async def test_real_calls_have_the_same_answers(lab: Lab, tmp_path: Path) -> None:
    """In a jail, and under Docker's profile as libseccomp loads it. tests/images has Docker itself."""
    program, tried = prober(tmp_path), calls()
    said = under_profile(program, tried, tmp_path)
    assert wrong(tried, await in_a_jail(lab, program, tried), read(said, tried)) == []


def under_profile(program: Path, tried: Sequence[Call], folder: Path) -> str:
    profile = folder / "profile.json"
    profile.write_text(for_docker())
    # No process has another's number there, as in a jail. Without a mapping nobody is root.
    apart = [
        "unshare",
        "--pid",
        "--fork",
        "--kill-child",
        *([] if os.geteuid() == 0 else ["--user"]),
    ]
    return subprocess.run(
        [*apart, sys.executable, Path(__file__).with_name("under_profile.py"), profile, program],
        input=written(tried), capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip


def test_one_branch_of_the_profile_fits_each_call_and_has_the_policys_answer() -> None:
    """Else it would be libseccomp's to choose."""
    entries = json.loads(for_docker())["syscalls"]
    conditional = {rule.call for rule in policy().rules}
    for name in conditional:
        branches = [entry for entry in entries if name in entry["names"]]
        for arguments in tries(name):
            found = [
                entry.get("errnoRet")
                for entry in branches
                if all(fits(test, arguments) for test in entry.get("args", ()))
            ]
            right = answer(name, arguments, "docker")
            assert found == ([right] if right != errno.EPERM else []), (name, arguments)


def fits(test: dict[str, Any], arguments: Sequence[int]) -> bool:
    value = arguments[test["index"]]
    match test["op"]:
        case "SCMP_CMP_MASKED_EQ":
            return bool(value & test["value"] == test["valueTwo"])
        case "SCMP_CMP_NE":
            return bool(value != test["value"])
    raise AssertionError(test)


def test_every_call_of_the_kernel_is_in_one_list() -> None:
    """So that none was forgotten: what is in no list is made in a jail, and absent in Docker."""
    rules = policy().rules
    refused = {rule.call for rule in rules}
    assert not refused & set(policy().made)
    assert len(set(policy().made)) == len(policy().made)
    assert numbers().keys() <= refused | set(policy().made)
    assert policy().numbers.keys() <= refused
