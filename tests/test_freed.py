"""What clients and programs sent is freed when nobody needs it any more. The collector of cycles would free
it after hours (`_tune_collector` in occd/app.py), so nothing long may lie in a cycle."""

from collections.abc import Callable
from pathlib import Path

import pytest
from serving import Server, serving

MIB = 2**20


def long_stdin(server: Server) -> None:
    assert server.run("", stdin="x" * (8 * MIB))["verdict"] == "ok"


def long_checked_output(server: Server) -> None:
    source = f"print('1 ' * {4 * MIB})"
    tests = [{"expected_stdout": ""}]
    result = server.run(source, tests=tests, limits={"output": 16 * MIB})
    assert result["verdict"] == "wrong_answer"


@pytest.mark.parametrize("use", [long_stdin, long_checked_output])
def test_a_daemon_does_not_grow_with_what_is_over(
    tmp_path: Path, use: Callable[[Server], None]
) -> None:
    with serving(tmp_path / "data") as server:
        for _ in range(5):  # the allocator keeps some of what was freed
            use(server)
        before = server.resident
        for _ in range(10):
            use(server)
        assert server.resident - before < 5 * 8 * MIB
