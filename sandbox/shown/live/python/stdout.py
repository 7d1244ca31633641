"""Output seen as it is printed, at the price of buffered output. (PYTHONUNBUFFERED costs ten times as much.)

live.pth runs this at each start: PYTHONUSERBASE names the folder. (An import would cost a millisecond.) Each
write to stdout is flushed at once, until a flood has used up the credit. Then flood.py is read, a file of its
own because each line costs at the start of each program. `here` is this folder.
"""

import sys
from time import monotonic

MOST, EARNED_IN_S = 200, 0.0002
flooded = over = False
credit, earned_until = MOST, 0.0


def write(data):
    global credit, earned_until
    size = into_buffer(data)
    if not flooded:
        flush()
        credit -= 1
        if credit < 0:
            now = monotonic()
            credit = min(MOST, (now - earned_until) // EARNED_IN_S)
            earned_until = now
            if credit < 1 and not over:
                gather()
    return size


def pass_on():
    """Let each part of a print come to `write`, which is an attribute of this one buffer."""
    global flooded
    flooded = False
    stdout.write = write
    try:
        text.reconfigure(write_through=True)
        text.flush()
    except (OSError, ValueError):
        pass  # it is closed, or the next print tells


def gather():
    with open(here + "/flood.py") as file:
        exec(file.read(), globals())
    gather()


def finish():
    global over
    over = True
    stop()
    vars(stdout).pop("write", None)


def stop():
    pass


text = sys.stdout
stdout = getattr(text, "buffer", None)
if hasattr(stdout, "raw") and not text.isatty():
    import atexit

    into_buffer, flush = stdout.write, stdout.flush
    atexit.register(finish)
    pass_on()
