"""The part of stdout.py for floods, run there: stdout is buffered as usual for 10 ms, and a thread that lives
only then ends that. The thread goes before a fork, and before the end of the program."""

import os
import sys
from _thread import _count, allocate_lock, get_native_id, start_new_thread
from time import sleep

LEAST, BUFFERED_S = 16, 0.01
turn, wake, ended, thread = allocate_lock(), None, None, 0
watched = False


def gather():
    global ended, flooded, wake, watched
    if sys.version_info < (3, 12, 4) and _count() > watched:
        return  # the buffer of these, written to by several threads, loses and invents bytes
    if not turn.acquire(blocking=False):
        return
    try:
        if not watched:
            wake, ended = allocate_lock(), allocate_lock()
            wake.acquire()
            ended.acquire()
            try:
                start_new_thread(watch, (wake, ended))
                watched = True
            except RuntimeError:
                pass  # none may be started, so what follows is gathered as everywhere
        flooded = True
        del stdout.write
        text.reconfigure(write_through=False)
    except (AttributeError, OSError, ValueError):
        pass  # the program itself works on its stdout
    finally:
        turn.release()


def watch(wake, ended):
    global credit, thread, watched
    thread = get_native_id()
    stopped = False
    while not stopped:
        stopped = wake.acquire(timeout=BUFFERED_S)
        with turn:
            if flooded:
                credit = LEAST
                pass_on()
            else:
                stopped = True
            watched = not stopped
    ended.release()


def stop():
    if watched:
        wake.release()
        ended.acquire()
        for _ in range(100):  # Python warns of a fork while the kernel still knows the thread
            if not os.path.exists(f"/proc/self/task/{thread}"):
                break
            sleep(0.0001)


def forked():
    global turn, watched
    turn, watched = allocate_lock(), False
    if flooded:
        pass_on()


os.register_at_fork(before=stop, after_in_child=forked)
