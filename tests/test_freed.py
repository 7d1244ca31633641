"""What a client sent is freed when nobody needs it any more. The collector of cycles would free it after
hours (`_tune_collector` in occd/app.py), so nothing long may lie in a cycle."""

from pathlib import Path

from serving import serving

SENT = 8 * 2**20


def test_a_daemon_does_not_grow_with_what_it_was_sent(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as server:
        for _ in range(4):  # the allocator keeps some of what was freed
            server.run("", stdin="x" * SENT)
        before = server.resident
        for _ in range(6):
            server.run("", stdin="x" * SENT)
        assert server.resident - before < 3 * SENT
