"""The program in the one file."""

import os

# The stub's lock on the cache is for this process, not for its children.
if held := os.environ.pop("_OCCD_HOLDS", None):
    os.set_inheritable(int(held), False)
# PyInstaller found its libraries by these; children have their own.
for name in [each for each in os.environ if each.startswith("_PYI_")]:
    del os.environ[name]
theirs = os.environ.pop("LD_LIBRARY_PATH_ORIG", None)
os.environ.pop("LD_LIBRARY_PATH", None)
if theirs is not None:
    os.environ["LD_LIBRARY_PATH"] = theirs

from occd.__main__ import main  # noqa: E402

main()
