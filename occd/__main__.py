"""The program `occd`."""

import signal


def main() -> None:
    # We inherit the ignoring of SIGCHLD from our parent. The kernel would then forget how our children ended.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    # Imports take some tenths of a second. Ctrl-C during them ends the process, without a traceback.
    interruptible = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if interruptible:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from occd.cli import main as command_line

    if interruptible:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    command_line()


if __name__ == "__main__":
    main()
