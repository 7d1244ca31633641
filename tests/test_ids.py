"""The host's user ids that jails are given are nobody else's (`occd/sandbox/ids.py`)."""

from hypothesis import given
from hypothesis import strategies as st

from occd.sandbox.ids import SLOTS, choose

ALL = range(2**32 - 1)


def test_on_a_plain_machine_they_are_where_systemd_has_nobody() -> None:
    assert choose(ALL, []) == range(1_879_049_000, 1_879_050_000)
    assert 0x7000_0000 <= 1_879_049_000 < 1_879_050_000 <= 0x7FFD_FFFF


def test_in_a_container_of_few_ids_they_are_the_last_that_are_nobodys() -> None:
    assert choose(range(65_536), [range(65_534, 65_536)]) == range(64_000, 65_000)
    assert choose(range(65_536), [range(60_000, 65_536)]) == range(59_000, 60_000)
    assert choose(range(1), []) is None
    assert choose(range(65_536), [range(65_536)]) is None


@given(
    st.integers(1, 3_000_000),
    st.lists(st.builds(range, st.integers(0, 3_000_000), st.integers(0, 3_000_000)), max_size=5),
)
def test_they_are_mapped_and_nobodys(last: int, taken: list[range]) -> None:
    ids = choose(range(last), taken)
    if ids is not None:
        assert len(ids) == SLOTS
        assert 0 < ids.start < ids.stop <= last
        for each in filter(None, taken):
            assert each.stop <= ids.start or ids.stop <= each.start
        assert ids.start % SLOTS == 0  # two choices share no id
