"""The unit of packaging/systemd, in a virtual machine whose first process is systemd (Debian 12's)."""

from pathlib import Path

import machine
import pytest
from test_cgroup_v2 import PYTEST
from vm_image import open_image

_TIMEOUT_S = 1800  # a fifth of it on a quiet machine
_TESTS = f"{PYTEST} -q --color=no --durations=5 /job/tests/vm/guest_unit.py"
_INSTALL_ROOT = (
    "install -D -m 644 /job/packaging/systemd/root.conf -t /etc/systemd/system/occd.service.d"
)

pytestmark = [pytest.mark.long, pytest.mark.timeout(_TIMEOUT_S + 200)]


@pytest.mark.parametrize("command", [_TESTS, f"{_INSTALL_ROOT}; {_TESTS}"], ids=["user", "root"])
def test_the_unit(command: str, tmp_path: Path) -> None:
    machine.make_job(tmp_path)
    finished = machine.run(open_image(), tmp_path, command, _TIMEOUT_S, systemd=True)
    print(finished.output)
    assert finished.status == 0
