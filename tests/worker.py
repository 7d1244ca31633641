"""The start of a worker of pytest-xdist. As `python -c` would, but in mounts of its own: who is not root can
enter them only before there is a second thread, and execnet starts one first."""

import sys
from contextlib import suppress

from occd.sandbox import kernel

with suppress(OSError):  # what needs it will fail and say why
    kernel.enter_private_mounts()
exec(sys.argv[-1])
