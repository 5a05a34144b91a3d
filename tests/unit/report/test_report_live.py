"""What top shows: rates between samples, order, bars, sparklines, lines; nothing a terminal would obey."""

import pytest

from minihv.report.live import (
    EMPTY,
    Sample,
    SiteCount,
    bar,
    console_tail,
    line,
    ordered,
    per_second,
    spark,
    view,
)

SECOND = 1_000_000_000
BEFORE = Sample(
    1 * SECOND,
    (SiteCount(1, "io", "out 0x3f8", "print", 100, 1000), SiteCount(2, "mmio", "read", "poll", 50, 9000)),
    (SECOND // 10,),
)
NOW = Sample(
    3 * SECOND,
    (
        SiteCount(1, "io", "out 0x3f8", "print", 110, 2000),
        SiteCount(2, "mmio", "read", "poll", 450, 9900),
        SiteCount(3, "io", "in 0x3fd", "wait", 20, 100),
    ),
    (SECOND // 2,),
)


def test_rates_are_those_of_the_window() -> None:
    found = view(BEFORE, NOW)
    assert found.seconds == 3.0
    assert found.total == 580
    assert found.rate == 215.0
    assert [(row.name, row.rate, row.exits) for row in found.kinds] == [
        ("mmio", 200.0, 450),
        ("io", 15.0, 130),
    ]
    assert [(row.where, row.rate) for row in found.sites] == [("poll", 200.0), ("wait", 10.0), ("print", 5.0)]
    assert found.shares == (0.2,)


def test_the_first_window_begins_at_the_start() -> None:
    found = view(EMPTY, NOW)
    assert found.rate == pytest.approx(580 / 3)
    assert found.shares == pytest.approx((1 / 6,))


@pytest.mark.parametrize(
    ("sort", "order"),
    [
        ("rate", ["poll", "wait", "print"]),
        ("total", ["poll", "print", "wait"]),
        ("time", ["poll", "print", "wait"]),
    ],
)
def test_order(sort: str, order: list[str]) -> None:
    assert [row.where for row in ordered(view(BEFORE, NOW).sites, sort)] == order


def test_no_time_at_all_is_no_division_by_nothing() -> None:
    assert view(NOW, NOW).rate == 0


def test_sparkline() -> None:
    assert spark([0, 1, 8, 4]) == " ▁█▄"
    assert spark([0, 0]) == "  "
    assert spark([]) == ""


@pytest.mark.parametrize(
    ("share", "text"), [(0, "...."), (0.5, "##.."), (1, "####"), (7, "####"), (-1, "....")]
)
def test_bar(share: float, text: str) -> None:
    assert bar(share, 4) == text


@pytest.mark.parametrize(("rate", "text"), [(0, "0"), (999, "999"), (1500, "1.5k"), (2_500_000, "2.5M")])
def test_rates_in_words(rate: float, text: str) -> None:
    assert per_second(rate) == text


def test_a_line() -> None:
    assert line(view(BEFORE, NOW)) == (
        "    3.00s     215 exits/s (mmio 200 io 15), 580 so far, VMM 20 %, hottest: mmio read at poll"
    )
    assert line(view(NOW, NOW)).endswith("(none), 580 so far, VMM 0 %")


def test_a_guest_cannot_write_to_the_terminal() -> None:
    assert console_tail(b"one\r\ntwo \x1b[2Jthree\n", 5, 80) == ["one", r"two \x1b[2Jthree"]
    evil = Sample(SECOND, (SiteCount(1, "io", "out", "sym\x1b[31m", 1, 1),), (0,))
    assert "\x1b" not in line(view(EMPTY, evil))


def test_only_the_end_of_a_console() -> None:
    assert console_tail(b"a\nb\nc\nd\n", 2, 80) == ["c", "d"]
    assert console_tail(b"x" * 100, 2, 10) == ["x" * 10]
    assert console_tail(b"", 3, 80) == [""]
