"""Run inside the virtual machine, which has an older kernel: what the sandbox promises about terminals."""

import pytest
from guest_limits import SLOW
from sandboxed import Lab
from terminals import python_at_terminal, shown_by


async def test_program_has_its_terminal_and_no_other(lab: Lab) -> None:
    source = """
        print(os.isatty(0), os.tcgetpgrp(0) == os.getpid(), os.ttyname(1), *os.get_terminal_size())
        tell(os.open, "/dev/ptmx", os.O_RDWR)
        for number in 0x5412, 0x5423: syscall(16, 0, number, bytes(4))
        """
    assert (
        await shown_by(lab, source, SLOW)
        == b"True True /dev/pts/0 80 24\n" + b"ENOSPC\n" + b"EPERM\n" * 2
    )


async def test_prompt_resize_and_ctrl_c(lab: Lab) -> None:
    source = """
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGWINCH})
        print("up", flush=True)
        signal.sigwait({signal.SIGWINCH})
        print(input("%d x %d? " % os.get_terminal_size()))
        time.sleep(600)
        """
    async with python_at_terminal(lab, source, SLOW) as screen:
        await screen.shows(b"up\r\n")
        screen.running.resize(50, 132)
        await screen.shows(b"132 x 50? ")
        await screen.type(b"typed\n")
        await screen.shows(b"typed\r\ntyped\r\n")
        await screen.type(b"\x1a\x03")
    assert screen.ending == (None, "SIGINT", None)


@pytest.mark.parametrize("end", ["os._exit(3)", "os.abort()"])
async def test_output_before_a_crash_is_whole(lab: Lab, end: str) -> None:
    source = f"block = bytes(range(32, 96)) * 1024\nfor _ in range(15): os.write(1, block)\n{end}"
    for _ in range(3):
        async with python_at_terminal(lab, source, SLOW) as screen:
            pass
        assert screen.shown == bytes(range(32, 96)) * 1024 * 15, screen.end


async def test_lines_that_are_pasted_arrive_whole(lab: Lab) -> None:
    """And what nobody reads does not hold the end up."""
    source = "os.system('stty -echo'); print('up', flush=True); print(len(sys.stdin.read()))"
    async with python_at_terminal(lab, source, SLOW) as screen:
        await screen.shows(b"up\r\n")
        await screen.type(b"0123456\n" * 20_000)
        screen.keyboard.close()
    assert screen.shown == b"up\r\n160000\r\n", screen.end
    async with python_at_terminal(lab, "input()", SLOW) as screen:
        await screen.type(b"0123456\n" * 20_000)
    assert screen.end.succeeded
