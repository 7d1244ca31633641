"""How much of the node's memory is in use."""

import resource
from pathlib import Path

import pytest

from occd.sandbox.memory import group_used, machine_used, memory_used

V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
V2 = ("memory.max", "memory.current", "inactive_file")


def group(folder: Path, names: tuple[str, str, str], limit: str, usage: int, cache: int) -> Path:
    (folder / names[0]).write_text(f"{limit}\n")
    (folder / names[1]).write_text(f"{usage}\n")
    (folder / "memory.stat").write_text(f"anon 1\n{names[2]} {cache}\nslab 2\n")
    return folder


def test_what_the_machine_can_take_back_is_not_in_use() -> None:
    meminfo = "MemTotal:  1000 kB\nMemFree:  100 kB\nMemAvailable:  700 kB\nHugePages_Total:  0\n"
    assert machine_used(meminfo) == pytest.approx(0.3)


@pytest.mark.parametrize("names", [V1, V2])
def test_a_group_is_full_when_its_programs_fill_it_and_not_its_cache(
    tmp_path: Path, names: tuple[str, str, str]
) -> None:
    assert group_used(group(tmp_path, names, "1000", 900, 400), *names) == pytest.approx(0.5)


def test_a_group_without_a_limit_has_no_share(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="max"):
        group_used(group(tmp_path, V2, "max", 900, 400), *V2)


def test_this_machine_has_a_share() -> None:
    assert 0 < memory_used() < 1


def test_without_a_free_descriptor_the_memory_counts_as_full() -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
    try:
        used = memory_used()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert used > 1
