"""Counting: quantiles, bounded sites, and merging what several vCPUs counted."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minihv.interfaces import ExactSite
from minihv.report.model import merge_counters
from minihv.stats import BUCKETS, MAX_SITES, Counter, SiteInfo, VcpuStats, percentile


def counter(info: SiteInfo, *times: int) -> Counter:
    made = Counter(info)
    for ns in times:
        made.add(ns)
    return made


def test_a_counter_keeps_sum_extremes_and_histogram() -> None:
    c = counter(SiteInfo("io"), 0, 1, 5, 1000)
    assert (c.count, c.sum_ns, c.min_ns, c.max_ns) == (4, 1006, 0, 1000)
    assert {bucket: n for bucket, n in enumerate(c.histogram) if n} == {0: 1, 1: 1, 3: 1, 10: 1}


def test_percentile_of_nothing_is_zero() -> None:
    assert percentile([0] * BUCKETS, 0.5) == 0


@pytest.mark.parametrize(
    ("share", "expected"), [(0.0, 1), (0.5, 1), (0.98, 1), (0.99, 1), (0.991, 1023), (1.0, 1023)]
)
def test_percentile_is_the_upper_bound_of_its_bucket(share: float, expected: int) -> None:
    histogram = [0] * BUCKETS
    histogram[1], histogram[10] = 99, 1
    assert percentile(histogram, share) == expected


@given(st.lists(st.integers(0, 1 << 40), min_size=1, max_size=200), st.sampled_from([0.5, 0.9, 0.99, 1.0]))
def test_percentile_bounds_the_true_quantile(times: list[int], share: float) -> None:
    c = counter(SiteInfo("io"), *times)
    rank = max(1, -int(-share * len(times) // 1))
    true = sorted(times)[rank - 1]
    found = percentile(c.histogram, share)
    assert true <= found
    assert found <= max(2 * true, 0)


def test_sites_are_bounded_and_nothing_is_lost() -> None:
    stats = VcpuStats(0)
    for n in range(MAX_SITES + 500):
        stats.open(SiteInfo("io", "out", n, 1, "x", ExactSite(n))).add(10)
        stats.open(SiteInfo("mmio", "read", n, 4, "y", ExactSite(n))).add(10)
    assert stats.full
    assert len(stats.counters) <= MAX_SITES + 2
    assert sum(c.count for c in stats.counters) == 2 * (MAX_SITES + 500)
    others = [e for e in merge_counters(stats.counters) if e.register == "(other sites)"]
    assert sorted(e.name for e in others) == ["io", "mmio"]


def test_the_same_exit_of_several_vcpus_is_one_row_with_its_sites_added_up() -> None:
    def out(port: int, rip: int) -> SiteInfo:
        return SiteInfo("io", "out", port, 1, "serial.THR", ExactSite(rip))

    merged = merge_counters(
        [
            counter(out(0x3F8, 0x100), 5, 7),
            counter(out(0x3F8, 0x200), 1),
            counter(out(0x3F8, 0x200), 100),
            counter(out(0x3F8, 0x200), 3),
            counter(out(0x80, 0x300), 9),
            counter(SiteInfo("hlt"), 4, 4, 4, 4, 4, 4),
            Counter(SiteInfo("debug")),
        ]
    )
    assert [(e.name, e.address, e.count) for e in merged] == [
        ("hlt", None, 6), ("io", 0x3F8, 5), ("io", 0x80, 1),
    ]  # fmt: skip
    serial = merged[1]
    assert (serial.sum_ns, serial.min_ns, serial.max_ns) == (116, 1, 100)
    assert [(s.address, s.count, s.sum_ns) for s in serial.sites] == [(0x200, 3, 104), (0x100, 2, 12)]


def test_port_0_and_no_port_are_told_apart() -> None:
    merged = merge_counters(
        [counter(SiteInfo("io", "out", 0, 1), 1), counter(SiteInfo("io", "out", None, 1), 1)]
    )
    assert len(merged) == 2


def test_an_exit_handled_in_no_time_is_counted() -> None:
    [exit] = merge_counters([counter(SiteInfo("io"), 0)])
    assert (exit.count, exit.min_ns, exit.max_ns, exit.percentile(0.99)) == (1, 0, 0, 0)
