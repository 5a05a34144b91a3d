"""Merging and subtracting reports, and asking their exits."""

import pytest
from hypothesis import given, settings
from report_samples import REPORTS, exit_row, sample

from minihv.errors import UsageError
from minihv.report.model import ExitReport, Exits, Report, SiteReport, Timeline


def _sums(e: ExitReport) -> ExitReport:
    """Without the shortest and longest times, which cannot be subtracted, and without sites."""
    return e._replace(min_ns=0, max_ns=0, sites=())


@settings(max_examples=40)
@given(REPORTS, REPORTS)
def test_what_was_merged_can_be_subtracted_again(a: Report, b: Report) -> None:
    both = a.merge(b)
    assert both.total_exits == a.total_exits + b.total_exits
    assert both.wall_ns == a.wall_ns + b.wall_ns
    left = both.subtract(b)
    assert {_sums(e) for e in left.exits} == {_sums(e) for e in a.exits}
    for e in a.exits:
        [mine] = [x for x in left.exits if x.kind == e.kind]
        assert set(mine.sites) == {s for s in e.sites if s.count}
    assert {n: v for n, v in left.kernel_counters.items() if v} == {
        n: v for n, v in a.kernel_counters.items() if v
    }
    assert {v for v in left.vcpus if any(v[1:])} == {v for v in a.vcpus if any(v[1:])}


@settings(max_examples=40)
@given(REPORTS, REPORTS)
def test_merging_does_not_care_who_comes_first(a: Report, b: Report) -> None:
    one, other = a.merge(b), b.merge(a)
    assert set(one.vcpus) == set(other.vcpus)
    assert one.kernel_counters == other.kernel_counters
    assert sorted(map(repr, one.exits.by("name"))) == sorted(map(repr, other.exits.by("name")))
    assert one.exits.sum_ns == other.exits.sum_ns
    assert one.exits.histogram == other.exits.histogram
    assert one.outcome.status == other.outcome.status


def test_merged_sites_are_added_up_by_place() -> None:
    a = sample(exits=Exits([exit_row(sites=(SiteReport(1, "f", 3, 30), SiteReport(2, "g", 5, 50)))]))
    b = sample(exits=Exits([exit_row(sites=(SiteReport(1, "f", 4, 40),))]))
    assert a.merge(b).exits[0].sites == (SiteReport(1, "f", 7, 70), SiteReport(2, "g", 5, 50))


def test_texts_that_differ_are_joined_or_left_out() -> None:
    a, b = sample("a"), sample("b", engine="interpret")
    both = a.merge(b)
    assert both.engine == "kvm + interpret"
    assert both.command == "minihv run a; minihv run b"
    assert "name" not in both.guest
    assert both.guest["cpus"] == 2
    assert both.outcome.detail == "a; b"
    assert a.merge(a).engine == "kvm"


def test_timelines_are_laid_over_each_other_at_the_coarser_scale() -> None:
    a = sample(timeline=Timeline(1 << 14, {"io": (1, 2, 3)}))
    b = sample(timeline=Timeline(1 << 15, {"io": (10,), "hlt": (7,)}))
    assert a.merge(b).timeline == Timeline(1 << 15, {"io": (13, 3), "hlt": (7, 0)})
    assert b.merge(a).timeline == Timeline(1 << 15, {"io": (13, 3), "hlt": (7, 0)})
    assert a.merge(sample(timeline=None)).timeline is None
    assert a.merge(sample(timeline=Timeline(3, {"io": (1,)}))).timeline is None
    long = sample(timeline=Timeline(1, {"io": (1,) * 450}))
    merged = long.merge(long).timeline
    assert merged is not None
    assert (merged.bucket_ns, len(merged.exits["io"]), sum(merged.exits["io"])) == (4, 113, 900)


def test_kernel_exits_are_added_up() -> None:
    both = sample().merge(sample()).kernel_exits
    assert both is not None
    assert (both.total, both.recorded, both.lost, both.reasons[0].count) == (80, 62, 18, 60)
    assert both.reasons[0].sites[0].count == 60


@pytest.mark.parametrize(
    ("more", "tells"),
    [
        (sample(wall_ns=2_000_001), "more wall_ns (2000001 against 2000000)"),
        (sample(exits=Exits([exit_row(buckets={10: 20, 14: 3})])), "more io out 0x3f8 byte serial.THR"),
        (sample(exits=Exits([exit_row("msr")])), "exits that this run does not have (msr out"),
        (sample(kernel_counters={"exits": 32}), "more exits (32 against 31)"),
    ],
)
def test_more_cannot_be_taken_than_there_is(more: Report, tells: str) -> None:
    with pytest.raises(UsageError) as caught:
        sample().subtract(more)
    assert tells in str(caught.value)


# Asking exits


def test_exits_filter_and_group_in_one_line() -> None:
    exits = sample().exits
    assert isinstance(exits, tuple)
    assert {k: g.total for k, g in exits.where(name="io").by("register").items()} == {"serial.THR": 22}
    assert list(exits.by("name")) == ["io", "mmio", "hlt"]
    assert exits.where(device="ioapic").total == 4
    assert exits.where(address=lambda a: a is not None and a > 0x1000)[0].name == "mmio"
    assert exits.where(name="io", direction="in") == ()
    assert isinstance(exits.where(name="io"), Exits)
    with pytest.raises(AttributeError):
        exits.where(colour="red")


def test_exits_add_up() -> None:
    exits = sample().exits
    assert exits.total == 27
    assert exits.sum_ns == 27_000
    assert (exits.min_ns, exits.max_ns) == (8, 1 << 20)
    assert exits.histogram[9:15] == (1, 20, 4, 0, 0, 2)
    assert exits.percentile(0.5) == 1023
    assert [site.count for site, _ in exits.sites] == [22, 1]
    nothing = Exits()
    assert (nothing.total, nothing.sum_ns, nothing.min_ns, nothing.max_ns) == (0, 0, 0, 0)
    assert nothing.percentile(0.99) == 0
    assert nothing.by("name") == {}


def test_a_report_stays_frozen_plain_data_whatever_its_exits_came_as() -> None:
    rows = [exit_row(), exit_row("hlt", "", None, 0, "")]
    report = sample(exits=rows)
    assert isinstance(report.exits, Exits)
    assert report == sample(exits=tuple(rows))
    assert isinstance(Report(*report).exits, Exits)
    assert report.count("io", register="serial.THR") == 1
    with pytest.raises(AttributeError):
        report.wall_ns = 3  # type: ignore[misc]
